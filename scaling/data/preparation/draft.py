"""A preparation while it goes on: pieces on disk, so that one that was killed goes on after the last of them."""

import json
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from scaling.data.preparation.block import Block
from scaling.errors import DataError
from scaling.runs import write_atomic

PIECE_ATOMS = 2_000_000
PIECE_S = 20.0


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
