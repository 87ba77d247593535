"""A preparation while it goes on: pieces on disk, so that one that was killed goes on after the last of them."""

import json
import math
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scaling.data.preparation.block import Block
from scaling.errors import DataError
from scaling.runs import write_atomic

PIECE_ATOMS = 2_000_000
PIECE_S = 20.0
#: Geometries compared at once when duplicates are sought: about 300 MB.
GEOMETRIES_AT_ONCE = 2_500_000


class Draft:
    """Numbered pieces in a directory; each holds the valid structures of consecutive tasks.

    Attributes:
        num_tasks, num_structures: done so far, on the disk or in memory.
    """

    def __init__(self, directory: Path, identity: Mapping[str, Any]) -> None:
        """Take up the pieces of this identity; anything else in the directory is removed."""
        self.directory, self.identity = directory, json.loads(json.dumps(identity))
        self.num_tasks = self.num_structures = 0
        self._buffer: list[Block] = []
        self._written_at = time.monotonic()
        self._num_pieces = 0
        while (path := self._path(self._num_pieces)).is_file():
            head = self._head(path)
            if head["identity"] != self.identity or head["first_task"] != self.num_tasks:
                break
            self.num_tasks = head["num_tasks"]
            self.num_structures += head["num_structures"]
            self._num_pieces += 1
        known = set(self.paths())
        for leftover in directory.iterdir():
            if leftover not in known:
                leftover.unlink()

    def paths(self) -> list[Path]:
        """The pieces on the disk, in order."""
        return [self._path(number) for number in range(self._num_pieces)]

    def pieces(self, *, structures: bool = True) -> Iterator[Block]:
        """Read the pieces one after another; see `Block.read`."""
        for path in self.paths():
            yield Block.read(path, structures=structures)

    def add(self, block: Block) -> None:
        """Take in what the next task came to."""
        self._buffer.append(block)
        self.num_tasks += 1
        self.num_structures += len(block)
        atoms = sum(block.num_atoms for block in self._buffer)
        if atoms >= PIECE_ATOMS or time.monotonic() - self._written_at > PIECE_S:
            self.flush()

    def flush(self) -> None:
        """Write what is in memory as a piece."""
        if not self._buffer:
            return
        block = Block.join(self._buffer)
        first = self.num_tasks - len(self._buffer)
        counts = {"first_task": first, "num_tasks": self.num_tasks, "num_structures": len(block)}
        content = block.to_bytes(identity=self.identity, **counts)
        with disk_errors(self.directory):
            write_atomic(self._path(self._num_pieces), content)
        self._num_pieces += 1
        self._buffer = []
        self._written_at = time.monotonic()

    def keep(self) -> NDArray[np.bool_]:
        """Which of all structures stay: of equal geometries of one part the first held-out one, or else the first."""
        keep = np.ones(self.num_structures, dtype=bool)
        num_shares = max(1, math.ceil(self.num_structures / GEOMETRIES_AT_ONCE))
        for share in range(num_shares):
            rows = []
            first = 0
            for path in self.paths():
                with np.load(path, allow_pickle=False) as file:
                    geometry, free, part = file["geometry"], file["column_holdout"] == 0, file["column_source"]
                mine = np.flatnonzero(geometry[:, 0] % num_shares == share)
                columns = (geometry[mine, 0], geometry[mine, 1], part[mine], free[mine], mine + first)
                rows.append(np.column_stack([column.astype(np.uint64) for column in columns]))
                first += len(geometry)
            table = np.concatenate(rows)
            table = table[np.lexsort(table.T[::-1])]
            again = (table[1:, :3] == table[:-1, :3]).all(axis=1)
            keep[table[1:][again, -1].astype(np.int64)] = False
        return keep

    def discard(self) -> None:
        """Remove the pieces."""
        for path in reversed(self.paths()):
            path.unlink()

    def _path(self, number: int) -> Path:
        return self.directory / f"piece-{number:05d}.npz"

    def _head(self, path: Path) -> Any:
        with np.load(path, allow_pickle=False) as file:
            return json.loads(file["head"].tobytes())


@contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Turn what the disk refuses into a message that names the place.

    Raises:
        DataError: in place of an OSError.
    """
    try:
        yield
    except OSError as error:
        raise DataError(
            f"{path} cannot be written: {error.strerror or error}; check space and permissions, or choose another out="
        ) from error
