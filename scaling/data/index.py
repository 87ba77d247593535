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
from scaling.structure import FIELDS, OPTIONAL

INDEX = "index.npy"
_FORMER_FIELDS = [
    *[("first_atom", "<i8"), ("energy", "<f8"), ("group", "<i8"), ("formula", "<i8")],
    *[("num_atoms", "<i4"), ("num_edges", "<i4"), ("holdout", "u1"), ("source", "u1")],
]
#: A row of the index. first_atom: in its shard. energy: NaN where there is none. formula: hash of the atoms of each
#: element. labels: bit k is set where the structure has OPTIONAL[k].
INDEX_ROW = np.dtype([*_FORMER_FIELDS, ("labels", "u1")], align=True)
#: Of directories in which every structure had an energy and forces, and nothing else.
FORMER_ROW = np.dtype(_FORMER_FIELDS, align=True)
FORMER_LABELS = ("energy", "forces")
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
    rows["labels"] = sum(has(columns, name) * np.uint8(1 << bit) for bit, name in enumerate(OPTIONAL))
    if len(rows):  # a sum of one number for each atom: the same for any order of them
        rows["formula"] = np.add.reduceat(_OF_ELEMENT[columns["numbers"]], offsets[:-1]).view(np.int64)
    return rows


def has(columns: Columns, name: str) -> NDArray[np.bool_]:
    """(S,) which of a shard's structures have a field."""
    there = FIELDS[name].is_there(columns[name])
    if FIELDS[name].per == "structure" or not len(there):
        return there
    return np.logical_and.reduceat(there, columns["offsets"][:-1])


def has_label(rows: NDArray[Any], name: str) -> NDArray[np.bool_]:
    """(S,) which structures have one of OPTIONAL, by their rows of an index of either kind."""
    if "labels" not in rows.dtype.names:
        return np.full(len(rows), name in FORMER_LABELS)
    return (rows["labels"] >> OPTIONAL.index(name)) & 1 == 1


def map_index(path: Path, num_structures: int) -> NDArray[Any]:
    """Map an index that is to hold this many structures.

    Raises:
        DataError: if it cannot be read, or is another than that.
    """
    try:
        rows = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read ({error}); prepare the data again") from error
    if rows.dtype not in (INDEX_ROW, FORMER_ROW) or rows.shape != (num_structures,):
        raise DataError(
            f"{path} holds {rows.shape} rows of another kind than {num_structures} structures need; "
            "prepare the data again"
        )
    return rows  # type: ignore[no-any-return]
