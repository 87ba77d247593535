"""Records whose labels have names: where they are looked for, and what they become in eV and angstrom.

Names, in any case, where no key is set (`energy_key` and so on):

- energy: energy, alone or after ref_ or dft_; free_energy if none of them is there. Total, of all atoms.
- forces: force or forces, alone or after ref_ or dft_: -dE/dx; else gradient or gradients: +dE/dx, negated, as is what
  a `forces_key` with `grad` in its name finds.
- stress: stress, alone or after ref_ or dft_: positive under tension (ASE's sign; VASP's is the opposite, which
  `stress_unit=-kbar` says). virial or virials: -stress times volume, a unit of energy, as GPUMD, DeePMD-kit and QUIP
  have it; where both are there, they must agree. Nine numbers are rows of a matrix, six are xx, yy, zz, yz, xz, xy
  (Voigt). All NaN: not there.
- charge: charge or total_charge, in e. spin: spin, multiplicity or spin_multiplicity, 2 S + 1 (OMol25); 0 is unknown.

A reader names the sections of a record in the order in which they are searched (calculator, key-value pairs, data);
the first that holds a name counts. Several names in one section that disagree are no label: only the author knows.
What is there under a name that looks like that of a missing label is not passed over either: the record is rejected,
and its keys are named.

Units: those of the settings; else those that the record's file states; else those of its layout. A setting that
contradicts the file ends the preparation. Energies in a stated unit other than eV do not say that of the forces.

Source: https://ase-lib.org (stress); https://gpumd.org, train.xyz (virial, eV); dpdata, quip/gap/xyz (unit keys).
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np

from scaling.data.elements import reduced_formula
from scaling.data.formats import units
from scaling.data.manifest import Rejected
from scaling.data.source import FileSource, one_line
from scaling.errors import ConfigError, DataError
from scaling.structure import FloatArray, IntArray, Structure

Sections = Mapping[str, Mapping[str, Any]]
_PREFIX = r"(ref_|dft_)?"
#: Tried one after the other in every section.
NAMES: dict[str, tuple[str, ...]] = {
    "energy": (rf"{_PREFIX}energy", "free_energy"),
    "forces": (rf"{_PREFIX}forces?", rf"{_PREFIX}gradients?"),
    "stress": (rf"{_PREFIX}stress",),
    "virial": (rf"{_PREFIX}virials?",),
    "charge": ("charge|total_charge",),
    "spin": ("spin|multiplicity|spin_multiplicity",),
}
#: What a name contains that looks like a label's.
_LIKE = {"energy": r"energ|^e$|toten|^u0$", "forces": r"forc|grad", "stress": r"stress|virial"}
_MOST_KEYS = 12
_RELATIVE = 1e-4  # that two statements of one unit may differ by
#: That stress and virial of one record may differ by, as they are printed.
_STRESS_RELATIVE, _STRESS_EV_PER_ANG3 = 1e-3, 1e-5
_READERS: dict[str, tuple[Callable[[str], float], Mapping[str, float]]] = {
    "energy": (units.energy_unit_ev, units.ENERGY_UNITS_EV),
    "forces": (units.force_unit_ev_per_ang, units.FORCE_UNITS_EV_PER_ANG),
    "stress": (units.stress_unit_ev_per_ang3, units.STRESS_UNITS_EV_PER_ANG3),
    "virial": (units.energy_unit_ev, units.ENERGY_UNITS_EV),
    "length": (units.length_unit_ang, units.LENGTH_UNITS_ANG),
}


@dataclass(frozen=True)
class Record:
    """One record in the units of its file.

    numbers (N,), positions (N, 3), cell (3, 3) rows, pbc (3,).
    sections: where labels may be, by name, in the order in which they are searched. arrays: names of the sections
        that hold values of each atom, where of the labels forces alone are looked for.
    group: where the settings do not name a key.
    stated: units the file states, by quantity or name of the label: the key it is stated by, and the text.
    layout: units that the format has as published, by quantity; where it names none, eV and angstrom.
    """

    label: str
    numbers: IntArray
    positions: FloatArray
    cell: FloatArray
    pbc: np.ndarray[Any, np.dtype[np.bool_]]
    sections: Sections
    arrays: tuple[str, ...] = ()
    group: str = ""
    stated: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    layout: Mapping[str, str] = field(default_factory=dict)
    holdout: str = ""

    def places(self, what: str) -> Sections:
        """Where a label is looked for."""
        of_atoms = what == "forces"
        return {name: section for name, section in self.sections.items() if of_atoms or name not in self.arrays}


class Missing(Exception):
    """A label that is not found where it should be: reason and detail of a rejection."""


@dataclass(frozen=True)
class KeyedSource(FileSource):
    """Settings of every reader of such records.

    energy_key, forces_key, stress_key: what the labels are called in the file; "": the usual names.
    group_key: names the group, among all that the record holds; "": as the reader says.
    energy_unit: eV, meV, Hartree, Rydberg, kcal/mol, kJ/mol or cm^-1; "": what the file states, else eV.
    force_unit: one of these over Ang, Bohr or nm; "": what the file states, else energy_unit over Ang.
    stress_unit: eV/Ang^3, Hartree/Bohr^3, kcal/mol/Ang^3, GPa, kbar or bar, with a minus where pressure is positive
        (VASP: -kbar); "": what the file states, else eV/Ang^3. length_unit: Ang, Bohr or nm; "": likewise, else Ang.
    """

    energy_key: str = ""
    forces_key: str = ""
    stress_key: str = ""
    group_key: str = ""
    energy_unit: str = ""
    force_unit: str = ""
    stress_unit: str = ""
    length_unit: str = ""

    NAMES: ClassVar[Mapping[str, tuple[str, ...]]] = NAMES

    def __post_init__(self) -> None:
        for name, quantity in (("energy", "energy"), ("force", "forces"), ("stress", "stress"), ("length", "length")):
            allowed = _READERS[quantity][1]
            value = getattr(self, f"{name}_unit")
            if value and value not in allowed:
                raise ConfigError(f"source.{name}_unit={value} must be empty or one of {', '.join(allowed)}")

    def _structure(self, record: Record) -> Structure | Rejected:
        """The record in eV and angstrom.

        Raises:
            ValueError, TypeError, OverflowError: if something in it is malformed.
            DataError: if the settings contradict the units that its file states.
        """
        try:
            labels = {what: self._find(record.places(what), what) for what in ("energy", "forces", "stress")}
            self._check_none_overlooked(record, labels)
            group = self._group(record)
        except Missing as error:
            return Rejected(record.label, *map(one_line, error.args))
        length = self._factor(record, "length")
        cell = np.asarray(record.cell, dtype=np.float64) * length
        energy, forces, stress = labels["energy"], labels["forces"], labels["stress"]
        return Structure(
            numbers=record.numbers,
            positions=np.asarray(record.positions, dtype=np.float64) * length,
            cell=cell,
            pbc=record.pbc,
            energy=energy and one_number(*energy) * self._factor(record, "energy", energy[0]),
            forces=forces and self._forces(record, *forces),
            group=group,
            record=record.label,
            holdout=record.holdout,
            stress=stress and self._stress_checked(record, cell, *stress),
            charge=_whole(self._find_one(record, "charge")),
            spin=_whole(self._find_one(record, "spin")) or None,
        )

    def _find(self, sections: Sections, what: str) -> tuple[str, Any] | None:
        """Name and value of a label; None if it is not there.

        Raises:
            Missing: if it goes by a key that is set and not there.
        """
        key = getattr(self, f"{what}_key")
        if key:
            for section in sections.values():
                if key in section:
                    return key, section[key]
            raise Missing(f"missing {what}", f"source.{what}_key={key} is not there; found {_listed(sections)}")
        for pattern in (*self.NAMES[what], *(self.NAMES["virial"] if what == "stress" else ())):
            if found := _usual(sections, pattern, what):
                return found
        return None

    def _find_one(self, record: Record, what: str) -> tuple[str, Any] | None:
        """A charge or spin of the whole, not of the atoms."""
        found = _usual(record.places(what), self.NAMES[what][0], what)
        return found if found and np.size(found[1]) == 1 else None

    def _check_none_overlooked(self, record: Record, labels: Mapping[str, Any]) -> None:
        """Raises Missing if there is no label, or one that is missing may be there by another name."""
        wanted = " and ".join(what for what in ("energy", "forces") if labels[what] is None)
        way_out = ", ".join(f"source.{what}_key" for what in ("energy", "forces") if labels[what] is None)
        if labels["energy"] is None and labels["forces"] is None:
            raise Missing(f"missing {wanted}", f"found {_listed(record.sections)}; name them by {way_out}")
        for what in (what for what, found in labels.items() if found is None):
            if names := _alike(record, what):
                raise Missing(f"missing {what}", f"is it {' or '.join(names)}? name it by source.{what}_key")

    def _group(self, record: Record) -> str:
        if not self.group_key:
            return record.group or reduced_formula(record.numbers)
        for section in record.sections.values():
            if self.group_key in section:
                value = section[self.group_key]
                return str(value.decode() if isinstance(value, bytes) else value)
        raise Missing("missing group key", f"{self.group_key}; found {_listed(record.sections)}")

    def _forces(self, record: Record, name: str, value: Any) -> FloatArray:
        """In eV/angstrom; of whatever shape, which validation looks at."""
        sign = -1.0 if "grad" in name.lower() else 1.0
        return sign * self._factor(record, "forces", name) * _floats(name, value)

    def _stress_checked(self, record: Record, cell: FloatArray, name: str, value: Any) -> FloatArray | None:
        """The stress; where a virial stands beside it and no key is set, both must say the same.

        Raises:
            ValueError: if they do not.
        """
        stress = self._stress(record, cell, name, value)
        virial = None if self.stress_key else _usual(record.places("stress"), self.NAMES["virial"][0], "stress")
        if stress is None or virial is None or virial[0] == name:
            return stress
        other = self._stress(record, cell, *virial)
        if other is not None and not np.allclose(other, stress, rtol=_STRESS_RELATIVE, atol=_STRESS_EV_PER_ANG3):
            raise ValueError(f"{name} and {virial[0]} disagree; choose with source.stress_key")
        return stress

    def _stress(self, record: Record, cell: FloatArray, name: str, value: Any) -> FloatArray | None:
        """(3, 3) in eV/angstrom^3, positive under tension; None if it is written as NaN."""
        matrix = full_matrix(name, value)
        if np.isnan(matrix).all():
            return None
        if "virial" not in name.lower():
            return self._factor(record, "stress", name) * matrix
        volume = abs(np.linalg.det(cell))
        if not volume > 0:
            if not matrix.any():
                return None
            raise ValueError(f"{name} is there, but no cell whose volume would make it a stress")
        stress: FloatArray = -self._factor(record, "virial", name) * matrix / volume
        return stress

    def _factor(self, record: Record, quantity: str, name: str = "") -> float:
        """What a value of the file is multiplied with.

        Raises:
            DataError: if a setting contradicts the file.
            ValueError: if the unit that the file states is not understood, or does not say that of the forces.
        """
        read, allowed = _READERS[quantity]
        setting = {"forces": "force_unit", "virial": "energy_unit"}.get(quantity, f"{quantity}_unit")
        given = getattr(self, setting)
        key, text = record.stated.get(name) or record.stated.get(quantity) or ("", "")
        stated = read(text) if text else None
        if given:
            if stated is not None and abs(stated - allowed[given]) > _RELATIVE * abs(stated):
                raise DataError(
                    f"{record.label} states {key}={text}, but source.{setting}={given}; leave out the setting, or "
                    f"correct the file"
                )
            return allowed[given]
        if stated is not None:
            return stated
        return self._unstated(record, quantity, setting)

    def _unstated(self, record: Record, quantity: str, setting: str) -> float:
        """The factor where neither the settings nor the file say it themselves."""
        read, _ = _READERS[quantity]
        if quantity == "length":
            return read(record.layout.get("length", "Ang"))
        if quantity == "energy":
            return read(record.layout.get("energy", "eV"))
        energy = self._factor(record, "energy")
        if quantity == "virial":
            return energy
        if quantity in record.layout and not self.energy_unit:
            if not record.layout[quantity]:
                raise ValueError(f"no unit of {quantity} is stated: say source.{setting}")
            return read(record.layout[quantity])
        if quantity == "forces" and self.energy_unit:
            return energy
        if energy != 1.0:
            raise ValueError(f"energies are not in eV, and no unit of {quantity} is stated: say source.{setting}")
        return 1.0


def one_number(name: str, value: Any) -> float:
    """A label of the whole structure.

    Raises:
        ValueError: if it is anything but one real number.
    """
    array = np.asarray(value)
    if array.size != 1 or array.dtype.kind not in "iuf":
        raise ValueError(f"{name} {value!r:.40} is not a number")
    return float(array.reshape(()).item())


def full_matrix(name: str, value: Any) -> FloatArray:
    """(3, 3) from nine numbers or from six in Voigt's order xx, yy, zz, yz, xz, xy."""
    array = _floats(name, value)
    if array.size == 9:
        return array.reshape(3, 3)
    if array.shape != (6,):
        raise ValueError(f"{name} has shape {array.shape}, not 6 or 9 numbers")
    return array[[0, 5, 4, 5, 1, 3, 4, 3, 2]].reshape(3, 3)


