"""A shard or an index, read at offsets: without HDF5 and without mapping."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scaling.errors import DataError

#: Of each field: where it begins in the file, its type and shape.
Layout = Mapping[str, tuple[int, np.dtype[Any], tuple[int, ...]]]


class OpenFile:
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
