"""Records whose labels have names: where they are looked for, and what they become in eV and angstrom.

Names, in any case, where no key is set (`energy_key` and so on):

- energy: energy, alone or after ref_ or dft_; free_energy if none of them is there. Total, of all atoms.
- forces: force or forces, alone or after ref_ or dft_: -dE/dx; else gradient or gradients: +dE/dx, negated, as is what
  a `forces_key` with `grad` in its name finds.
- stress: stress, alone or after ref_ or dft_: positive under tension (ASE's sign; VASP's is the opposite, which
  `stress_unit=-kbar` says). virial or virials: -stress times volume, a unit of energy, as GPUMD, DeePMD-kit and QUIP
  have it; where both are there, they must agree. Nine numbers are rows of a matrix, six are xx, yy, zz, yz, xz, xy
  (Voigt). All NaN: not there.
- charge: charge or total_charge, in e. spin: spin, total_spin (MACE), multiplicity or spin_multiplicity, 2 S + 1
  (OMol25); 0 is unknown. Other names with these words are noted, and not read.

A reader names the sections of a record in the order in which they are searched (calculator, key-value pairs, data).
Usual names that disagree, in one section or in two, are no label: only the author knows. With a key set, the first
section that has it counts; where none has, the label is not there, and `prepare` says of how many records.
What is there under a name that looks like that of a missing label is not passed over either: the record is rejected,
and its keys are named.

Units: see `scaling.data.formats.unit_settings`. A setting that contradicts the file ends the preparation. Energies in a
stated unit other than eV say that of the forces only where the file or the settings say the unit of length, too.

Source: https://ase-lib.org (stress); https://gpumd.org, train.xyz (virial, eV); dpdata, quip/gap/xyz (unit keys).
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np

from scaling.data.elements import reduced_formula
from scaling.data.formats.record import (
    Record,
    Sections,
    alike,
    floats,
    full_matrix,
    listed,
    number_of,
    state_alike,
    usual,
    vectors,
)
from scaling.data.formats.unit_settings import UnitSettings
from scaling.data.manifest import Rejected
from scaling.data.source import one_line
from scaling.structure import LABELS, FloatArray, Structure

_PREFIX = r"(ref_|dft_)?"
#: Tried one after the other in every section.
NAMES: dict[str, tuple[str, ...]] = {
    "energy": (rf"{_PREFIX}energy", "free_energy"),
    "forces": (rf"{_PREFIX}forces?", rf"{_PREFIX}gradients?"),
    "stress": (rf"{_PREFIX}stress",),
    "virial": (rf"{_PREFIX}virials?",),
    "charge": ("charge|total_charge",),
    "spin": ("spin|total_spin|multiplicity|spin_multiplicity",),
}
#: That stress and virial of one record may differ by, as they are printed.
_STRESS_RELATIVE, _STRESS_EV_PER_ANG3 = 1e-3, 1e-5
#: Of a key: the label is not read.
NOT_READ = "none"


class Missing(Exception):
    """A label that is not found where it should be: reason and detail of a rejection."""


@dataclass(frozen=True)
class KeyedSource(UnitSettings):
    """Settings of every reader of such records; units: see `UnitSettings`.

    energy_key, forces_key, stress_key, charge_key, spin_key: what the labels are called in the file; "": the usual
        names; "none": they are not read.
    group_key: names the group, among all that the record holds; "": as the reader says.
    """

    energy_key: str = ""
    forces_key: str = ""
    stress_key: str = ""
    group_key: str = ""
    charge_key: str = ""
    spin_key: str = ""

    NAMES: ClassVar[Mapping[str, tuple[str, ...]]] = NAMES

    def _structure(self, record: Record) -> Structure | Rejected:
        """The record in eV and angstrom.

        Raises:
            ValueError, TypeError, OverflowError: if something in it is malformed.
            DataError: if the settings contradict the units that its file states.
        """
        found = {what: self._find(record.places(what), what) for what in (*LABELS, "charge", "spin")}
        try:
            self._check_none_overlooked(record, found)
            group = self._group(record)
        except Missing as error:
            return Rejected(record.label, *map(one_line, error.args))
        energy, forces, stress = (found[what] for what in LABELS)
        if energy and energy[0] in record.stated:
            record = replace(record, stated={**record.stated, "energy": record.stated[energy[0]]})
        length = self._factor(record, "length")
        cell = np.asarray(record.cell, dtype=np.float64) * length
        return Structure(
            numbers=record.numbers,
            positions=np.asarray(record.positions, dtype=np.float64) * length,
            cell=cell,
            pbc=record.pbc,
            energy=energy and one_number(*energy) * self._factor(record, "energy"),
            forces=forces and self._forces(record, *forces),
            group=group,
            record=record.label,
            holdout=record.holdout,
            stress=stress and self._stress_checked(record, cell, *stress),
            charge=_whole(found["charge"]),
            spin=_whole(found["spin"]) or None,
            notes=tuple(map(one_line, self._notes(record, found))),
        )

    def _find(self, sections: Sections, what: str) -> tuple[str, Any] | None:
        """Name and value of a label, by the key that is set or else by the usual names; None if it is not there."""
        key = self._key(what)
        if key == NOT_READ:
            return None
        if key:
            return next(((key, section[key]) for section in sections.values() if section.get(key) is not None), None)
        for pattern in (*self.NAMES[what], *(self.NAMES["virial"] if what == "stress" else ())):
            if found := usual(sections, pattern, what):
                return found
        return None

    def _notes(self, record: Record, found: Mapping[str, Any]) -> list[str]:
        """What the settings or the record name that is not read."""
        notes = list(record.notes)
        for what in (what for what, value in found.items() if value is None):
            key = self._key(what)
            if key and key != NOT_READ:
                notes.append(f"source.{what}_key={key} is not there")
            elif not key and what not in LABELS and (names := state_alike(record, what)):
                notes.append(
                    f"{' and '.join(names)} may be the {what}, and is not read: source.{what}_key={names[0]} reads it, "
                    f"source.{what}_key={NOT_READ} leaves it out"
                )
        if found["forces"] is None and not self._key("forces") and (names := vectors(record)):
            notes.append(
                f"{' and '.join(names)} may be forces, and is not read: source.forces_key={names[0]} reads it, "
                f"source.forces_key={NOT_READ} leaves it out"
            )
        return notes

    def _check_none_overlooked(self, record: Record, found: Mapping[str, Any]) -> None:
        """Raises Missing if there is no label, or one that is missing may be there by another name."""
        wanted = [what for what in ("energy", "forces") if self._key(what) != NOT_READ] or ["stress"]
        if all(found[what] is None for what in wanted):
            absent = [f"source.{what}_key={self._key(what)} is not there; " for what in wanted if self._key(what)]
            way_out = ", ".join(f"source.{what}_key" for what in wanted)
            raise Missing(
                f"missing {' and '.join(wanted)}",
                f"{''.join(absent)}found {listed(record.sections)}; name them by {way_out}",
            )
        for what in (what for what in LABELS if found[what] is None and not self._key(what)):
            if names := alike(record, what):
                raise Missing(
                    f"missing {what}",
                    f"is it {' or '.join(names)}? name it by source.{what}_key ({NOT_READ}: not read)",
                )

    def _key(self, what: str) -> str:
        key: str = getattr(self, f"{what}_key")
        return key

    def _group(self, record: Record) -> str:
        if not self.group_key:
            return record.group or reduced_formula(record.numbers)
        for section in record.sections.values():
            if self.group_key in section:
                value = section[self.group_key]
                return str(value.decode() if isinstance(value, bytes) else value)
        raise Missing("missing group key", f"{self.group_key}; found {listed(record.sections)}")

    def _forces(self, record: Record, name: str, value: Any) -> FloatArray:
        """In eV/angstrom; of whatever shape, which validation looks at."""
        sign = -1.0 if "grad" in name.lower() else 1.0
        return sign * self._factor(record, "forces", name) * floats(name, value)

    def _stress_checked(self, record: Record, cell: FloatArray, name: str, value: Any) -> FloatArray | None:
        """The stress; where a virial stands beside it and no key is set, both must say the same.

        Raises:
            ValueError: if they do not.
        """
        stress = self._stress(record, cell, name, value)
        virial = None if self.stress_key else usual(record.places("stress"), self.NAMES["virial"][0], "stress")
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
        if "virial" not in name.lower() or (self.stress_key and self.stress_unit):
            return self._factor(record, "stress", name) * matrix
        volume = abs(np.linalg.det(cell))
        if not volume > 0:
            if not matrix.any():
                return None
            raise ValueError(
                f"{name}: no cell whose volume would make it a stress; source.stress_key=none leaves it out"
            )
        stress: FloatArray = -self._factor(record, "virial", name) * matrix / volume
        return stress


def one_number(name: str, value: Any) -> float:
    """A label of the whole structure.

    Raises:
        ValueError: if it is anything but one real number.
    """
    array = np.asarray(value)
    if array.size != 1 or array.dtype.kind not in "iuf":
        raise ValueError(f"{name} {value!r:.40} is not a number")
    return float(array.reshape(()).item())


def _whole(found: tuple[str, Any] | None) -> int | None:
    """A charge or multiplicity.

    Raises:
        ValueError: if it is no whole number.
    """
    if found is None:
        return None
    value = one_number(found[0], number_of(found[1]))
    if not value.is_integer():  # of NaN and infinity too
        raise ValueError(f"{found[0]} {value:g} is not a whole number")
    return int(value)