def _floats(name: str, value: Any) -> FloatArray:
    array = np.asarray(value)
    if array.dtype.kind not in "iuf":
        raise ValueError(f"{name} holds {array.dtype}, not numbers")
    return array.astype(np.float64)


def _whole(found: tuple[str, Any] | None) -> int | None:
    """A charge or multiplicity.

    Raises:
        ValueError: if it is no whole number.
    """
    if found is None:
        return None
    value = one_number(*found)
    if not value.is_integer():  # of NaN and infinity too
        raise ValueError(f"{found[0]} {value:g} is not a whole number")
    return int(value)


def _usual(sections: Sections, pattern: str, what: str) -> tuple[str, Any] | None:
    """What goes by a usual name in the first section that has it.

    Raises:
        ValueError: if the section has several that disagree.
    """
    for section in sections.values():
        names = [name for name in section if re.fullmatch(pattern, name, re.IGNORECASE) and section[name] is not None]
        if not names:
            continue
        if any(not np.array_equal(section[names[0]], section[other]) for other in names[1:]):
            raise ValueError(f"{' and '.join(names)} disagree; choose with source.{what}_key")
        return names[0], section[names[0]]
    return None


def _alike(record: Record, what: str) -> list[str]:
    """Names that look like the label's, of values that have its shape."""
    num_atoms = len(record.numbers)
    sizes = {"energy": (1,), "forces": (3 * num_atoms,), "stress": (6, 9)}[what]
    found: list[str] = []
    for section in record.places(what).values():
        for name, value in section.items():
            if re.search(_LIKE[what], name, re.IGNORECASE) and _is_numeric(value) and np.size(value) in sizes:
                is_vector = what != "forces" or np.shape(value) == (num_atoms, 3)
                found += [name] if is_vector and np.ndim(value) <= 2 else []
    return found[:_MOST_KEYS]


def _is_numeric(value: Any) -> bool:
    try:
        return np.asarray(value).dtype.kind in "iuf"
    except ValueError:  # of ragged lists
        return False


def _listed(sections: Sections) -> str:
    """The names in each section."""
    parts = []
    for where, section in sections.items():
        names: Sequence[str] = sorted(map(str, section))
        more = f" and {len(names) - _MOST_KEYS} more" if len(names) > _MOST_KEYS else ""
        parts.append(f"{where}: {', '.join(n[:40] for n in names[:_MOST_KEYS]) or 'nothing'}{more}")
    return "; ".join(parts)
