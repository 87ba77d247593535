"""Nested HDF5 files of conformers, as ANI-1, COMP6 and their tools (pyanitools) write them.

Layout: groups within groups; a molecule holds `species` (N,) chemical symbols, `coordinates` (n, N, 3) in angstrom,
`energies` (n,) in Hartree, total, and `forces` (n, N, 3) in Hartree/angstrom. ANI-1's `*HE` conformers of high energy
are not read.

Sign: in COMP6 the data set called `forces` holds the gradient, +dE/dx, as its authors confirm and energy
differences of neighbouring conformers show; it is negated. For files that hold true forces set
forces_are to forces; compare a few energy differences first. ANI-1 has energies alone, and is refused.

Group key: the path of the molecule in the file: conformers of one molecule stay together, and so do molecules of the
same path in several files.

Source: Smith, Isayev, Roitberg, Sci. Data 4, 170193 (2017); Smith et al., J. Chem. Phys. 148, 241733 (2018);
https://github.com/isayev/COMP6
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import h5py
import numpy as np
from ase.units import Hartree

from scaling.data.elements import numbers_of_symbols
from scaling.data.formats.hdf5 import MALFORMED, Hdf5File, Portion, portions, read_conformers
from scaling.data.manifest import Rejected
from scaling.data.source import FileSource, as_rejected
from scaling.errors import ConfigError, DataError
from scaling.structure import Structure

SIGNS = {"gradient": -1.0, "forces": 1.0}
_FIELDS = frozenset({"species", "coordinates", "energies"})
_MAX_DEPTH = 16


@dataclass(frozen=True)
class Ani(FileSource):
    """Settings of the reader; path: an .h5 file, or a directory of them.

    forces_are: what the data sets called `forces` hold: gradient (+dE/dx, COMP6) or forces (-dE/dx).
    """

    name: str = "ani"
    forces_are: str = "gradient"

    SUFFIXES: ClassVar[tuple[str, ...]] = (".h5", ".hdf5")

    def __post_init__(self) -> None:
        if self.forces_are not in SIGNS:
            raise ConfigError(f"source.forces_are={self.forces_are} must be {' or '.join(SIGNS)}")

    def identity(self) -> Mapping[str, Any]:
        return {"recipe": self.RECIPE, "forces_are": self.forces_are}

    def tasks(self) -> Iterator[tuple[str, Path, Portion]]:
        """Portions of each file: ranges of conformers in a few molecules."""
        for name, path in self.files().items():
            with Hdf5File(path) as file:
                molecules = _list_molecules(file, path)
            yield from ((name, path, portion) for portion in portions(molecules))

    def read(self, task: tuple[str, Path, Portion]) -> Iterator[Structure | Rejected]:
        name, path, portion = task
        with Hdf5File(path) as file:
            for where, start, stop in portion:
                try:
                    entries = self._read_range(file, f"{name}#{where}", where, start, stop)
                except MALFORMED as error:
                    entries = [as_rejected(f"{name}#{where}/{start}", error)]
                yield from entries

    def _read_range(self, file: Hdf5File, label: str, where: str, start: int, stop: int) -> list[Structure | Rejected]:
        group = file.group(where)
        numbers = numbers_of_symbols(file.values(group, "species", "S"))
        energies, positions, forces = read_conformers(
            numbers,
            start,
            stop,
            file.dataset(group, "energies", "f"),
            file.dataset(group, "coordinates", "f"),
            file.dataset(group, "forces", "f"),
        )
        if not stop:
            return [Rejected(label, "no conformers")]
        return [
            Structure(
                numbers=numbers,
                positions=positions[row],
                cell=np.zeros((3, 3)),
                pbc=np.zeros(3, dtype=bool),
                energy=float(energies[row] * Hartree),
                forces=SIGNS[self.forces_are] * forces[row] * Hartree,
                group=f"ani {where}",
                record=f"{label}/{start + row}",
            )
            for row in range(stop - start)
        ]


def _list_molecules(file: Hdf5File, path: Path) -> list[tuple[str, int]]:
    """Each molecule by its path, and how many conformers it has (0 if that cannot be told)."""
    molecules: list[tuple[str, int]] = []
    seen: set[int] = set()
    any_forces = False

    def visit(where: str, group: h5py.Group) -> None:
        nonlocal any_forces
        address = file.address(group)
        if address in seen or where.count("/") >= _MAX_DEPTH:
            raise DataError(f"{path}: {where} is reached twice, or lies deeper than {_MAX_DEPTH} groups")
        seen.add(address)
        names = set(file.names(group))
        if names & _FIELDS:
            any_forces |= "forces" in names
            molecules.append((where, _num_conformers(file, group)))
            return
        for name, child in file.subgroups(group):
            visit(f"{where}/{name}".lstrip("/"), child)

    visit("", file.group())
    if not molecules:
        raise DataError(f"{path} holds no molecules; they have {', '.join(sorted(_FIELDS))} and forces")
    if not any_forces:
        raise DataError(f"{path} holds energies without forces, as ANI-1 does; both are needed")
    return molecules


def _num_conformers(file: Hdf5File, group: h5py.Group) -> int:
    """Rows of the coordinates; 0 if they are malformed, which reading them will say."""
    try:
        return len(file.dataset(group, "coordinates", "f"))
    except MALFORMED:
        return 0
