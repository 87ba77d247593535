"""Structures on disk: flat arrays in HDF5, no edges, and an index with a row for every structure.

One shard holds, for S structures of A atoms in all, the fields of `scaling.structure.FIELDS` (per atom (A, ...), per
structure (S, ...)) and `offsets` (S + 1,): atoms of structure s are rows offsets[s]:offsets[s + 1]. All contiguous and
uncompressed, written once. num_edges is stored, the edges are not: they cost sixty times the atoms.

A structure is read by its place in the files, without HDF5 and without mapping: a process that has read all of a large
set holds none of it, and a network file system that fails is an error and not a signal. Only the index is mapped, for
its columns, in the main process.
"""

import hashlib
import json
import os
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import ArrayLike, NDArray

from scaling.data.manifest import Part, ShardFile, read_manifest
from scaling.data.mixing import keyed
from scaling.errors import DataError
from scaling.runs.files import write_atomic
from scaling.structure import FIELDS, FloatArray, IntArray

SCHEMA = "gnn-scaling structures 2"
ALIGNMENT_BYTES = 64
INDEX = "index.npy"
#: A row of the index. first_atom: in its shard. formula: hash of the atoms of each element.
INDEX_ROW = np.dtype(
    [
        *[("first_atom", "<i8"), ("energy", "<f8"), ("group", "<i8"), ("formula", "<i8")],
        *[("num_atoms", "<i4"), ("num_edges", "<i4"), ("holdout", "u1"), ("source", "u1")],
    ],
    align=True,
)
MAX_OPEN_FILES = 128
_READ = ("numbers", "positions", "forces", "cell", "pbc")

Columns = Mapping[str, NDArray[Any]]
#: Of each field: where it begins in the file, its type and shape.
Layout = Mapping[str, tuple[int, np.dtype[Any], tuple[int, ...]]]


@dataclass(frozen=True)
class StoredStructure:
    """One structure as it is stored: numbers (N,) uint8; positions (N, 3), forces (N, 3), cell (3, 3) float32; pbc
    (3,) bool; total energy in eV; source: index of the manifest's parts. The arrays are the caller's own."""

    numbers: NDArray[np.uint8]
    positions: NDArray[np.float32]
    cell: NDArray[np.float32]
    pbc: NDArray[np.bool_]
    energy: float
    forces: NDArray[np.float32]
    source: int


