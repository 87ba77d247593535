"""One shard: an HDF5 file of flat arrays, one a field, written once and never changed.

It holds, for S structures of A atoms in all, the fields of `scaling.structure.FIELDS` (per atom (A, ...), per structure
(S, ...)) and `offsets` (S + 1,): atoms of structure s are rows offsets[s]:offsets[s + 1]. All contiguous and
uncompressed. num_edges is stored, the edges are not: they cost sixty times the atoms. A field that no structure of the
shard has (no forces, no stress, ...) is left out; where some have it, the others hold the field's `missing`.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from scaling.data.manifest import Blocks, Part, ShardFile
from scaling.data.open_file import Layout
from scaling.errors import DataError
from scaling.runs import write_atomic
from scaling.structure import FIELDS, OPTIONAL

SCHEMA = "gnn-scaling structures 3"
#: The schema before, in which every structure has an energy and forces, and nothing else of OPTIONAL.
FORMER_SCHEMA = "gnn-scaling structures 2"
ALIGNMENT_BYTES = 64
#: Fields that are read of one structure at a time, where the shard has them.
READ = ("numbers", "positions", "forces", "cell", "pbc", "stress", "charge", "spin")

Columns = Mapping[str, NDArray[Any]]


def write_shard(path: Path, columns: Columns) -> ShardFile:
    """Write one shard in one step: readers see the whole file or none.

    Args:
        path: the .h5 file.
        columns: `offsets` (S + 1,) int64 and every field of FIELDS, per atom (A, ...) or per structure (S, ...).

    Returns:
        What the manifest says of it.

    Raises:
        OSError: if the disk is full or the directory cannot be written.
    """
    image = _file_image(columns)
    write_atomic(path, image)
    num_structures, num_atoms = len(columns["offsets"]) - 1, len(columns["numbers"])
    return ShardFile(path.name, num_structures, num_atoms, hashlib.sha256(image).hexdigest(), len(image))


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
            if name in OPTIONAL and not FIELDS[name].is_there(values).any():
                continue
            dataset = file.create_dataset(name, data=values)
            dataset.attrs["unit"] = FIELDS[name].unit if name in FIELDS else ""
        file.flush()
        image: bytes = file.id.get_file_image()
    return image


def layout_of(path: Path, entry: ShardFile) -> Layout:
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
        return {name: (file[name].id.get_offset(), file[name].dtype, file[name].shape) for name in READ if name in file}


def read_columns(path: Path) -> dict[str, NDArray[Any]]:
    """Read every field and the offsets of a shard into memory; what it lacks is filled with the field's `missing`.

    Raises:
        DataError: if the file is missing or not a shard.
    """
    with _open(path) as file:
        columns = {name: file[name][...] for name in (*FIELDS, "offsets") if name in file}
    num_rows = {"structure": len(columns["offsets"]) - 1, "atom": len(columns["numbers"])}
    for name in FIELDS.keys() - columns.keys():
        field = FIELDS[name]
        columns[name] = np.full((num_rows[field.per], *field.shape), field.missing, dtype=field.dtype)
    return columns


class ContentDigest:
    """Names the content of shards: the same for the same structures in the same order, however many files hold them.

    A field that no structure has is not part of it, so that sets keep the name they had before there was such a field.
    """

    def __init__(self) -> None:
        self._streams = {name: hashlib.sha256() for name in (*FIELDS, "num_atoms")}
        self._found = {name: name not in OPTIONAL for name in self._streams}

    def add(self, columns: Columns) -> None:
        """Take in the next shard."""
        for name, stream in self._streams.items():
            values = np.diff(columns["offsets"]) if name == "num_atoms" else columns[name]
            stream.update(np.ascontiguousarray(values, dtype=_stored_dtype(name)).data)
            self._found[name] = self._found[name] or bool(FIELDS[name].is_there(values).any())

    def name(self, *, cutoff_ang: float, holdouts: Sequence[str], parts: Sequence[Part], blocks: Blocks | None) -> str:
        """Hash what was taken in, and the settings that change what a run makes of it."""
        settings: dict[str, Any] = {
            "cutoff_ang": cutoff_ang,
            "holdouts": list(holdouts),
            "weights": [part.weight for part in parts],
            "content": {name: entry.hexdigest() for name, entry in sorted(self._streams.items()) if self._found[name]},
        }
        if blocks is not None:  # names nothing where no group is cut, as before there were blocks
            settings["blocks"] = [[cut.group, cut.length, cut.gap] for cut in blocks.groups]
        return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()


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
    if (schema := file.attrs.get("schema")) not in (SCHEMA, FORMER_SCHEMA):
        raise DataError(f"{path} is an HDF5 file, but no shard of this format ({SCHEMA!r}); prepare the data again")
    needed = ("energy", "forces") if schema == FORMER_SCHEMA else ()
    for name in (*FIELDS, "offsets"):
        if name in OPTIONAL and name not in needed and name not in file:
            continue
        if not isinstance(file.get(name), h5py.Dataset):
            raise DataError(f"{path} has no field {name!r}; prepare the data again")
        if file[name].dtype != _stored_dtype(name):
            raise DataError(f"{path}: {name} is stored as {file[name].dtype}, not {_stored_dtype(name)}")
    num_rows = {"structure": file["offsets"].size - 1, "atom": file["numbers"].size}
    for name, field in ((name, field) for name, field in FIELDS.items() if name in file):
        expected = (num_rows[field.per], *field.shape)
        if file[name].shape != expected:
            raise DataError(
                f"{path}: {name} has shape {file[name].shape}, but {num_rows['structure']} structures of "
                f"{num_rows['atom']} atoms need {expected}; prepare the data again"
            )


def check_size(path: Path, entry: ShardFile) -> None:
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
