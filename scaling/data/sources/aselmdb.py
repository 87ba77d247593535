"""ASE's databases in LMDB (.aselmdb), as fairchem publishes OMat24, OMol25, OMC25 and its copies of OC20.

Units: ASE's own, energy (total) eV, positions and cell angstrom, forces eV/angstrom, -dE/dx; those of the row's
calculator, forces as computed.

Group key, where `group_key` is empty: the reduced formula, whatever the file: these sets scatter the frames of one
trajectory over many files. `group_key` is looked up among the key-value pairs, then in the row's data (fairchem: sid,
source). Take a key that all frames of a trajectory share, not one that numbers the frames.

Layout: decimal row ids, each with its row as ASE's JSON under zlib, and `nextid`, `deleted_ids`, `metadata` likewise.
Ids are listed from the keys themselves. The other index files of a data set (metadata.npz) are not needed.

Source: ase_db_backends.aselmdb; https://github.com/facebookresearch/fairchem
"""

import subprocess
import sys
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from ase.calculators.calculator import all_properties
from ase.db.row import AtomsRow
from ase.io.jsonio import decode

from scaling.data.sources.ase_db import MALFORMED, AseDb
from scaling.errors import ConfigError, DataError

#: A row is held in memory whole; a larger one is a bomb (a million atoms take about this much JSON).
MAX_ROW_BYTES = 2**28
_RESERVED = {b"nextid", b"deleted_ids", b"metadata"}
_WALK = """
import sys, lmdb
with lmdb.open(sys.argv[1], subdir=False, readonly=True, lock=False, create=False) as environment:
    with environment.begin() as transaction:
        for key in transaction.cursor().iternext(values=False):
            print(key.hex())
"""


@dataclass(frozen=True)
class AseLmdb(AseDb):
    """Settings of the reader; path: one .aselmdb file, or a directory of them.

    group_key: the key-value pair, or entry of the row's data, that names the group; "": the reduced formula.
    """

    name: str = "aselmdb"

    SUFFIXES: ClassVar[tuple[str, ...]] = (".aselmdb",)

    def _list_ids(self, path: Path) -> list[int]:
        with _transaction(path) as transaction:
            keys = set(_list_keys(path)) - _RESERVED
            if foreign := [key for key in keys if not key.isdigit()]:
                raise DataError(f"{path} is not an ASE database: it has a key {foreign[0][:60]!r}")
            next_id = _unpack(transaction.get(b"nextid", zlib.compress(b"1")))
            deleted = _unpack(transaction.get(b"deleted_ids", zlib.compress(b"[]")))
            expected = int(next_id) - 1 - len(set(np.asarray(deleted).tolist()))
        if len(keys) != expected:
            raise DataError(f"{path} holds {len(keys)} rows, but counts {expected}; it is not a whole ASE database")
        return sorted(int(key) for key in keys)

    def _load_rows(self, path: Path, ids: Sequence[int]) -> list[AtomsRow | Exception]:
        with _transaction(path) as transaction:  # closed before a row is handed on: LMDB opens a file once a process
            values = [transaction.get(str(row_id).encode()) for row_id in ids]
        return [_decode_row(value) for value in values]


def _decode_row(value: bytes) -> AtomsRow | Exception:
    try:
        fields = _unpack(value)
        for key in fields.keys() & set(all_properties):
            if isinstance(fields[key], list):
                fields[key] = np.array(fields[key])
        return AtomsRow(fields)  # type: ignore[no-untyped-call]
    except MALFORMED as error:
        return error


def _unpack(value: bytes) -> Any:
    inflate = zlib.decompressobj()
    text = inflate.decompress(value, MAX_ROW_BYTES)
    if not inflate.eof:
        raise ValueError(f"cut off, or longer than {MAX_ROW_BYTES} bytes")
    return decode(text.decode())  # type: ignore[no-untyped-call]


def _list_keys(path: Path) -> list[bytes]:
    """List the keys in a process of its own: where pages are damaged, LMDB ends the process that walks over them."""
    done = subprocess.run([sys.executable, "-P", "-c", _WALK, str(path)], capture_output=True, check=False)
    if done.returncode:
        last_words = done.stderr.decode(errors="replace").strip()[-200:]
        raise DataError(f"{path} is damaged; its keys cannot be listed: {last_words or f'signal {-done.returncode}'}")
    return [bytes.fromhex(line) for line in done.stdout.decode().split()]


@contextmanager
def _transaction(path: Path) -> Iterator[Any]:
    """Open a database for reading; what is wrong with the file as a whole becomes a DataError."""
    try:
        import lmdb
    except ImportError as error:
        raise ConfigError(f"{path}: reading .aselmdb files needs `pip install gnn-scaling[aselmdb]`") from error
    try:
        with lmdb.open(str(path), subdir=False, readonly=True, lock=False, create=False) as environment:
            num_bytes = (environment.info()["last_pgno"] + 1) * environment.stat()["psize"]
            if path.stat().st_size < num_bytes:  # reading beyond the end of a mapped file would kill the process
                raise DataError(f"{path} is cut off: it has {path.stat().st_size} of {num_bytes} bytes")
            with environment.begin() as transaction:
                yield transaction
    except (lmdb.Error, OSError, *MALFORMED) as error:
        raise DataError(f"{path} is not a whole ASE database: {type(error).__name__}: {error}") from error
