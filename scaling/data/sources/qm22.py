"""QM-22: energies and gradients of small organic molecules, one molecule a file, zipped as published or not.

Layout: frames one after another, each the number of atoms, the energy alone on its line, then a line an atom: symbol,
x y z (angstrom), gradient x y z. No cell: isolated molecules.

Sign and units: gradients +dE/dx in Hartree/bohr, so forces are minus these. Energies are in Hartree (Methane, Ethanol,
N-methylacetamide, Tropolone), or, for the alkanes (c04 to c10), in cm^-1 from the linear minimum of that molecule.
Which, a file shows as a whole: a total energy in Hartree lies below minus half the number of electrons (even hydrogen
atoms far apart have -1/2 each), one of a conformer in cm^-1 never all do. Where neither is so, `energy_unit` must say.

Zero of energy: each molecule has its own (and its own level of theory), so reference energies do not fit several at
once unless each is a part: prepare them one by one, and join them with source=mixed.

Group key: the molecule, by the file's name. Frames keep their order: consecutive ones are of one trajectory, so a
molecule is split by blocks of consecutive frames.

Source: https://github.com/jmbowma/QM-22; Bowman et al., J. Chem. Phys. 156, 240901 (2022)
"""

import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path, PurePosixPath
from typing import BinaryIO, ClassVar, cast

import ase.units
import numpy as np
from ase.data import atomic_numbers

from scaling.data.files import opened, plain_name
from scaling.data.formats import broken_frame, frames_of, next_frame, units
from scaling.data.manifest import Rejected
from scaling.data.source import FileSource, as_rejected
from scaling.errors import ConfigError, DataError
from scaling.structure import Structure

UNITS_EV = {name: units.ENERGY_UNITS_EV[name] for name in ("Hartree", "cm^-1")}
_FORCE_EV_PER_ANG = ase.units.Hartree / ase.units.Bohr
_TASK_BYTES = 2**22
_HIGHEST_HARTREE_PER_ELECTRON = -0.5


@dataclass(frozen=True)
class Qm22(FileSource):
    """Settings of the reader; path: one molecule's .zip or .xyz, or a directory of them.

    energy_unit: Hartree or cm^-1; "": which of them a file shows.
    """

    name: str = "qm22"
    energy_unit: str = ""

    SUFFIXES: ClassVar[tuple[str, ...]] = (".zip", ".xyz")
    UNPACKS: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.energy_unit and self.energy_unit not in UNITS_EV:
            raise ConfigError(f"source.energy_unit={self.energy_unit} must be empty or one of {', '.join(UNITS_EV)}")

    def tasks(self) -> Iterator[tuple[str, str, float, int, int, bytes]]:
        """Name of the file and of the molecule, unit of energies in eV, index of the first frame, how many, text."""
        for name, path in self.files().items():
            unit_ev = UNITS_EV[self.energy_unit or _energy_unit(path)]
            molecule = PurePosixPath(plain_name(Path(name).name)).stem
            with _text(path) as stream:
                for first, count, text in frames_of(stream, path, _TASK_BYTES):
                    yield name, molecule, unit_ev, first, count, text

    def read(self, task: tuple[str, str, float, int, int, bytes]) -> Iterator[Structure | Rejected]:
        name, molecule, unit_ev, first, count, text = task
        stream = BytesIO(text)
        for index in range(first, first + count):
            frame = next_frame(stream, Path(name), index)
            assert frame is not None, "tasks() counted them"
            yield _parse(f"{name}#{index}", molecule, unit_ev, *frame)


@contextmanager
def _text(path: Path) -> Iterator[BinaryIO]:
    """The file, or the one .xyz in the archive; nothing is unpacked onto the disk."""
    if path.suffix.lower() != ".zip":
        with opened(path) as stream:
            yield stream
        return
    try:
        with zipfile.ZipFile(path) as archive:
            names = [n for n in archive.namelist() if n.lower().endswith(".xyz") and not n.startswith("__MACOSX")]
            if len(names) != 1:
                raise DataError(f"{path} holds {len(names)} .xyz files; an archive of one molecule has one")
            with archive.open(names[0]) as stream:
                yield cast(BinaryIO, stream)
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, RuntimeError, NotImplementedError) as error:
        raise DataError(f"{path} is not a whole zip archive: {error}") from error


def _energy_unit(path: Path) -> str:
    """Which unit the energies of a file are in; see its head. What cannot be read does not count.

    Raises:
        DataError: if the file does not show it.
    """
    per_electron = []
    with _text(path) as stream:
        index = 0
        while (frame := next_frame(stream, path, index)) is not None:
            index += 1
            with suppress(KeyError, ValueError, IndexError, ZeroDivisionError):
                electrons = sum(atomic_numbers[line.split()[0].decode()] for line in frame[1][1:])
                per_electron.append(float(frame[1][0]) / electrons)
    values = np.array([value for value in per_electron if np.isfinite(value)])
    if (values < _HIGHEST_HARTREE_PER_ELECTRON).all():  # also of none
        return "Hartree"
    if (values >= _HIGHEST_HARTREE_PER_ELECTRON).all():
        return "cm^-1"
    raise DataError(f"{path} does not show the unit of its energies: say source.energy_unit=Hartree or cm^-1")


def _parse(label: str, molecule: str, unit_ev: float, num_atoms: int, lines: list[bytes]) -> Structure | Rejected:
    """Read one frame; lines: the energy, then one for each atom."""
    if broken := broken_frame(label, num_atoms, lines):
        return broken
    try:
        rows = [line.decode("ascii").split() for line in lines[1:]]
        if wrong := [row for row in rows if len(row) != 7]:
            return Rejected(label, "malformed record", f"{len(wrong[0])} columns, not 7: symbol, x y z, gradient x y z")
        values = np.array([row[1:] for row in rows], dtype=np.float64)
        return Structure(
            numbers=np.array([atomic_numbers[row[0]] for row in rows], dtype=np.int64),
            positions=values[:, :3],
            cell=np.zeros((3, 3)),
            pbc=np.zeros(3, dtype=bool),
            energy=float(lines[0]) * unit_ev,
            forces=-values[:, 3:] * _FORCE_EV_PER_ANG,
            group=molecule,
            record=label,
        )
    except KeyError as error:
        return Rejected(label, "unknown element", str(error)[:80])
    except (ValueError, OverflowError) as error:
        return as_rejected(label, error)
