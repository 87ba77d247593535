"""Parquet files with a row for each structure, as data sets of atoms lie on Hugging Face.

Layouts: ColabFit (atomic_numbers, positions, cell, pbc, energy, atomic_forces, cauchy_stress) and LeMat-Traj of
LeMaterial (species_at_sites, cartesian_site_positions, lattice_vectors, dimension_types, energy, forces,
stress_tensor), both in eV and angstrom; others by the names of `scaling.data.formats.arrays`. ColabFit's stress is in
eV/angstrom^3, or is not divided by the volume yet, which cauchy_stress_volume_normalized says; LeMat-Traj does not say
the unit of its stress_tensor, so `stress_unit` must (-kbar for what VASP prints). Any other file needs `energy_unit`,
unless a column or the schema's metadata states it. A cell without pbc is periodic in all directions.

Group key, where `group_key` is empty: the reduced formula. `group_key` is any column.

Source: https://materials.colabfit.org/docs/configuration_schema;
https://huggingface.co/datasets/LeMaterial/LeMat-Traj
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet

from scaling.data.formats import KeyedSource, Record, arrays, stated_units
from scaling.data.manifest import Rejected
from scaling.data.source import as_rejected
from scaling.errors import DataError
from scaling.structure import Structure

_ROWS_AT_ONCE = 256
_EV = {"energy": "eV", "forces": "eV/Ang", "length": "Ang", "stress": "eV/Ang^3"}
_PUBLISHED = {"atomic_forces": _EV, "cartesian_site_positions": {**_EV, "stress": ""}}
_NORMALISED = "cauchy_stress_volume_normalized"


@dataclass(frozen=True)
class Parquet(KeyedSource):
    """Settings of the reader, see `KeyedSource`; path: one .parquet file, or a directory of them."""

    name: str = "parquet"

    SUFFIXES: ClassVar[tuple[str, ...]] = (".parquet",)
    NAMES: ClassVar[Mapping[str, tuple[str, ...]]] = arrays.ARRAY_NAMES

    def tasks(self) -> Iterator[tuple[str, Path, int, int]]:
        """Name and path of the file, a group of rows, the number of its first row."""
        for name, path in self.files().items():
            with _opened(path) as file:
                columns = file.schema_arrow.names
                for known, what in ((arrays.NUMBERS, "atomic numbers"), (arrays.POSITIONS, "positions")):
                    if arrays.first_of(columns, known) is None:
                        raise DataError(f"{path} has no column of {what}; it has {', '.join(columns)[:200]}")
                stated = {} if any("unit" in c for c in columns) else _metadata(path, file)
                if not any("unit" in column for column in columns):
                    arrays.require_units(path, self.energy_unit, stated, _layout(columns))
                sizes = [file.metadata.row_group(k).num_rows for k in range(file.num_row_groups)]
            if not sum(sizes):
                raise DataError(f"{path} holds no row")
            for number, size in enumerate(sizes):
                if size:
                    yield name, path, number, sum(sizes[:number])

    def read(self, task: tuple[str, Path, int, int]) -> Iterator[Structure | Rejected]:
        name, path, number, index = task
        with _opened(path) as file:
            layout, stated = _layout(file.schema_arrow.names), _metadata(path, file)
            for batch in file.iter_batches(_ROWS_AT_ONCE, row_groups=[number]):
                for row in batch.to_pylist():
                    yield self._parse(row, f"{name}#{index}", stated, layout)
                    index += 1

    def _parse(
        self, row: dict[str, Any], label: str, stated: Mapping[str, tuple[str, str]], layout: Mapping[str, str]
    ) -> Structure | Rejected:
        try:
            record = _record(row, label, stated, layout)
            if not (self.energy_unit or "energy" in record.stated or "energy" in layout):
                return Rejected(label, "unit not stated", "of the energy: say source.energy_unit")
            structure = self._structure(record)
        except (LookupError, TypeError, ValueError, OverflowError) as error:
            return as_rejected(label, error)
        if isinstance(structure, Structure) and structure.stress is not None and row.get(_NORMALISED) is False:
            return replace(structure, stress=structure.stress / abs(np.linalg.det(structure.cell)))
        return structure


def _record(
    row: dict[str, Any], label: str, stated: Mapping[str, tuple[str, str]], layout: Mapping[str, str]
) -> Record:
    """One row.

    Raises:
        ValueError, TypeError: if its arrays are none.
    """
    names = [arrays.first_of(row, known) for known in (arrays.NUMBERS, arrays.POSITIONS, arrays.CELLS, arrays.PBCS)]
    numbers, positions, cell, pbc = (row[name] if name else None for name in names)
    if numbers is None or positions is None:
        raise ValueError("no atomic numbers" if numbers is None else "no positions")
    lattice = np.zeros((3, 3)) if cell is None else np.array(cell, dtype=np.float64).reshape(3, 3)
    flags = np.array(bool(lattice.any()) if pbc is None else pbc)
    if flags.shape not in ((), (3,)) or flags.dtype.kind not in "biu":
        raise ValueError(f"pbc is {pbc!r:.40}")
    values = {key: _value(value) for key, value in row.items() if key not in names}
    return Record(
        label=label,
        numbers=arrays.atomic_numbers_of(np.array(numbers)),
        positions=np.array(positions, dtype=np.float64),
        cell=lattice,
        pbc=np.broadcast_to(flags.astype(bool), 3),
        sections={"columns": values},
        stated={**stated, **stated_units(values)},
        layout=layout,
    )


def _value(value: Any) -> Any:
    """Lists of numbers as arrays, whatever else as it is."""
    if not isinstance(value, list):
        return value
    try:
        array = np.array(value)
    except ValueError:  # ragged
        return value
    return array if array.dtype.kind in "fiub" else value


def _layout(columns: list[str]) -> Mapping[str, str]:
    return next((layout for name, layout in _PUBLISHED.items() if name in columns), {})


def _metadata(path: Path, file: pa.parquet.ParquetFile) -> dict[str, tuple[str, str]]:
    """Units in the metadata of the schema.

    Raises:
        DataError: if `units` there is not understood.
    """
    entries = {k.decode("latin1"): v.decode("latin1") for k, v in (file.schema_arrow.metadata or {}).items()}
    try:
        return stated_units(dict(entries))
    except ValueError as error:
        raise DataError(f"{path}: metadata: {error}") from error


@contextmanager
def _opened(path: Path) -> Iterator[pa.parquet.ParquetFile]:
    """Open a file; what is wrong with it as a whole becomes a DataError."""
    try:
        with pa.parquet.ParquetFile(path, memory_map=False) as file:
            yield file
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} is not a whole Parquet file: {' '.join(str(error).split())[:200]}") from error
