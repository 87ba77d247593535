"""HDF5 files with a group for each molecule and many conformers in it: SPICE, Transition1x and their kin.

Layout: groups within groups; a molecule holds atomic numbers (N,), positions (n, N, 3), energies (n,), and forces or
gradients (n, N, 3), by the names that `scaling.data.formats.arrays` knows: SPICE's conformations, dft_total_energy and
dft_total_gradient (negated), Transition1x's `wB97x_6-31G(d).energy` and `.forces`. Isolated molecules: no cell. What
lies below a molecule (Transition1x: reactant, product and transition state, each also a file of its own) is not read.

Units: the attribute `units` of each data set, as SPICE has it (bohr, hartree, hartree/bohr); Transition1x, which has
none, is in eV and angstrom as published; any other file needs `energy_unit`.

Sets: where a file holds `train`, `val` and `test`, as Transition1x does beside `data` with all of them, these are read
and not `data`; `test` is held out as the authors' test set.

Group key: Transition1x: the formula, since its reactions share molecules; else the path of the molecule in the file.

Source: Eastman et al., Sci. Data 10, 11 (2023), https://github.com/openmm/spice-dataset; Schreiner et al., Sci. Data 9,
779 (2022), https://gitlab.com/matschreiner/Transition1x
"""

from dataclasses import dataclass
from typing import Any, ClassVar

import h5py
import numpy as np

from scaling.data.formats import MALFORMED_HDF5, ConformerSource, Hdf5File, KeyedSource, Record, arrays
from scaling.data.manifest import Rejected
from scaling.data.source import as_rejected
from scaling.errors import DataError
from scaling.structure import Structure

_SPLITS = ("train", "val", "test")
_TRANSITION1X = "wB97x_6-31G(d).energy"
_EV = {"energy": "eV", "forces": "eV/Ang", "length": "Ang"}
_MAX_DEPTH = 16


@dataclass(frozen=True)
class Hdf5Groups(KeyedSource, ConformerSource):
    """Settings of the reader, see `KeyedSource`; path: one .h5 or .hdf5 file, or a directory of them."""

    name: str = "hdf5"

    NAMES: ClassVar[Any] = arrays.ARRAY_NAMES

    def _list_groups(self, file: Hdf5File) -> list[tuple[str, int]]:
        """Each molecule by its path, and how many conformers it has (0 if that is unknown)."""
        molecules: list[tuple[str, int]] = []
        seen: set[int] = set()

        def visit(where: str, group: h5py.Group, depth: int) -> None:
            if (address := file.address(group)) in seen or depth > _MAX_DEPTH:
                raise DataError(f"{file.path}: {where} is reached twice, or lies deeper than {_MAX_DEPTH} groups")
            seen.add(address)
            names = file.names(group)
            if positions := arrays.first_of(names, arrays.POSITIONS):
                molecules.append((where, _length(file, group, positions)))
                return
            for name, child in file.subgroups(group):
                if not (name == "data" and depth == 0 and set(_SPLITS) <= set(names)):
                    visit(f"{where}/{name}".lstrip("/"), child, depth + 1)

        visit("", file.group(), 0)
        if not molecules:
            raise DataError(f"{file.path} holds no molecules: groups with positions ({', '.join(arrays.POSITIONS)})")
        return molecules

    def _read_range(self, file: Hdf5File, label: str, where: str, start: int, stop: int) -> list[Structure | Rejected]:
        group = file.group(where)
        names = file.names(group)
        found = [arrays.first_of(names, known) for known in (arrays.NUMBERS, arrays.POSITIONS)]
        if found[0] is None or found[1] is None:
            raise KeyError(f"no atomic numbers among {', '.join(names)[:100]}")
        numbers = arrays.atomic_numbers_of(file.values(group, found[0], "iuSU"))
        positions = file.dataset(group, found[1], "f")
        if positions.ndim != 3 or positions.shape[1:] != (len(numbers), 3):
            raise ValueError(f"{found[1]} has shape {positions.shape}, not (conformers, {len(numbers)}, 3)")
        columns: dict[str, Any] = {}
        stated = dict(_stated(positions, "length"))
        for name in (name for name in names if name not in found):
            if (column := _column(file, group, name, len(positions))) is not None:
                columns[name] = column[start:stop]
                stated |= _stated(column, name)
        layout = _EV if _TRANSITION1X in names else {}
        if energy := self._find({"data sets": columns}, "energy"):
            known = {"energy": stated[energy[0]]} if energy[0] in stated else {}
            arrays.require_units(file.path, self.energy_unit, known, layout)
        else:
            forces = self._find({"data sets": columns}, "forces")
            arrays.require_unit_of_forces(file.path, self.force_unit or self.energy_unit, forces, stated, layout)
        split, _, rest = where.partition("/")
        in_split = split in _SPLITS and rest
        return [
            self._parse(
                Record(
                    label=f"{label}/{start + row}",
                    numbers=numbers,
                    positions=place,
                    cell=np.zeros((3, 3)),
                    pbc=np.zeros(3, dtype=bool),
                    sections={"data sets": {name: column[row] for name, column in columns.items()}},
                    group=_group(rest if in_split else where, names),
                    stated=stated,
                    layout=layout,
                    holdout="test" if in_split and split == "test" else "",
                )
            )
            for row, place in enumerate(positions[start:stop])
        ]

    def _parse(self, record: Record) -> Structure | Rejected:
        try:
            return self._structure(record)
        except (LookupError, TypeError, ValueError, OverflowError) as error:
            return as_rejected(record.label, error)


def _group(where: str, names: list[str]) -> str:
    return where.partition("/")[0] if _TRANSITION1X in names else where


def _length(file: Hdf5File, group: h5py.Group, positions: str) -> int:
    try:
        return len(file.dataset(group, positions, "f"))
    except MALFORMED_HDF5:
        return 0


def _column(file: Hdf5File, group: h5py.Group, name: str, num_rows: int) -> h5py.Dataset | None:
    """A data set of numbers with a row a conformer; None if it is anything else.

    Raises:
        ValueError: if it should be one by its name.
    """
    try:
        found = file.dataset(group, name, "fiu")
    except (TypeError, KeyError):
        return None
    if found.ndim and len(found) == num_rows:
        return found
    if arrays.is_label(name):
        raise ValueError(f"{name} has shape {found.shape}, and there are {num_rows} conformers")
    return None


def _stated(dataset: h5py.Dataset, what: str) -> dict[str, tuple[str, str]]:
    """The unit that a data set's attributes state, by what it is of."""
    text = arrays.text_of(dataset.attrs["units"]) if "units" in dataset.attrs else None
    return {what: (f"{dataset.name} units", text)} if text else {}
