"""QM7-X in HDF5 (1000.hdf5 to 8000.hdf5): a group per molecule, in it a group per conformer.

Layout: `/<molecule>/Geom-m<molecule>-i<isomer>-c<conformer>-<opt or d1 to d100>/` with `atNUM` (N,), `atXYZ` (N, 3)
in angstrom, `ePBE0+MBD` (1,), the total energy in eV, and `totFOR` (N, 3), the PBE0+MBD forces, -dE/dx, in
eV/angstrom. The molecules are not periodic. Conformers that the authors list as duplicates are left to the check for
equal geometries.

Group key: the molecule: its isomers, conformers and displaced copies stay together.

Source: Hoja et al., Sci. Data 8, 43 (2021); https://zenodo.org/record/4288677 (README.txt)
"""

from dataclasses import dataclass

import numpy as np

from scaling.data.elements import whole_numbers
from scaling.data.formats import MALFORMED_HDF5, ConformerSource, Hdf5File
from scaling.data.manifest import Rejected
from scaling.data.source import as_rejected
from scaling.structure import Structure


@dataclass(frozen=True)
class Qm7x(ConformerSource):
    """Settings of the reader; path: one .hdf5 file, or the directory of them."""

    name: str = "qm7x"

    def _list_groups(self, file: Hdf5File) -> list[tuple[str, int]]:
        return [(molecule, file.num_entries(group)) for molecule, group in file.subgroups(file.group())]

    def _read_range(self, file: Hdf5File, label: str, where: str, start: int, stop: int) -> list[Structure | Rejected]:
        names = file.names(file.group(where))[start:stop]
        return [_read_one(file, f"{label}/{name}", where, name) for name in names]


def _read_one(file: Hdf5File, record: str, molecule: str, conformer: str) -> Structure | Rejected:
    """One conformer with its PBE0+MBD energy and forces."""
    try:
        group = file.group(f"{molecule}/{conformer}")
        numbers = whole_numbers(file.values(group, "atNUM", "iuf"))
        positions, energy, forces = (
            file.values(group, name, "f").astype(np.float64) for name in ("atXYZ", "ePBE0+MBD", "totFOR")
        )
        if energy.size != 1:
            return Rejected(record, "malformed record", f"{energy.size} energies")
    except MALFORMED_HDF5 as error:
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
