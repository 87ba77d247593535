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

from dataclasses import dataclass

import h5py
import numpy as np
from ase.units import Hartree

from scaling.data.elements import numbers_of_symbols
from scaling.data.formats import ConformerSource, Hdf5File, num_conformers, read_conformers
from scaling.data.manifest import Rejected
from scaling.errors import ConfigError, DataError
from scaling.structure import Structure

SIGNS = {"gradient": -1.0, "forces": 1.0}
_FIELDS = frozenset({"species", "coordinates", "energies"})
_MAX_DEPTH = 16


@dataclass(frozen=True)
class Ani(ConformerSource):
    """Settings of the reader; path: an .h5 file, or a directory of them.

    forces_are: what the data sets called `forces` hold: gradient (+dE/dx, COMP6) or forces (-dE/dx).
    """

    name: str = "ani"
    forces_are: str = "gradient"

    def __post_init__(self) -> None:
        if self.forces_are not in SIGNS:
            raise ConfigError(f"source.forces_are={self.forces_are} must be {' or '.join(SIGNS)}")

    def _list_groups(self, file: Hdf5File) -> list[tuple[str, int]]:
        return _list_molecules(file)

    def _read_range(self, file: Hdf5File, label: str, where: str, start: int, stop: int) -> list[Structure | Rejected]:
        """Conformers of one molecule, in eV; gradients negated where the file has those in place of forces."""
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


def _list_molecules(file: Hdf5File) -> list[tuple[str, int]]:
    """Each molecule by its path, and how many conformers it has (0 if that is unknown)."""
    molecules: list[tuple[str, int]] = []
    seen: set[int] = set()
    any_forces = False

    def visit(where: str, group: h5py.Group) -> None:
        nonlocal any_forces
        address = file.address(group)
        if address in seen or where.count("/") >= _MAX_DEPTH:
            raise DataError(f"{file.path}: {where} is reached twice, or lies deeper than {_MAX_DEPTH} groups")
        seen.add(address)
        names = set(file.names(group))
        if names & _FIELDS:
            any_forces |= "forces" in names
            molecules.append((where, num_conformers(file, group)))
            return
        for name, child in file.subgroups(group):
            visit(f"{where}/{name}".lstrip("/"), child)

    visit("", file.group())
    if not molecules:
        raise DataError(f"{file.path} holds no molecules; they have {', '.join(sorted(_FIELDS))} and forces")
    if not any_forces:
        raise DataError(f"{file.path} holds energies without forces, as ANI-1 does; both are needed")
    return molecules