class ShardSet:
    """All structures of a prepared directory, numbered 0 to num_structures - 1 in the order of its manifest.

    Opening checks the size of every file (not its checksum: `verify` does) and maps the index. Files are opened on
    first use in each process, so the object may be pickled, or inherited by a forked worker.

    Attributes:
        manifest: the directory's manifest.
        num_structures: S.
        rows: (S,) INDEX_ROW, mapped from the disk; for the columns of many structures, not in a loader's workers.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        """Open a prepared directory.

        Raises:
            DataError: if the directory, its manifest or a shard is missing, truncated, or of another layout.
        """
        self.path = Path(path).absolute()
        self.manifest = read_manifest(self.path)
        if not self.manifest.shards:
            raise DataError(f"{self.path} lists no shards; prepare the data again")
        for shard in (*self.manifest.shards, self.manifest.index):
            _check_size(self.path / shard.file, shard)
        self.rows = _map_index(self.path / self.manifest.index.file, self.manifest.num_structures)
        self.num_structures = len(self.rows)
        self._index_offset = self.manifest.index.bytes - self.rows.nbytes
        counts = np.cumsum([0, *(shard.num_structures for shard in self.manifest.shards)])
        if counts[-1] != self.num_structures:
            raise DataError(f"{self.path}: the shards hold {counts[-1]} structures, the index {self.num_structures}")
        self._first_structure: list[int] = counts.tolist()
        self._files: OrderedDict[int, _OpenFile] = OrderedDict()
        self._layouts: dict[int, Layout] = {}

    def __len__(self) -> int:
        return self.num_structures

    def __getstate__(self) -> dict[str, Any]:
        return {key: value for key, value in self.__dict__.items() if key not in ("rows", "_files", "_layouts")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__ |= state
        self.rows = _map_index(self.path / self.manifest.index.file, self.num_structures)
        self._files, self._layouts = OrderedDict(), {}

    @property
    def num_atoms(self) -> NDArray[np.int32]:
        """(S,)"""
        return self.rows["num_atoms"]

    @property
    def num_edges(self) -> NDArray[np.int32]:
        """(S,) directed pairs within manifest.cutoff_ang."""
        return self.rows["num_edges"]

    @property
    def group(self) -> NDArray[np.int64]:
        """(S,)"""
        return self.rows["group"]

    @property
    def formula(self) -> NDArray[np.int64]:
        """(S,) hash of the atoms of each element."""
        return self.rows["formula"]

    @property
    def holdout(self) -> NDArray[np.uint8]:
        """(S,) index into manifest.holdouts."""
        return self.rows["holdout"]

    @property
    def source(self) -> NDArray[np.uint8]:
        """(S,) index into manifest.parts."""
        return self.rows["source"]

    @property
    def energy(self) -> FloatArray:
        """(S,) eV."""
        return self.rows["energy"]

    def read(self, index: int) -> StoredStructure:
        """Read one structure.

        Raises:
            IndexError: if index is not in [0, num_structures).
            DataError: if a file has gone or changed since the set was opened.
        """
        if not 0 <= index < self.num_structures:
            raise IndexError(f"structure {index} of {self.num_structures}")
        row = np.empty((), INDEX_ROW)
        self._open(-1).read_into(row.reshape(1), self._index_offset + index * INDEX_ROW.itemsize)
        shard = bisect_right(self._first_structure, index) - 1
        file = self._open(shard)
        start, count = int(row["first_atom"]), int(row["num_atoms"])
        own = index - self._first_structure[shard]
        return StoredStructure(
            numbers=file.rows("numbers", start, count),
            positions=file.rows("positions", start, count),
            cell=file.rows("cell", own, 1)[0],
            pbc=file.rows("pbc", own, 1)[0].astype(bool),
            energy=float(row["energy"]),
            forces=file.rows("forces", start, count),
            source=int(row["source"]),
        )

    def compositions(self, indices: IntArray) -> Iterator[tuple[IntArray, IntArray]]:
        """Count the atoms of each element of manifest.elements, a shard at a time.

        Args:
            indices: (B,) structures, ascending.

        Yields:
            (b,) some of the structures; (b, num_elements) int64.
        """
        num_elements = len(self.manifest.elements)
        column_of = np.full(256, -1)
        column_of[list(self.manifest.elements)] = np.arange(num_elements)
        bounds = np.searchsorted(indices, self._first_structure)
        for shard, (begin, end) in enumerate(pairwise(bounds.tolist())):
            if begin == end:
                continue
            first, last = self._first_structure[shard], self._first_structure[shard + 1]
            entry = self.manifest.shards[shard]
            columns = column_of[self._open(shard).rows("numbers", 0, entry.num_atoms)]
            if (columns < 0).any():
                raise DataError(f"{self.path / entry.file} holds an element that the manifest does not list")
            rows = np.repeat(np.arange(last - first), self.num_atoms[first:last])
            table = np.bincount(rows * num_elements + columns, minlength=(last - first) * num_elements)
            chosen = indices[begin:end]
            yield chosen, table.reshape(-1, num_elements)[chosen - first]

    def composition(self, indices: ArrayLike) -> NDArray[np.int64]:
        """(B, num_elements) atoms of each element of manifest.elements in each of the structures (B,)."""
        wanted, place = np.unique(np.asarray(indices, dtype=np.int64), return_inverse=True)
        counts = [counts for _, counts in self.compositions(wanted)]
        empty = np.zeros((0, len(self.manifest.elements)), np.int64)
        return np.concatenate([empty, *counts])[place]

    def _open(self, number: int) -> "_OpenFile":
        """A shard, or the index (-1); those used longest ago are closed."""
        if number in self._files:
            self._files.move_to_end(number)
            return self._files[number]
        if number < 0:
            self._files[number] = _OpenFile(self.path / self.manifest.index.file, {})
        else:
            entry = self.manifest.shards[number]
            path = self.path / entry.file
            if number not in self._layouts:
                self._layouts[number] = _layout(path, entry)
            self._files[number] = _OpenFile(path, self._layouts[number])
        if len(self._files) > MAX_OPEN_FILES:
            self._files.popitem(last=False)
        return self._files[number]


class _OpenFile:
    """A file that is read at offsets; closes when it is dropped."""

    def __init__(self, path: Path, layout: Layout) -> None:
        self.path, self.layout = path, layout
        try:
            self.handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise DataError(f"{path} cannot be read: {error.strerror}") from error

    def __del__(self) -> None:
        if hasattr(self, "handle"):
            os.close(self.handle)

    def rows(self, name: str, start: int, count: int) -> NDArray[Any]:
        """Rows of a field, as an array of the caller's own."""
        offset, dtype, shape = self.layout[name]
        if start < 0 or count < 0 or start + count > shape[0]:
            raise DataError(f"{self.path} has no rows {start} to {start + count} of {name}: the index is damaged")
        out = np.empty((count, *shape[1:]), dtype)
        if count:
            self.read_into(out, offset + start * (out.nbytes // count))
        return out

    def read_into(self, out: NDArray[Any], offset: int) -> None:
        """Fill an array from this place of the file.

        Raises:
            DataError: if the file ends before, or cannot be read.
        """
        view, done = memoryview(out.view(np.uint8).reshape(-1)), 0
        while done < len(view):
            try:
                count = os.preadv(self.handle, [view[done:]], offset + done)
            except OSError as error:
                raise DataError(f"{self.path} cannot be read: {error.strerror}") from error
            if count == 0:
                raise DataError(f"{self.path} is shorter than when it was opened; prepare the data again")
            done += count


def write_shard(path: Path, columns: Columns) -> None:
    """Write one shard in one step: readers see the whole file or none.

    Args:
        path: the .h5 file.
        columns: `offsets` (S + 1,) int64 and every field of FIELDS, per atom (A, ...) or per structure (S, ...).

    Raises:
        OSError: if the disk is full or the directory cannot be written.
    """
    write_atomic(path, _file_image(columns))


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


def write_index(path: Path, shards: Iterable[Columns], num_structures: int) -> None:
    """Write the index of shards, one after another, without holding it.

    Raises:
        OSError: if the disk is full or the directory cannot be written.
    """
    write_rows(path, map(index_rows, shards), num_structures)


def write_rows(path: Path, parts: Iterable[NDArray[Any]], num_structures: int) -> None:
    """Write INDEX_ROWs that come in parts, in one step.

    Raises:
        OSError: if the disk is full or the directory cannot be written.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with temporary.open("wb") as stream:
            header = {"descr": np.lib.format.dtype_to_descr(INDEX_ROW), "fortran_order": False}
            np.lib.format.write_array_header_1_0(stream, {**header, "shape": (num_structures,)})
            for rows in parts:
                stream.write(rows.tobytes())
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def index_rows(columns: Columns) -> NDArray[Any]:
    """(S,) INDEX_ROW of a shard's structures."""
    offsets = columns["offsets"]
    rows = np.zeros(len(offsets) - 1, INDEX_ROW)
    rows["first_atom"], rows["num_atoms"] = offsets[:-1], np.diff(offsets)
    for name in ("energy", "group", "num_edges", "holdout", "source"):
        rows[name] = columns[name]
    if len(rows):  # a sum of one number for each atom: the same for any order of them
        rows["formula"] = np.add.reduceat(keyed(columns["numbers"]), offsets[:-1]).view(np.int64)
    return rows


def _map_index(path: Path, num_structures: int) -> NDArray[Any]:
    try:
        rows = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read ({error}); prepare the data again") from error
    if rows.dtype != INDEX_ROW or rows.shape != (num_structures,):
        raise DataError(
            f"{path} holds {rows.shape} rows of another kind than {num_structures} structures need; "
            "prepare the data again"
        )
    return rows  # type: ignore[no-any-return]


def _layout(path: Path, entry: ShardFile) -> Layout:
    """Where the large fields of a shard lie in the file.

    Raises:
        DataError: if the file is missing, not a shard, or another than the manifest's.
    """
    with _open(path) as file:
        found = file["offsets"].size - 1, file["numbers"].size
        if found != (entry.num_structures, entry.num_atoms):
            raise DataError(
                f"{path} holds {found[0]} structures and {found[1]} atoms, but the manifest says "
                f"{entry.num_structures} and {entry.num_atoms}; prepare the data again"
            )
        return {name: (file[name].id.get_offset(), file[name].dtype, file[name].shape) for name in _READ}


def read_columns(path: Path) -> dict[str, NDArray[Any]]:
    """Read every field and the offsets of a shard into memory.

    Raises:
        DataError: if the file is missing or not a shard.
    """
    with _open(path) as file:
        return {name: file[name][...] for name in (*FIELDS, "offsets")}


def content_digest(paths: Iterable[Path], *, cutoff_ang: float, holdouts: Sequence[str], parts: Sequence[Part]) -> str:
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
    settings = {"cutoff_ang": cutoff_ang, "holdouts": list(holdouts), "weights": [part.weight for part in parts]}
    header = json.dumps({**settings, "content": content}, sort_keys=True)
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
    except PermissionError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from error
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


def _check_size(path: Path, entry: ShardFile) -> None:
    """Hold a file against the manifest.

    Raises:
        DataError: if it is missing or has another size.
    """
    try:
        size = path.stat().st_size
    except OSError as error:
        raise DataError(f"{path} is missing ({error.strerror}); prepare the data again") from error
    if size != entry.bytes:
        raise DataError(
            f"{path} has {size} bytes, but the manifest says {entry.bytes}: it is truncated or was replaced; "
            "prepare the data again"
        )
