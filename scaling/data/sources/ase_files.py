"""Whatever else ASE reads: its own .traj, VASP (vasprun.xml, OUTCAR), LAMMPS dumps, Quantum ESPRESSO and so on.

Units, signs: those of ASE, into which its readers convert: eV, eV/angstrom, eV/angstrom^3 positive under tension (of
VASP's stress in kB, of opposite sign, too). LAMMPS dumps are in the units that they state (ITEM: UNITS),
else metal; others by settings. Energy of
VASP: the one extrapolated to zero smearing; `energy_key=free_energy` takes the one whose derivatives the forces are.
Forces are those computed, whatever constraints a file keeps. Files without labels (XDATCAR, POSCAR, CIF) are read and
rejected frame by frame.

Group key, where `group_key` is empty: the reduced formula. `group_key` is looked up among results, info and arrays.

Not read: what ASE would fetch from a server, what is read with more care here (extended XYZ, ASE's databases), formats
of other packages, and LAMMPS dumps without a column `element`, whose types ASE would take for atomic numbers. ASE's
readers unpickle nothing; sizes are not bounded, as they are in the readers of this project.

A file is one task, but for .traj. What ends the reading of a file in its midst is one rejection of all that ASE has not
given by then: the rest, or, where it parses a file as a whole (OUTCAR), the file.

Source: https://ase-lib.org/ase/io/io.html
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import ase.io
import numpy as np
from ase import Atoms
from ase.io.formats import UnknownFileTypeError, filetype, ioformats

from scaling.data.files import suffix_of
from scaling.data.formats import KeyedSource, Record, units
from scaling.data.manifest import Rejected
from scaling.data.source import as_rejected, slices
from scaling.errors import ConfigError, DataError
from scaling.structure import Structure

#: Formats that are not read, and what reads them instead.
ELSEWHERE = {
    "extxyz": "source=extxyz",
    "xyz": "source=extxyz",
    "db": "source=ase_db or source=aselmdb",
    "json": "source=ase_db, after `ase convert`",
    "postgresql": "a file: write it to .db first",
    "mysql": "a file: write it to .db first",
    "bundletrajectory": "a .traj file, after `ase convert`",
    "lammps-dump-binary": "a dump in text with a column element",
}
#: Results that ASE fills in though the file does not have them (energy 0).
_INVENTED = {"lammps-dump-text": ("energy",)}
_FRAMES_PER_TASK = 256
_HEAD_BYTES = 2**16


@dataclass(frozen=True)
class AseFiles(KeyedSource):
    """Settings of the reader, see `KeyedSource`; path: one file, or a directory of them.

    format: ASE's name of the format (`ase info --formats`); "": as ASE finds it by name and content. In a directory,
        files of another format are not read.
    """

    name: str = "ase"
    format: str = ""

    SUFFIXES: ClassVar[tuple[str, ...]] = (".traj", "vasprun.xml", "OUTCAR", "other ASE-readable")
    UNPACKS: ClassVar[bool] = True  # ASE does, but for .zst

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.format and (problem := _refusal(self.format)):
            raise ConfigError(f"source.format={self.format} {problem}")

    def tasks(self) -> Iterator[tuple[str, Path, str, str]]:
        """Name and path of the file, its format, frames as ASE writes slices."""
        for name, path in self.files().items():
            if path.suffix.lower() == ".zst":
                raise DataError(f"{path} is packed, and ASE does not read .zst; unpack it")
            kind = self.format or _format(path)
            if not kind:
                raise DataError(f"{path}: ASE does not know its format; say source.format=NAME (`ase info --formats`)")
            if problem := _refusal(kind) or _without_elements(path, kind):
                raise DataError(f"{path}: its format {kind} {problem}")
            if kind != "traj":
                yield name, path, kind, ":"
                continue
            for start, stop in slices(_num_frames(path), _FRAMES_PER_TASK):
                yield name, path, kind, f"{start}:{stop}"

    def read(self, task: tuple[str, Path, str, str]) -> Iterator[Structure | Rejected]:
        name, path, kind, frames = task
        index = int(frames.partition(":")[0] or 0)
        stated = _units_of_dump(path) if kind == "lammps-dump-text" else {}
        images = ase.io.iread(path, frames, kind, do_not_split_by_at_sign=True)  # type: ignore[no-untyped-call]
        while True:
            label = f"{name}#{index}"
            try:
                atoms = next(images, None)
            except Exception as error:  # the many readers raise whatever they raise
                yield as_rejected(label, error)
                return
            if atoms is None:
                break
            yield self._parse(atoms, label, _INVENTED.get(kind, ()), stated)
            index += 1
        if index == 0:
            yield Rejected(name, "no structure", f"ASE finds none in it as {kind}")

    def _parse(
        self, atoms: Atoms, label: str, invented: tuple[str, ...], stated: Mapping[str, tuple[str, str]]
    ) -> Structure | Rejected:
        try:
            if len(atoms) == 0:
                return Rejected(label, "no atoms")
            found: dict[str, Any] = getattr(atoms.calc, "results", None) or {}
            results = {name: value for name, value in found.items() if name not in invented}
            arrays = {key: value for key, value in atoms.arrays.items() if key not in ("numbers", "positions")}
            record = Record(
                label=label,
                numbers=atoms.numbers,
                positions=atoms.positions,
                cell=np.asarray(atoms.cell, dtype=np.float64),
                pbc=np.asarray(atoms.pbc),
                sections={"calculator": results, "info": atoms.info, "arrays": arrays},
                arrays=("arrays",),
                stated=stated,
            )
            return self._structure(record)
        except (LookupError, TypeError, ValueError, AttributeError, OverflowError) as error:
            return as_rejected(label, error)

    def _is_mine(self, path: Path) -> bool:
        kind = _format(path)
        return bool(kind) and not _refusal(kind) and not _without_elements(path, kind) and self.format in ("", kind)

    def _kind_not_read(self, path: Path) -> str:
        kind = _format(path)
        if path.suffix.lower() == ".zst":
            return f"{suffix_of(path)} (packed; unpack it)"
        return f"{suffix_of(path)} ({kind})" if kind else suffix_of(path)


def _format(path: Path) -> str:
    """ASE's name of a file's format; "" where it knows none."""
    try:
        found = filetype(str(path), read=True, guess=False)
    except (UnknownFileTypeError, OSError, EOFError, ValueError):
        return ""
    return found if found in ioformats else ""


def _refusal(kind: str) -> str:
    """Why files of a format are not read; "" if they are."""
    if kind in ELSEWHERE:
        return f"is not read so; use {ELSEWHERE[kind]}"
    if kind not in ioformats:
        return "is no format that ASE knows (`ase info --formats`)"
    if not ioformats[kind].module_name.startswith("ase.io."):
        return "is read by another package, which this project does not run"
    if not ioformats[kind].can_read:
        return "can be written by ASE, not read"
    return ""


def _without_elements(path: Path, kind: str) -> str:
    """What is wrong with a LAMMPS dump that gives types alone; "" for any other file."""
    if kind != "lammps-dump-text":
        return ""
    columns = _head(path).partition(b"ITEM: ATOMS")[2].partition(b"\n")[0].split()
    if b"element" in columns:
        return ""
    return "has no column element, and its types are not elements; dump it with `dump_modify ID element ...`"


def _units_of_dump(path: Path) -> dict[str, tuple[str, str]]:
    """What a LAMMPS dump says of its units, once at its beginning, if `dump_modify units yes` was set.

    Raises:
        DataError: if they are none that are known here (lj, si, cgs).
    """
    _, item, rest = _head(path).partition(b"ITEM: UNITS\n")
    system = rest.partition(b"\n")[0].strip().decode("latin1")
    if not item:
        return {}
    if system not in units.SYSTEMS:
        raise DataError(f"{path}: ITEM: UNITS {system!a:.40} is not read; convert the dump to metal or real")
    return {quantity: ("ITEM: UNITS", unit) for quantity, unit in units.SYSTEMS[system].items()}


def _head(path: Path) -> bytes:
    with ase.io.formats.open_with_compression(str(path), "rb") as stream:
        head: bytes = stream.read(_HEAD_BYTES)
    return head


def _num_frames(path: Path) -> int:
    try:
        with ase.io.Trajectory(str(path)) as trajectory:  # type: ignore[no-untyped-call]
            return len(trajectory)
    except Exception as error:  # as above
        raise DataError(f"{path} is not a whole .traj file: {type(error).__name__}: {error}") from error
