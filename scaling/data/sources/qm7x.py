"""QM7-X in HDF5 (1000.hdf5 to 8000.hdf5): a group per molecule, in it a group per conformer.

Layout: `/<molecule>/Geom-m<molecule>-i<isomer>-c<conformer>-<opt or d1 to d100>/` with `atNUM` (N,), `atXYZ` (N, 3)
in angstrom, `ePBE0+MBD` (1,), the total energy in eV, and `totFOR` (N, 3), the PBE0+MBD forces, -dE/dx, in
eV/angstrom. The molecules are not periodic. Conformers that the authors list as duplicates are left to the check for
equal geometries.

Group key: the molecule: its isomers, conformers and displaced copies stay together.

Source: Hoja et al., Sci. Data 8, 43 (2021); https://zenodo.org/record/4288677 (README.txt)
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np

from scaling.data.elements import whole_numbers
from scaling.data.formats.hdf5 import MALFORMED, Hdf5File, Portion, portions
from scaling.data.manifest import Rejected
from scaling.data.source import FileSource, as_rejected
from scaling.errors import DataError
from scaling.structure import Structure


@dataclass(frozen=True)
class Qm7x(FileSource):
    """Settings of the reader; path: one .hdf5 file, or the directory of them."""

    name: str = "qm7x"

    SUFFIXES: ClassVar[tuple[str, ...]] = (".hdf5", ".h5")

    def tasks(self) -> Iterator[tuple[str, Path, Portion]]:
        """Portions of each file: ranges of conformers in a few molecules."""
        for name, path in self.files().items():
            with Hdf5File(path) as file:
                molecules = [(molecule, file.num_entries(group)) for molecule, group in file.subgroups(file.group())]
            if not molecules:
                raise DataError(f"{path} holds no groups; a QM7-X file has one per molecule")
            yield from ((name, path, portion) for portion in portions(molecules))

    def read(self, task: tuple[str, Path, Portion]) -> Iterator[Structure | Rejected]:
        name, path, portion = task
        with Hdf5File(path) as file:
            for molecule, start, stop in portion:
                if not stop:
                    yield Rejected(f"{name}#{molecule}", "no conformers")
                    continue
                try:
                    conformers = file.names(file.group(molecule))[start:stop]
                except MALFORMED as error:
                    yield as_rejected(f"{name}#{molecule}", error)
                    continue
                for conformer in conformers:
                    yield _read_one(file, f"{name}#{molecule}/{conformer}", molecule, conformer)


def _read_one(file: Hdf5File, record: str, molecule: str, conformer: str) -> Structure | Rejected:
    try:
        group = file.group(f"{molecule}/{conformer}")
        numbers = whole_numbers(file.values(group, "atNUM", "iuf"))
        positions, energy, forces = (
            file.values(group, name, "f").astype(np.float64) for name in ("atXYZ", "ePBE0+MBD", "totFOR")
        )
        if energy.size != 1:
            return Rejected(record, "malformed record", f"{energy.size} energies")
    except MALFORMED as error:
        return as_rejected(record, error)
    return Structure(
        numbers=numbers,
        positions=positions,
        cell=np.zeros((3, 3)),
        pbc=np.zeros(3, dtype=bool),
        energy=energy.item(),
        forces=forces,
        group=f"qm7x {molecule}",
        record=record,
    )
