"""Structures on disk: shards of flat arrays without edges, and an index with a row for every structure.

A structure is read by its place in the files, without HDF5 and without mapping: a process that has read all of a large
set holds none of it, and a network file system that fails is an error and not a signal. Only the index is mapped, for
its columns, in the main process.
"""

import os
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from scaling.data.index import has_label, map_index
from scaling.data.manifest import Manifest, read_manifest
from scaling.data.open_file import Layout, OpenFile
from scaling.data.shard_file import check_size, layout_of
from scaling.errors import DataError
from scaling.structure import OPTIONAL, FloatArray, IntArray

MAX_OPEN_FILES = 128


@dataclass(frozen=True)
class StoredStructure:
    """One structure as it is stored: numbers (N,) uint8; positions (N, 3), forces (N, 3), cell (3, 3) float32; pbc
    (3,) bool; total energy in eV; source: index of the manifest's parts; stress (3, 3) float32, charge, spin. What it
    lacks is None. The arrays are the caller's own."""

    numbers: NDArray[np.uint8]
    positions: NDArray[np.float32]
    cell: NDArray[np.float32]
    pbc: NDArray[np.bool_]
    energy: float | None
    forces: NDArray[np.float32] | None
    source: int
    stress: NDArray[np.float32] | None = None
    charge: int | None = None
    spin: int | None = None


class ShardSet:
    """All structures of a prepared directory, numbered 0 to num_structures - 1 in the order of its manifest.

    Opening checks the size of every file (not its checksum: `verify` does) and maps the index. Files are opened on
    first use in each process, so the object may be pickled, or inherited by a forked worker.

    Attributes:
        manifest: the directory's manifest.
        num_structures: S.
        rows: (S,) INDEX_ROW, mapped from the disk; for the columns of many structures, not in a loader's workers.
    """

    def __init__(self, path: str | os.PathLike[str], manifest: Manifest | None = None) -> None:
        """Open a prepared directory, or with its `manifest` one that is whole but for the manifest's file.

        Raises:
            DataError: if the directory, its manifest or a shard is missing, truncated, or of another layout.
        """
        self.path = Path(path).absolute()
        self.manifest = manifest or read_manifest(self.path)
        if not self.manifest.shards:
            raise DataError(f"{self.path} lists no shards; prepare the data again")
        for shard in (*self.manifest.shards, self.manifest.index):
            check_size(self.path / shard.file, shard)
        self.rows = map_index(self.path / self.manifest.index.file, self.manifest.num_structures)
        self.num_structures = len(self.rows)
        self._index_offset = self.manifest.index.bytes - self.rows.nbytes
        counts = np.cumsum([0, *(shard.num_structures for shard in self.manifest.shards)])
        if counts[-1] != self.num_structures:
            raise DataError(f"{self.path}: the shards hold {counts[-1]} structures, the index {self.num_structures}")
        self._first_structure: list[int] = counts.tolist()
        self._files: OrderedDict[int, OpenFile] = OrderedDict()
        self._layouts: dict[int, Layout] = {}

    def __len__(self) -> int:
        return self.num_structures

    def __getstate__(self) -> dict[str, Any]:
        return {key: value for key, value in self.__dict__.items() if key not in ("rows", "_files", "_layouts")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__ |= state
        self.rows = map_index(self.path / self.manifest.index.file, self.num_structures)
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
        """(S,) eV; NaN where there is none."""
        return self.rows["energy"]

    def has(self, name: str) -> NDArray[np.bool_]:
        """(S,) which structures have this one of `scaling.structure.OPTIONAL`."""
        return has_label(self.rows, name)

    def read(self, index: int) -> StoredStructure:
        """Read one structure.

        Raises:
            IndexError: if index is not in [0, num_structures).
            DataError: if a file has gone or changed since the set was opened.
        """
        if not 0 <= index < self.num_structures:
            raise IndexError(f"structure {index} of {self.num_structures}")
        row = np.empty(1, self.rows.dtype)
        self._open(-1).read_into(row, self._index_offset + index * row.itemsize)
        there = {name for name in OPTIONAL if has_label(row, name)[0]}
        row = row[0]
        shard = bisect_right(self._first_structure, index) - 1
        file = self._open(shard)
        start, count = int(row["first_atom"]), int(row["num_atoms"])
        own = index - self._first_structure[shard]
        if lost := [name for name in there if name != "energy" and name not in file.layout]:
            raise DataError(f"{file.path} has no field {lost[0]!r}, but its index says so; prepare the data again")

        def of_structure(name: str) -> Any:
            return file.rows(name, own, 1)[0] if name in there else None

        charge, spin = of_structure("charge"), of_structure("spin")
        return StoredStructure(
            numbers=file.rows("numbers", start, count),
            positions=file.rows("positions", start, count),
            cell=file.rows("cell", own, 1)[0],
            pbc=file.rows("pbc", own, 1)[0].astype(bool),
            energy=float(row["energy"]) if "energy" in there else None,
            forces=file.rows("forces", start, count) if "forces" in there else None,
            source=int(row["source"]),
            stress=of_structure("stress"),
            charge=None if charge is None else int(charge),
            spin=None if spin is None else int(spin),
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

    def _open(self, number: int) -> "OpenFile":
        """A shard, or the index (-1); those used longest ago are closed."""
        if number in self._files:
            self._files.move_to_end(number)
            return self._files[number]
        if number < 0:
            self._files[number] = OpenFile(self.path / self.manifest.index.file, {})
        else:
            entry = self.manifest.shards[number]
            path = self.path / entry.file
            if number not in self._layouts:
                self._layouts[number] = layout_of(path, entry)
            self._files[number] = OpenFile(path, self._layouts[number])
        if len(self._files) > MAX_OPEN_FILES:
            self._files.popitem(last=False)
        return self._files[number]
