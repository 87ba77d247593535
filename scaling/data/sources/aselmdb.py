"""ASE's databases in LMDB (.aselmdb), as fairchem publishes OMat24, OMol25, OMC25 and its copies of OC20.

Labels and units: as `ase_db` has them. Stress is that of the calculator (eV/angstrom^3, positive under tension; OMat24
and OMC25 have it), charge and spin (multiplicity, OMol25) stand in the row's data.

Group key, where `group_key` is empty: the reduced formula, whatever the file: these sets scatter the frames of one
trajectory over many files. `group_key` is looked up among the key-value pairs, then in the row's data (fairchem: sid,
source). Take a key that all frames of a trajectory share, not one that numbers the frames.

Layout: decimal row ids, each with its row as ASE's JSON under zlib, and `nextid`, `deleted_ids`, `metadata` likewise.
The other index files of a data set (metadata.npz) are not needed.

Source: ase_db_backends.aselmdb; https://github.com/facebookresearch/fairchem
"""

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from ase.calculators.calculator import all_properties
from ase.db.row import AtomsRow
from ase.io.jsonio import decode

from scaling.data.formats import LmdbFile
from scaling.data.sources.ase_db import MALFORMED_HDF5, AseDb
from scaling.errors import DataError

#: A row is held in memory whole; a larger one is a bomb (a million atoms take about this much JSON).
MAX_ROW_BYTES = 2**28
_RESERVED = (b"nextid", b"deleted_ids", b"metadata")


@dataclass(frozen=True)
class AseLmdb(AseDb):
    """Settings of the reader, see `KeyedSource`; path: one .aselmdb file, or a directory of them.

    group_key: the key-value pair, or entry of the row's data, that names the group; "": the reduced formula.
    """

    name: str = "aselmdb"

    SUFFIXES: ClassVar[tuple[str, ...]] = (".aselmdb",)

    def _list_ids(self, path: Path) -> list[int]:
        """Every id that is in use; refused where their number is not that of the entries."""
        with LmdbFile(path) as file:
            try:
                next_id, stored = (_unpack(file.get(key, MAX_ROW_BYTES)) for key in _RESERVED[:2])
                last = int(1 if next_id is None else next_id) - 1
                deleted = set(np.asarray([] if stored is None else stored).tolist())
            except MALFORMED_HDF5 as error:
                raise DataError(f"{path} is not a whole ASE database: {type(error).__name__}: {error}") from error
            num_rows = file.num_entries - sum(file.get(key, MAX_ROW_BYTES) is not None for key in _RESERVED)
        if num_rows != last - len(deleted):
            raise DataError(
                f"{path} holds {num_rows} rows, but counts {last - len(deleted)}; it is not a whole ASE database"
            )
        return [row_id for row_id in range(1, last + 1) if row_id not in deleted]

    def _load_rows(self, path: Path, ids: Sequence[int]) -> tuple[Any, list[AtomsRow | Exception]]:
        with LmdbFile(path) as file:
            try:
                metadata = _unpack(file.get(b"metadata", MAX_ROW_BYTES))
            except MALFORMED_HDF5 as error:
                raise DataError(f"{path}: its metadata are damaged: {type(error).__name__}: {error}") from error
            return metadata, [_load_row(file, row_id) for row_id in ids]


def _load_row(file: LmdbFile, row_id: int) -> AtomsRow | Exception:
    """One row as ASE has it, or why it cannot be one."""
    try:
        value = file.get(str(row_id).encode(), MAX_ROW_BYTES)
        if value is None:
            return ValueError("there is no such row")
        fields = _unpack(value)
        for key in fields.keys() & set(all_properties):
            if isinstance(fields[key], list):
                fields[key] = np.array(fields[key])
        return AtomsRow(fields)  # type: ignore[no-untyped-call]
    except MALFORMED_HDF5 as error:
        return error


def _unpack(value: bytes | None) -> Any:
    if value is None:
        return None
    inflate = zlib.decompressobj()
    text = inflate.decompress(value, MAX_ROW_BYTES)
    if not inflate.eof:
        raise ValueError(f"cut off, or longer than {MAX_ROW_BYTES} bytes")
    return decode(text.decode())  # type: ignore[no-untyped-call]
