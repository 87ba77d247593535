"""The ANI-1x / ANI-1ccx release in HDF5: one group per formula, with several levels of theory side by side.

Layout: `atomic_numbers` (N,), `coordinates` (n, N, 3) in angstrom, and per level `wb97x_dz.energy` (n,) in Hartree
and `wb97x_dz.forces` (n, N, 3) in Hartree/angstrom; NaN where a level was not computed. Energies are total energies.

Sign: the forces are forces, -dE/dx, unlike those of COMP6 (in the first published conformer a stretched O-H bond of
1.03 angstrom pulls the H towards the O). Structures that the level does not cover are counted in one rejection for
each portion of a group. `ccsd(t)_cbs` has energies alone, and is refused.

Group key: the formula, which is the group in the file; conformers and isomers of one formula stay together.

Source: Smith et al., Sci. Data 7, 134 (2020); https://github.com/aiqm/ANI1x_datasets
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from ase.units import Hartree

from scaling.data.elements import whole_numbers
from scaling.data.formats.hdf5 import MALFORMED, Hdf5File, Portion, portions, read_conformers
from scaling.data.manifest import Rejected
from scaling.data.source import FileSource, as_rejected
from scaling.errors import ConfigError, DataError
from scaling.structure import Structure

LEVELS = ("wb97x_dz", "wb97x_tz")


@dataclass(frozen=True)
class Ani1x(FileSource):
    """Settings of the reader; path: the .h5 file.

    level: of theory: wb97x_dz (wB97x/6-31G*, all structures) or wb97x_tz (wB97x/def2-TZVPP, a tenth of them).
    """

    name: str = "ani1x"
    level: str = "wb97x_dz"

    SUFFIXES: ClassVar[tuple[str, ...]] = (".h5", ".hdf5")

    def __post_init__(self) -> None:
        if self.level not in LEVELS:
            raise ConfigError(
                f"source.level={self.level} must be {' or '.join(LEVELS)}, the levels with energies and forces"
            )

    def identity(self) -> Mapping[str, Any]:
        return {"recipe": self.RECIPE, "level": self.level}

    def tasks(self) -> Iterator[tuple[str, Path, Portion]]:
        """Portions of each file: ranges of conformers in a few groups."""
        for name, path in self.files().items():
            with Hdf5File(path) as file:
                groups = [(formula, _num_conformers(file, formula)) for formula, _ in file.subgroups(file.group())]
            if not groups:
                raise DataError(f"{path} holds no groups; an ANI-1x file has one per formula")
            yield from ((name, path, portion) for portion in portions(groups))

    def read(self, task: tuple[str, Path, Portion]) -> Iterator[Structure | Rejected]:
        name, path, portion = task
        with Hdf5File(path) as file:
            for formula, start, stop in portion:
                try:
                    entries = self._read_range(file, f"{name}#{formula}", formula, start, stop)
                except MALFORMED as error:
                    entries = [as_rejected(f"{name}#{formula}/{start}", error)]
                yield from entries

    def _read_range(
        self, file: Hdf5File, label: str, formula: str, start: int, stop: int
    ) -> list[Structure | Rejected]:
        group = file.group(formula)
        numbers = whole_numbers(file.values(group, "atomic_numbers", "iu"))
        energies, positions, forces = read_conformers(
            numbers,
            start,
            stop,
            file.dataset(group, f"{self.level}.energy", "f"),
            file.dataset(group, "coordinates", "f"),
            file.dataset(group, f"{self.level}.forces", "f"),
        )
        if not stop:
            return [Rejected(label, "no conformers")]
        missing = np.isnan(energies) | np.isnan(forces).any(axis=(1, 2))
        entries: list[Structure | Rejected] = [
            Structure(
                numbers=numbers,
                positions=positions[row],
                cell=np.zeros((3, 3)),
                pbc=np.zeros(3, dtype=bool),
                energy=float(energies[row] * Hartree),
                forces=forces[row] * Hartree,
                group=f"ani1x {formula}",
                record=f"{label}/{start + row}",
            )
            for row in np.flatnonzero(~missing).tolist()
        ]
        if missing.any():
            detail = f"{self.level}: {missing.sum()} of the conformers {start} to {stop - 1}"
            entries.append(Rejected(f"{label}/{start}", "level not computed", detail))
        return entries


def _num_conformers(file: Hdf5File, formula: str) -> int:
    """Rows of the coordinates; 0 if they are malformed, which reading them will say."""
    try:
        return len(file.dataset(file.group(formula), "coordinates", "f"))
    except MALFORMED:
        return 0
