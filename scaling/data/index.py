"""The index of a prepared directory: a row for every structure, so that splits and samplers read no shard."""

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scaling.data.mixing import keyed
from scaling.data.shard_file import Columns
from scaling.errors import DataError

INDEX = "index.npy"
#: A row of the index. first_atom: in its shard. formula: hash of the atoms of each element.
INDEX_ROW = np.dtype(
    [
        *[("first_atom", "<i8"), ("energy", "<f8"), ("group", "<i8"), ("formula", "<i8")],
        *[("num_atoms", "<i4"), ("num_edges", "<i4"), ("holdout", "u1"), ("source", "u1")],
    ],
    align=True,
)
#: A number for each atomic number; a formula is the sum over its atoms.
_OF_ELEMENT = keyed(np.arange(256))


def write_rows(path: Path, parts: Iterable[NDArray[Any]], num_structures: int) -> None:
    """Write INDEX_ROWs that come in parts, in one step.

    Raises:
        OSError: if the disk is full or the directory cannot be written.
    """
    with writing_rows(path, num_structures) as write:
        for rows in parts:
            write(rows)


@contextmanager
def writing_rows(path: Path, num_structures: int) -> Iterator[Callable[[NDArray[Any]], object]]:
    """A function that takes INDEX_ROWs, parts of so many in all; the file is there when all is written.

    Raises:
        OSError: if the disk is full or the directory cannot be written.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with temporary.open("wb") as stream:
            header = {"descr": np.lib.format.dtype_to_descr(INDEX_ROW), "fortran_order": False}
            np.lib.format.write_array_header_1_0(stream, {**header, "shape": (num_structures,)})
            yield lambda rows: stream.write(rows.tobytes())
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
        rows["formula"] = np.add.reduceat(_OF_ELEMENT[columns["numbers"]], offsets[:-1]).view(np.int64)
    return rows


def map_index(path: Path, num_structures: int) -> NDArray[Any]:
    """Map an index that is to hold this many structures.

    Raises:
        DataError: if it cannot be read, or is another than that.
    """
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
