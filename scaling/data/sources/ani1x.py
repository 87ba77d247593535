"""The ANI-1x / ANI-1ccx release in HDF5: one group per formula, with several levels of theory side by side.

Layout: `atomic_numbers` (N,), `coordinates` (n, N, 3) in angstrom, and per level `wb97x_dz.energy` (n,) in Hartree
and `wb97x_dz.forces` (n, N, 3) in Hartree/angstrom; NaN where a level was not computed. Energies are total energies.

Sign: the forces are forces, -dE/dx, unlike those of COMP6 (in the first published conformer a stretched O-H bond of
1.03 angstrom pulls the H towards the O). Structures that the level does not cover are counted in one rejection for
each portion of a group. `ccsd(t)_cbs` has energies alone, and is refused.

Group key: the formula, which is the group in the file; conformers and isomers of one formula stay together.

Source: Smith et al., Sci. Data 7, 134 (2020); https://github.com/aiqm/ANI1x_datasets
"""

from dataclasses import dataclass

import numpy as np
from ase.units import Hartree

from scaling.data.elements import whole_numbers
from scaling.data.formats import ConformerSource, Hdf5File, num_conformers, read_conformers
from scaling.data.manifest import Rejected
from scaling.errors import ConfigError
from scaling.structure import Structure

LEVELS = ("wb97x_dz", "wb97x_tz")


@dataclass(frozen=True)
class Ani1x(ConformerSource):
    """Settings of the reader; path: the .h5 file.

    level: of theory: wb97x_dz (wB97x/6-31G*, all structures) or wb97x_tz (wB97x/def2-TZVPP, a tenth of them).
    """

    name: str = "ani1x"
    level: str = "wb97x_dz"

    def __post_init__(self) -> None:
        if self.level not in LEVELS:
            raise ConfigError(
                f"source.level={self.level} must be {' or '.join(LEVELS)}, the levels with energies and forces"
            )

    def _list_groups(self, file: Hdf5File) -> list[tuple[str, int]]:
        return [(formula, num_conformers(file, formula)) for formula, _ in file.subgroups(file.group())]

    def _read_range(self, file: Hdf5File, label: str, where: str, start: int, stop: int) -> list[Structure | Rejected]:
        """Conformers of one composition, in eV; those without labels at this level of theory are rejected."""
        group = file.group(where)
        numbers = whole_numbers(file.values(group, "atomic_numbers", "iu"))
        energies, positions, forces = read_conformers(
            numbers,
            start,
            stop,
            file.dataset(group, f"{self.level}.energy", "f"),
            file.dataset(group, "coordinates", "f"),
            file.dataset(group, f"{self.level}.forces", "f"),
        )
        missing = np.isnan(energies) | np.isnan(forces).any(axis=(1, 2))
        entries: list[Structure | Rejected] = [
            Structure(
                numbers=numbers,
                positions=positions[row],
                cell=np.zeros((3, 3)),
                pbc=np.zeros(3, dtype=bool),
                energy=float(energies[row] * Hartree),
                forces=forces[row] * Hartree,
                group=f"ani1x {where}",
                record=f"{label}/{start + row}",
            )
            for row in np.flatnonzero(~missing).tolist()
        ]
        if missing.any():
            detail = f"{self.level}: {missing.sum()} of the conformers {start} to {stop - 1}"
            entries.append(Rejected(f"{label}/{start}", "level not computed", detail))
        return entries
