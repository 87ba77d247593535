"""ASE's SQLite databases (.db).

Labels are looked for among the results of the row's calculator, then the key-value pairs, then the row's data (where
SchNetPack and nablaDFT keep them); names, signs and what is done with stress: see `scaling.data.formats.keyed`. Forces
are those computed: constraints kept in the row are not applied (nor decoded).

Units: ASE's own, energy (total) eV, positions and cell angstrom, forces eV/angstrom, -dE/dx; others by settings, or by
the database's metadata: SchNetPack's `_distance_unit` and `_property_unit_dict`, entries like energy_unit, or mappings
like `{"units": {"energy": "Hartree"}}` and `{"energy": {"unit": "Hartree"}}`. Reference
energies of atoms in the metadata (atomrefs) are not used: they are not in the energies, as SchNetPack reads them.

Group key, where `group_key` is empty: the reduced formula, whatever the file. It holds the frames of a trajectory or
relaxation together, also where they are scattered over several databases. Where rows name their trajectory, say so:
`group_key` is looked up where labels are.

A database is opened read-only: neither an empty nor a foreign file is turned into an ASE database.

Source: ase.db.sqlite, versions 5 to 9 of the format.
"""

import sqlite3
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import quote

import numpy as np
from ase.calculators.calculator import all_properties
from ase.db.row import AtomsRow
from ase.db.sqlite import SQLite3Database

from scaling.data.formats import KeyedSource, Record, stated_units
from scaling.data.manifest import Rejected
from scaling.data.source import as_rejected, slices
from scaling.errors import DataError
from scaling.structure import Structure

MALFORMED_HDF5 = (
    LookupError,
    TypeError,
    ValueError,
    AttributeError,
    AssertionError,
    OverflowError,
    RecursionError,
    MemoryError,
    zlib.error,
)
"""What ASE raises on a row that is not as it should be."""
_ROWS_PER_TASK = 256


@dataclass(frozen=True)
class AseDb(KeyedSource):
    """Settings of the reader, see `KeyedSource`; path: one database, or a directory of them.

    group_key: the key-value pair, or entry of the row's data, that names the group; "": the reduced formula.
    """

    name: str = "ase_db"

    RECIPE: ClassVar[int] = 2
    SUFFIXES: ClassVar[tuple[str, ...]] = (".db",)

    def tasks(self) -> Iterator[tuple[str, Path, tuple[int, ...]]]:
        """Name and path of the file, and row ids."""
        for name, path in self.files().items():
            ids = self._list_ids(path)
            if not ids:
                raise DataError(f"{path} holds no row")
            for start, stop in slices(len(ids), _ROWS_PER_TASK):
                yield name, path, tuple(ids[start:stop])

    def read(self, task: tuple[str, Path, tuple[int, ...]]) -> Iterator[Structure | Rejected]:
        name, path, ids = task
        metadata, rows = self._load_rows(path, ids)
        stated = _units_of(path, metadata)
        for row_id, row in zip(ids, rows, strict=True):
            label = f"{name}#{row_id}"
            yield as_rejected(label, row) if isinstance(row, Exception) else self._parse_row(row, label, stated)

    def _parse_row(self, row: Any, label: str, stated: Mapping[str, tuple[str, str]]) -> Structure | Rejected:
        """Read one row of any of ASE's databases."""
        try:
            numbers, pbc = np.asarray(row.numbers), np.asarray(row.pbc)
            if numbers.size == 0:
                return Rejected(label, "no atoms")
            if pbc.dtype.kind not in "bi":
                raise ValueError(f"pbc is {row.pbc!r}")
            results = {name: row[name] for name in all_properties if name in row}
            sections = {"calculator": results, "key-value pairs": row.key_value_pairs, "data": dict(row.data)}
            record = Record(
                label=label,
                numbers=numbers,
                positions=row.positions,
                cell=row.cell,
                pbc=pbc.astype(bool),
                sections=sections,
                stated=stated,
            )
            return self._structure(record)
        except MALFORMED_HDF5 as error:
            return as_rejected(label, error)

    def _list_ids(self, path: Path) -> list[int]:
        with _opened(path) as database:
            ids = [row[0] for row in database.connection.execute("SELECT id FROM systems ORDER BY id")]
        if not all(isinstance(row_id, int) for row_id in ids):
            raise DataError(f"{path} is not an ASE database: its row ids are not whole numbers")
        return ids

    def _load_rows(self, path: Path, ids: Sequence[int]) -> tuple[Any, list[AtomsRow | Exception]]:
        """The metadata, and the rows in the order of their ids; what went wrong in place of a malformed one."""
        rows: list[AtomsRow | Exception] = []
        with _opened(path) as database:
            metadata = database.metadata
            for row_id in ids:
                try:
                    rows.append(database.get(row_id))
                except MALFORMED_HDF5 as error:
                    rows.append(error)
        return metadata, rows


class _ReadOnly(SQLite3Database):
    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(f"file:{quote(str(self.filename))}?mode=ro", uri=True, timeout=20)
        connection.execute("PRAGMA trusted_schema=OFF")
        return connection


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """Open a database for reading; what is wrong with the file as a whole becomes a DataError."""
    try:
        with _ReadOnly(str(path.resolve()), serial=True) as database:
            kind = database.connection.execute("SELECT type FROM sqlite_master WHERE name='systems'").fetchone()
            if kind != ("table",):
                raise DataError(f"{path} is not an ASE database: it has no table of systems")
            with database.managed_connection():  # reads the version
                pass
            yield database
    except (sqlite3.Error, OSError, *MALFORMED_HDF5) as error:
        raise DataError(f"{path} is not a whole ASE database: {type(error).__name__}: {error}") from error


def _units_of(path: Path, metadata: Any) -> dict[str, tuple[str, str]]:
    """What a database's metadata say of units, by quantity, or by the label's name.

    Raises:
        DataError: if they are not understood.
    """
    if not isinstance(metadata, Mapping):
        return {}
    try:
        return stated_units(metadata)
    except ValueError as error:
        raise DataError(f"{path}: metadata: {error}") from error
