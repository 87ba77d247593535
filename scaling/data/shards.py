"""Structures on disk: flat arrays in HDF5, no edges, read through memory maps.

One shard holds, for S structures of A atoms in all, the fields of `scaling.structure.FIELDS` (per atom (A, ...), per
structure (S, ...)) and `offsets` (S + 1,): atoms of structure s are rows offsets[s]:offsets[s + 1]. All contiguous and
uncompressed, written once. num_edges is stored, the edges are not: they cost sixty times the atoms.
"""

import hashlib
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import ArrayLike, NDArray

from scaling.data.manifest import ShardFile, read_manifest
from scaling.errors import DataError
from scaling.structure import FIELDS

SCHEMA = "gnn-scaling structures 1"
ALIGNMENT_BYTES = 64
_TABLES = ("num_edges", "group", "holdout", "energy")  # small enough to hold in memory for all structures
_MAPPED = ("numbers", "positions", "forces", "cell", "pbc")

Columns = Mapping[str, NDArray[Any]]


@dataclass(frozen=True)
class StoredStructure:
    """One structure as it is stored: numbers (N,) uint8; positions (N, 3), forces (N, 3), cell (3, 3) float32; pbc
    (3,) bool; total energy in eV. The arrays are the caller's own."""

    numbers: NDArray[np.uint8]
    positions: NDArray[np.float32]
    cell: NDArray[np.float32]
    pbc: NDArray[np.bool_]
    energy: float
    forces: NDArray[np.float32]


class ShardSet:
    """All structures of a prepared directory, numbered 0 to num_structures - 1 in the order of its manifest.

    Opening reads the per-structure tables and checks every file's size and layout (not its checksum: `verify` does).
    Files are mapped on first use in each process, so the object may be pickled, or inherited by a forked worker.

    Attributes:
        manifest: the directory's manifest.
        num_structures: S.
        num_atoms: (S,) int64. num_edges: (S,) int32, directed pairs within manifest.cutoff_ang.
        group: (S,) int64. holdout: (S,) uint8, index into manifest.holdouts. energy: (S,) float64, eV.
    """

    num_edges: NDArray[np.int32]
    group: NDArray[np.int64]
    holdout: NDArray[np.uint8]
    energy: NDArray[np.float64]

    def __init__(self, path: str | os.PathLike[str]) -> None:
        """Open a prepared directory.

        Raises:
            DataError: if the directory, its manifest or a shard is missing, truncated, or of another layout.
        """
        self.path = Path(path).absolute()
        self.manifest = read_manifest(self.path)
        if not self.manifest.shards:
            raise DataError(f"{self.path} lists no shards; prepare the data again")
        tables = [_read_tables(self.path / shard.file, shard) for shard in self.manifest.shards]
        for name in _TABLES:
            setattr(self, name, np.concatenate([table[name] for table in tables]))
        self.num_atoms: NDArray[np.int64] = np.concatenate([np.diff(table["offsets"]) for table in tables])
        self.num_structures = len(self.num_atoms)
        self._first_atom = np.concatenate([table["offsets"][:-1] for table in tables])
        self._first_structure = np.cumsum([0, *(shard.num_structures for shard in self.manifest.shards)])
        self._maps: dict[int, Columns] = {}

    def __len__(self) -> int:
        return self.num_structures

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_maps": {}}

    def read(self, index: int) -> StoredStructure:
        """Read one structure.

        Raises:
            IndexError: if index is not in [0, num_structures).
            DataError: if the shard has gone or changed since it was opened.
        """
        if not 0 <= index < self.num_structures:
            raise IndexError(f"structure {index} of {self.num_structures}")
        shard = int(np.searchsorted(self._first_structure, index, side="right")) - 1
        columns = self._columns(shard)
        row = index - self._first_structure[shard]
        start = self._first_atom[index]
        stop = start + self.num_atoms[index]
        return StoredStructure(
            numbers=columns["numbers"][start:stop].copy(),
            positions=columns["positions"][start:stop].copy(),
            cell=columns["cell"][row].copy(),
            pbc=columns["pbc"][row].astype(bool),
            energy=float(self.energy[index]),
            forces=columns["forces"][start:stop].copy(),
        )

    def composition(self, indices: ArrayLike) -> NDArray[np.int64]:
        """Count the atoms of each element of manifest.elements in each structure.

        Args:
            indices: (B,) structures.

        Returns:
            (B, num_elements) int64.
        """
        wanted = np.asarray(indices, dtype=np.int64)
        num_elements = len(self.manifest.elements)
        column_of = np.full(256, -1)
        column_of[list(self.manifest.elements)] = np.arange(num_elements)
        counts = np.zeros((len(wanted), num_elements), np.int64)
        shard_of = np.searchsorted(self._first_structure, wanted, side="right") - 1
        for shard in np.unique(shard_of):
            first, last = self._first_structure[shard], self._first_structure[shard + 1]
            columns = column_of[self._columns(int(shard))["numbers"]]
            if (columns < 0).any():
                raise DataError(f"{self._file(int(shard))} holds an element that the manifest does not list")
            rows = np.repeat(np.arange(last - first), self.num_atoms[first:last])
            table = np.bincount(rows * num_elements + columns, minlength=(last - first) * num_elements)
            chosen = shard_of == shard
            counts[chosen] = table.reshape(-1, num_elements)[wanted[chosen] - first]
        return counts

    def _file(self, shard: int) -> Path:
        return self.path / self.manifest.shards[shard].file

    def _columns(self, shard: int) -> Columns:
        if shard not in self._maps:
            self._maps[shard] = map_columns(self._file(shard))
        return self._maps[shard]


