"""ASE's SQLite databases (.db).

Units: ASE's own, energy (total) eV, positions and cell angstrom, forces eV/angstrom, -dE/dx. Energy and forces are
those of the row's calculator, forces as computed: constraints kept in the row are not applied (nor decoded).

Group key, where `group_key` is empty: the reduced formula, whatever the file. It holds the frames of a trajectory or
relaxation together, also where they are scattered over several databases. Where rows name their trajectory, say so:
`group_key` is looked up among the key-value pairs, then in the row's data.

A database is opened read-only: neither an empty nor a foreign file is turned into an ASE database.

Source: ase.db.sqlite, versions 5 to 9 of the format.
"""

import sqlite3
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from numbers import Real
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import quote

import numpy as np
from ase.db.row import AtomsRow
from ase.db.sqlite import SQLite3Database

from scaling.data.elements import reduced_formula
from scaling.data.manifest import Rejected
from scaling.data.source import FileSource, as_rejected, slices
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
class AseDb(FileSource):
    """Settings of the reader; path: one database, or a directory of them.

    group_key: the key-value pair, or entry of the row's data, that names the group; "": the reduced formula.
    """

    name: str = "ase_db"
    group_key: str = ""

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
        for row_id, row in zip(ids, self._load_rows(path, ids), strict=True):
            label = f"{name}#{row_id}"
            yield as_rejected(label, row) if isinstance(row, Exception) else _parse_row(row, label, self.group_key)

    def _list_ids(self, path: Path) -> list[int]:
        with _opened(path) as database:
            ids = [row[0] for row in database.connection.execute("SELECT id FROM systems ORDER BY id")]
        if not all(isinstance(row_id, int) for row_id in ids):
            raise DataError(f"{path} is not an ASE database: its row ids are not whole numbers")
        return ids

    def _load_rows(self, path: Path, ids: Sequence[int]) -> list[AtomsRow | Exception]:
        """The rows in the order of their ids; what went wrong in place of a malformed one."""
        rows: list[AtomsRow | Exception] = []
        with _opened(path) as database:
            for row_id in ids:
                try:
                    rows.append(database.get(row_id))
                except MALFORMED_HDF5 as error:
                    rows.append(error)
        return rows


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


def _parse_row(row: Any, label: str, group_key: str) -> Structure | Rejected:
    """Read one row of any of ASE's databases."""
    try:
        energy, forces = row.get("energy"), row.get("forces")
        if energy is None or forces is None:
            return Rejected(label, f"missing {'energy' if energy is None else 'forces'}")
        if isinstance(energy, bool) or not isinstance(energy, Real):
            raise ValueError(f"energy {energy!r} is not a number")
        numbers, pbc = np.asarray(row.numbers), np.asarray(row.pbc)
        if numbers.size == 0:
            return Rejected(label, "no atoms")
        if pbc.dtype.kind not in "bi":
            raise ValueError(f"pbc is {row.pbc!r}")
        if not group_key:
            group = reduced_formula(numbers)
        elif group_key in row.key_value_pairs:
            group = str(row.key_value_pairs[group_key])
        elif group_key in row.data:
            group = str(row.data[group_key])
        else:
            return Rejected(label, "missing group key", group_key)
        return Structure(
            numbers=numbers,
            positions=np.asarray(row.positions, dtype=np.float64),
            cell=np.asarray(row.cell, dtype=np.float64),
            pbc=pbc.astype(bool),
            energy=float(energy),
            forces=np.asarray(forces, dtype=np.float64),
            group=group,
            record=label,
        )
    except MALFORMED_HDF5 as error:
        return as_rejected(label, error)
