"""Extended XYZ files, one frame after another, parsed by ASE's own reader.

Units: positions and lattice in angstrom, as the format says; energy in `energy_unit` (total; eV by default)
and forces (-dE/dx) in `force_unit`, by ASE's values of the units. A Lattice without pbc is periodic in all directions,
no Lattice means no periodic direction. Forces are taken as written: ASE's constraints (move_mask) do not alter them.

Energy key, where `energy_key` is empty: energy, REF_energy or dft_energy in upper or lower case; free_energy if none of
them is there. Forces key, where `forces_key` is empty: forces or force, alone or after REF_ or dft_. A frame with
several of these that disagree is rejected: only its author knows which are the labels.

Group key, where `group_key` is empty: config_type where a frame has it, else the reduced formula; neither looks at the
file, since parts of one trajectory often lie in several. A trajectory thus stays together, whatever its length; frames
that are known to be independent want a `group_key` that says so (a molecule's or trajectory's name).

A blank line may stand between frames. A line that should be a number of atoms and is not ends the reading with an
error: nothing after it can be trusted. The last line must end with a newline, or its last number may have been cut.

Source: ase.io.extxyz; https://github.com/libAtoms/extxyz
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from io import StringIO
from itertools import islice
from numbers import Real
from pathlib import Path
from typing import Any, BinaryIO, ClassVar

import ase.units
import numpy as np
from ase.io.extxyz import REV_PROPERTY_NAME_MAP, key_val_str_to_dict, read_xyz

from scaling.data.elements import reduced_formula
from scaling.data.manifest import Rejected
from scaling.data.source import FileSource, as_rejected
from scaling.errors import ConfigError, DataError
from scaling.structure import Structure

ENERGY_UNITS_EV: dict[str, float] = {
    "eV": 1.0,
    "meV": 1e-3,
    "Hartree": ase.units.Hartree,
    "Rydberg": ase.units.Rydberg,
    "kcal/mol": ase.units.kcal / ase.units.mol,
    "kJ/mol": ase.units.kJ / ase.units.mol,
}
FORCE_UNITS_EV_PER_ANG: dict[str, float] = {
    f"{energy}/{length}": energy_ev / length_ang
    for energy, energy_ev in ENERGY_UNITS_EV.items()
    for length, length_ang in (("Ang", 1.0), ("Bohr", ase.units.Bohr))
}
_ENERGY = re.compile(r"(ref_|dft_)?energy", re.IGNORECASE)
_FORCES = re.compile(r"(ref_|dft_)?forces?", re.IGNORECASE)
_COUNT = re.compile(rb"\s*\d{1,7}\s*")
_MAX_LINE_BYTES = 2**20
_TASK_BYTES = 2**22


@dataclass(frozen=True)
class Extxyz(FileSource):
    """Settings of the reader; path: one file in extended XYZ, or a directory of them.

    energy_key, forces_key: what the labels are called in the file; "": the usual names, see the head of the file.
    group_key: the entry of the comment line that names the group; "": config_type, else the reduced formula.
    energy_unit: eV, meV, Hartree, Rydberg, kcal/mol or kJ/mol.
    force_unit: one of these over Ang or Bohr; "": energy_unit over Ang.
    """

    name: str = "extxyz"
    energy_key: str = ""
    forces_key: str = ""
    group_key: str = ""
    energy_unit: str = "eV"
    force_unit: str = ""

    SUFFIXES: ClassVar[tuple[str, ...]] = (".extxyz", ".xyz")

    def __post_init__(self) -> None:
        if self.energy_unit not in ENERGY_UNITS_EV:
            raise ConfigError(f"source.energy_unit={self.energy_unit} must be one of {', '.join(ENERGY_UNITS_EV)}")
        if self._force_unit() not in FORCE_UNITS_EV_PER_ANG:
            allowed = ", ".join(FORCE_UNITS_EV_PER_ANG)
            raise ConfigError(f"source.force_unit={self.force_unit} must be empty or one of {allowed}")

    def identity(self) -> Mapping[str, Any]:
        return {**super().identity(), "force_unit": self._force_unit()}

    def tasks(self) -> Iterator[tuple[str, Path, int, int, int]]:
        """Runs of frames: name and path of the file, index of the first frame, where it begins, how many."""
        for name, path in self.files().items():
            with _open(path) as stream:
                first = index = begin = 0
                while _next_frame(stream, path, index) is not None:
                    index += 1
                    if stream.tell() - begin >= _TASK_BYTES:
                        yield name, path, first, begin, index - first
                        first, begin = index, stream.tell()
                if index == 0:
                    raise DataError(f"{path} holds no frame")
                if first < index:
                    yield name, path, first, begin, index - first

    def read(self, task: tuple[str, Path, int, int, int]) -> Iterator[Structure | Rejected]:
        name, path, first, begin, count = task
        with _open(path) as stream:
            stream.seek(begin)
            for index in range(first, first + count):
                frame = _next_frame(stream, path, index)
                if frame is None:
                    raise DataError(f"{path} has become shorter while it was read")
                yield self._parse(*frame, f"{name}#{index}")

    def _parse(self, num_atoms: int, lines: list[bytes], label: str) -> Structure | Rejected:
        """Read one frame; lines: its comment line, then one for each atom."""
        if len(lines) <= num_atoms or not lines[-1].endswith(b"\n"):
            detail = f"{len(lines)} of {num_atoms + 1} lines" if len(lines) <= num_atoms else "no newline at its end"
            return Rejected(label, "truncated frame", detail)
        if num_atoms == 0:
            return Rejected(label, "no atoms")
        try:
            comment, *rows = [line.decode() for line in lines]
            info = key_val_str_to_dict(comment) if comment.strip() else {}  # type: ignore[no-untyped-call]
            num_columns = self._check_columns(info)
            for row in rows:
                if (found := len(row.split())) != num_columns:
                    return Rejected(label, "columns disagree with Properties", f"{found}, not {num_columns}: {row:.60}")
            _check_pbc(info.get("pbc", True))
            text = StringIO("".join([f"{num_atoms}\n", comment, *rows]))
            (atoms,) = read_xyz(text, index=slice(1), properties_parser=lambda _: dict(info))
            results = atoms.calc.results if atoms.calc else {}
            energies, vectors = {**atoms.info, **results}, {**atoms.arrays, **results}
            energy = _pick(energies, self.energy_key, _ENERGY, "energy")
            if energy is None and not self.energy_key:
                energy = results.get("free_energy")
            forces = _pick(vectors, self.forces_key, _FORCES, "forces")
            if energy is None:
                return Rejected(label, "missing energy", f"{self.energy_key} not among {', '.join(energies)}"[:200])
            if forces is None:
                return Rejected(label, "missing forces", f"{self.forces_key} not among {', '.join(vectors)}"[:200])
            if isinstance(energy, bool) or not isinstance(energy, Real):
                raise ValueError(f"energy {energy!r} is not a number")
            if self.group_key and self.group_key not in info:
                return Rejected(label, "missing group key", self.group_key)
            return Structure(
                numbers=atoms.numbers,
                positions=atoms.positions,
                cell=np.asarray(atoms.cell, dtype=np.float64),
                pbc=atoms.pbc,
                energy=float(energy) * ENERGY_UNITS_EV[self.energy_unit],
                forces=np.asarray(forces, dtype=np.float64) * FORCE_UNITS_EV_PER_ANG[self._force_unit()],
                group=str(info.get(self.group_key or "config_type", "")) or reduced_formula(atoms.numbers),
                record=label,
            )
        except KeyError as error:  # of ASE's table of symbols
            return Rejected(label, "unknown element", str(error)[:80])
        except (IndexError, TypeError, ValueError, AttributeError, OverflowError, OSError, RuntimeError) as error:
            return as_rejected(label, error)

    def _check_columns(self, info: Mapping[str, Any]) -> int:
        """Count the columns of the atom lines after checking those that are used."""
        fields = str(info.get("Properties", "species:S:1:pos:R:3")).split(":")
        if len(fields) % 3:
            raise ValueError("Properties is not a list of name:type:columns")
        names = [REV_PROPERTY_NAME_MAP.get(name, name) for name in fields[::3]]
        kinds = dict(zip(names, zip(fields[1::3], map(int, fields[2::3]), strict=True), strict=True))
        num_columns = sum(count for _, count in kinds.values())
        if len(kinds) < len(names):
            raise ValueError("Properties names a column twice")
        if "positions" not in kinds or not {"symbols", "numbers"} & set(kinds):
            raise ValueError("Properties has no pos, or neither species nor Z")
        for name, kind in kinds.items():
            is_vector = name == "positions" or name == self.forces_key or _FORCES.fullmatch(name)
            if is_vector and kind not in (("R", 3), ("I", 3)):
                raise ValueError(f"Properties has {name}:{kind[0]}:{kind[1]}, which must be R:3")
        return num_columns

    def _force_unit(self) -> str:
        return self.force_unit or f"{self.energy_unit}/Ang"


def _open(path: Path) -> BinaryIO:
    try:
        return path.open("rb")
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error}") from error


def _next_frame(stream: BinaryIO, path: Path, index: int) -> tuple[int, list[bytes]] | None:
    """Read the stated number of atoms and the lines after it (fewer if the file ends before); None at the end."""
    lines = iter(partial(stream.readline, _MAX_LINE_BYTES), b"")
    header = next((line for line in lines if not line.isspace()), None)
    if header is None:
        return None
    if not _COUNT.fullmatch(header):
        raise DataError(f"{path}, frame {index}: expected a number of atoms, found {header[:60]!r}")
    num_atoms = int(header)
    frame = list(islice(lines, num_atoms + 1))
    if max(map(len, frame), default=0) == _MAX_LINE_BYTES:
        raise DataError(f"{path}, frame {index}: a line is longer than {_MAX_LINE_BYTES} bytes")
    return num_atoms, frame


def _check_pbc(value: Any) -> None:
    """Raise ValueError unless it is one truth value, or three."""
    flags = np.asarray(value)
    if flags.shape not in ((), (3,)) or flags.dtype.kind not in "bi" or not np.isin(flags, (0, 1)).all():
        raise ValueError(f"pbc is {value!r}")


def _pick(values: Mapping[str, Any], key: str, usual: re.Pattern[str], what: str) -> Any:
    """The value called `key`, or by any of the usual names; None if there is none.

    Raises:
        ValueError: if there are several that disagree.
    """
    names = [key] if key else [name for name in values if usual.fullmatch(name)]
    found = [values[name] for name in names if name in values]
    if any(not np.array_equal(found[0], other) for other in found[1:]):
        raise ValueError(f"{' and '.join(names)} disagree; choose with source.{what}_key")
    return found[0] if found else None