def write_shard(path: Path, columns: Columns) -> None:
    """Write one shard in one step: readers see the whole file or none.

    Args:
        path: the .h5 file.
        columns: `offsets` (S + 1,) int64 and every field of FIELDS, per atom (A, ...) or per structure (S, ...).

    Raises:
        OSError: if the disk is full or the directory cannot be written.
    """
    image = _file_image(columns)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with temporary.open("wb") as stream:
            stream.write(image)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _file_image(columns: Columns) -> bytes:
    """Lay the file out in memory: on a full disk HDF5 itself prints stacks and can bring the process down."""
    with h5py.File(
        "image",
        "w",
        driver="core",
        backing_store=False,
        libver="v110",
        alignment_threshold=1,
        alignment_interval=ALIGNMENT_BYTES,
    ) as file:
        file.attrs["schema"] = SCHEMA
        for name in (*FIELDS, "offsets"):
            values = np.ascontiguousarray(columns[name], dtype=_stored_dtype(name))
            dataset = file.create_dataset(name, data=values)
            dataset.attrs["unit"] = FIELDS[name].unit if name in FIELDS else ""
        file.flush()
        image: bytes = file.id.get_file_image()
    return image


def map_columns(path: Path) -> Columns:
    """Map the large fields of a shard read-only; the mapping closes with the last array that refers to it.

    Raises:
        DataError: if the file is missing or not a shard.
    """
    with _open(path) as file:
        layout = {name: (file[name].id.get_offset(), file[name].dtype, file[name].shape) for name in _MAPPED}
    raw = np.asarray(np.memmap(path, dtype=np.uint8, mode="r"))
    return {
        name: raw[start : start + dtype.itemsize * int(np.prod(shape))].view(dtype).reshape(shape)
        for name, (start, dtype, shape) in layout.items()
    }


def read_columns(path: Path) -> dict[str, NDArray[Any]]:
    """Read every field and the offsets of a shard into memory.

    Raises:
        DataError: if the file is missing or not a shard.
    """
    with _open(path) as file:
        return {name: file[name][...] for name in (*FIELDS, "offsets")}


def content_digest(paths: Iterable[Path], *, cutoff_ang: float, holdouts: Sequence[str]) -> str:
    """Name the content of shards: the same for the same structures in the same order, however they are cut.

    Raises:
        DataError: if a file is missing or not a shard.
    """
    streams = {name: hashlib.sha256() for name in (*FIELDS, "num_atoms")}
    for path in paths:
        columns = read_columns(path)
        columns["num_atoms"] = np.diff(columns.pop("offsets"))
        for name, values in columns.items():
            streams[name].update(np.ascontiguousarray(values).data)
    content = {name: stream.hexdigest() for name, stream in sorted(streams.items())}
    header = json.dumps({"cutoff_ang": cutoff_ang, "holdouts": list(holdouts), "content": content}, sort_keys=True)
    return hashlib.sha256(header.encode()).hexdigest()


def file_sha256(path: Path) -> str:
    """Checksum of a file's bytes."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _stored_dtype(name: str) -> np.dtype[Any]:
    return np.dtype(FIELDS[name].dtype if name in FIELDS else "int64").newbyteorder("<")


def _open(path: Path) -> h5py.File:
    """Open a shard for reading, without locks (they fail on network file systems; shards never change)."""
    if not path.is_file():
        raise DataError(f"{path} is missing; prepare the data again")
    try:
        file = h5py.File(path, "r", locking=False)
    except OSError as error:
        raise DataError(f"{path} is not a whole HDF5 file ({error}); prepare the data again") from error
    try:
        _check_layout(path, file)
    except BaseException:
        file.close()
        raise
    return file


def _check_layout(path: Path, file: h5py.File) -> None:
    """Compare a file with FIELDS, by its metadata alone."""
    if file.attrs.get("schema") != SCHEMA:
        raise DataError(f"{path} is an HDF5 file, but no shard of this format ({SCHEMA!r}); prepare the data again")
    for name in (*FIELDS, "offsets"):
        if not isinstance(file.get(name), h5py.Dataset):
            raise DataError(f"{path} has no field {name!r}; prepare the data again")
        if file[name].dtype != _stored_dtype(name):
            raise DataError(f"{path}: {name} is stored as {file[name].dtype}, not {_stored_dtype(name)}")
    num_rows = {"structure": file["offsets"].size - 1, "atom": file["numbers"].size}
    for name, field in FIELDS.items():
        expected = (num_rows[field.per], *field.shape)
        if file[name].shape != expected:
            raise DataError(
                f"{path}: {name} has shape {file[name].shape}, but {num_rows['structure']} structures of "
                f"{num_rows['atom']} atoms need {expected}; prepare the data again"
            )


def _read_tables(path: Path, shard: ShardFile) -> dict[str, NDArray[Any]]:
    """Read a shard's offsets and per-structure tables, and hold them against the manifest."""
    if path.is_file() and (size := path.stat().st_size) != shard.bytes:
        raise DataError(
            f"{path} has {size} bytes, but the manifest says {shard.bytes}: it is truncated or was replaced; "
            "prepare the data again"
        )
    with _open(path) as file:
        tables = {name: file[name][...] for name in (*_TABLES, "offsets")}
        num_rows = file["numbers"].size
    offsets = tables["offsets"]
    if (len(offsets) - 1, num_rows) != (shard.num_structures, shard.num_atoms):
        raise DataError(
            f"{path} holds {len(offsets) - 1} structures and {num_rows} atoms, but the manifest says "
            f"{shard.num_structures} and {shard.num_atoms}; prepare the data again"
        )
    if offsets[0] != 0 or offsets[-1] != num_rows or (np.diff(offsets) <= 0).any():
        bad = int(np.argmax(np.diff(offsets) <= 0)) if (np.diff(offsets) <= 0).any() else 0
        raise DataError(f"{path}: the offsets do not cut {num_rows} atoms into structures (see structure {bad})")
    return tables
