"""HDF5 files from elsewhere, opened so that they cannot lead to other files or to memory they do not fill.

Groups and data sets are reached by hard links alone: soft and external links, virtual data sets and raw data in other
files are refused. Sizes are checked before anything is read.
"""

import math
from abc import abstractmethod
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar

import h5py
import numpy as np
from numpy.typing import NDArray

from scaling.data.manifest import Rejected
from scaling.data.source import FileSource, as_rejected
from scaling.errors import DataError
from scaling.structure import Structure

MALFORMED_HDF5 = (ValueError, TypeError, KeyError, IndexError, OverflowError, MemoryError, OSError, RuntimeError)
"""What reading a group raises if its content is not what it should be."""
MAX_ATOMS = 10_000
MAX_CHUNK_BYTES = 64 * 2**20
MAX_COMPRESSION = 1100
"""Deflate shortens by 1032 at most; a data set that declares more than this is a bomb, or was never written."""
CONFORMERS_PER_TASK = 512
_FILTERS = (h5py.h5z.FILTER_DEFLATE, h5py.h5z.FILTER_SHUFFLE, h5py.h5z.FILTER_FLETCHER32, h5py.h5z.FILTER_LZF)

Portion = tuple[tuple[str, int, int], ...]
"""Groups by their path in the file, each with the range of conformers that is meant."""


class Hdf5File:
    """One open HDF5 file, read-only and without locks; a context manager.

    Raises:
        DataError: if it is not a whole HDF5 file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._num_bytes = path.stat().st_size
            self._file = h5py.File(path, "r", locking=False)
            self._root = self._file["/"]
        except (OSError, RuntimeError, ValueError, KeyError) as error:
            raise DataError(f"{path} is not a whole HDF5 file: {error}") from error

    def __enter__(self) -> "Hdf5File":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._file.close()

    def group(self, where: str = "") -> h5py.Group:
        """The group at a path of names.

        Raises:
            DataError: if a link on the way may lead elsewhere.
            KeyError, TypeError: if there is no such group.
        """
        group: Any = self._root
        for name in filter(None, where.split("/")):
            group = self._linked(group, name)
            if not isinstance(group, h5py.Group):
                raise TypeError(f"{name} is no group")
        return group

    def names(self, group: h5py.Group) -> list[str]:
        """What a group holds, in order.

        Raises:
            DataError: if the group is damaged, or a name is not plain text.
        """
        with self._damage_named(group.name):
            names = list(group)
        if odd := [name for name in names if not isinstance(name, str) or not name.isprintable()]:
            raise DataError(f"{self.path}: {group.name} holds the name {odd[0]!a:.80}, which is not plain text")
        return sorted(names)

    def address(self, group: h5py.Group) -> int:
        """Where in the file a group lies: the same for all links to it.

        Raises:
            DataError: if the group is damaged.
        """
        with self._damage_named(group.name):
            return int(h5py.h5o.get_info(group.id).addr)

    def num_entries(self, group: h5py.Group) -> int:
        """How many names a group holds.

        Raises:
            DataError: if the group is damaged.
        """
        with self._damage_named(group.name):
            return len(group)

    def subgroups(self, group: h5py.Group) -> Iterator[tuple[str, h5py.Group]]:
        """The groups within a group.

        Raises:
            DataError: if a link may lead elsewhere, or the group is damaged.
        """
        for name in self.names(group):
            with self._damage_named(f"{name} in {group.name}"):
                child = self._linked(group, name)
            if isinstance(child, h5py.Group):
                yield name, child

    def dataset(self, group: h5py.Group, name: str, kinds: str) -> h5py.Dataset:
        """A data set whose type is one of numpy's `kinds`, and whose size its bytes can account for.

        Raises:
            DataError: if it may lead to another file.
            KeyError, TypeError, ValueError: if it is missing, of another type, or absurdly large.
        """
        found = self._linked(group, name)
        if not isinstance(found, h5py.Dataset):
            raise TypeError(f"{name} is not a data set")
        plan = found.id.get_create_plist()
        if plan.get_layout() == h5py.h5d.VIRTUAL or plan.get_external_count():
            raise DataError(f"{self.path}: {found.name} keeps its data in other files; it is not read")
        if found.shape is None or found.dtype.kind not in kinds:
            raise TypeError(f"{name} has type {found.dtype}")
        filters = [plan.get_filter(k)[0] for k in range(plan.get_nfilters())]
        if len(set(filters)) != len(filters) or not set(filters) <= set(_FILTERS):
            raise TypeError(f"{name} is packed by filters {filters[:8]}")
        stored = min(found.id.get_storage_size(), self._num_bytes)
        declared, chunk = (math.prod(shape) * found.dtype.itemsize for shape in (found.shape, found.chunks or ()))
        if declared > MAX_COMPRESSION * stored or chunk > MAX_CHUNK_BYTES:
            raise ValueError(f"{name} declares {declared} bytes in chunks of {chunk}, and {stored} are stored")
        return found

    def values(self, group: h5py.Group, name: str, kinds: str) -> NDArray[Any]:
        """A small data set, read whole: what belongs to one molecule or conformer.

        Raises:
            DataError, KeyError, TypeError, ValueError: as `dataset`; also if it has more values than atoms can have.
        """
        found = self.dataset(group, name, kinds)
        size = math.prod(found.shape)
        if size > 3 * MAX_ATOMS or size * found.dtype.itemsize > MAX_CHUNK_BYTES:
            raise ValueError(f"{name} has shape {found.shape}; a molecule may have {MAX_ATOMS} atoms")
        return np.asarray(found[()])

    @contextmanager
    def _damage_named(self, what: str) -> Iterator[None]:
        try:
            yield
        except (KeyError, RuntimeError, OSError, ValueError) as error:
            raise DataError(f"{self.path}: {what} is damaged: {error}") from error

    def _linked(self, group: h5py.Group, name: str) -> Any:
        links, key = group.id.links, name.encode()
        if not links.exists(key):
            raise KeyError(f"no {name}")
        if links.get_info(key).type != h5py.h5l.TYPE_HARD:
            raise DataError(
                f"{self.path}: {name} in {group.name} is a link that may lead elsewhere; it is not followed"
            )
        return group[name]


def read_conformers(
    numbers: NDArray[Any], start: int, stop: int, per_structure: h5py.Dataset, *per_atom: h5py.Dataset
) -> tuple[NDArray[Any], ...]:
    """Rows start .. stop of data sets (n,) and (n, N, 3) that belong to the same N atoms, as float64.

    Raises:
        ValueError: if the shapes do not belong together, or N is absurd.
    """
    if numbers.ndim != 1 or len(numbers) > MAX_ATOMS:
        raise ValueError(f"atoms of shape {numbers.shape}")
    num_rows, num_atoms = len(per_atom[0]), len(numbers)
    for data in per_atom:
        if data.shape != (num_rows, num_atoms, 3):
            raise ValueError(f"{data.name} has shape {data.shape}, not {(num_rows, num_atoms, 3)}")
    if per_structure.shape != (num_rows,):
        raise ValueError(f"{per_structure.name} has shape {per_structure.shape}, not {(num_rows,)}")
    with np.errstate(invalid="ignore"):  # of NaN, which validation finds
        return tuple(data[start:stop].astype(np.float64) for data in (per_structure, *per_atom))


def portions(groups: Iterable[tuple[str, int]]) -> Iterator[Portion]:
    """Cut groups with their numbers of conformers into tasks; small groups share one, large ones take several.

    A group of unknown length (0) is listed too, so that whoever reads it says what is wrong with it.
    """
    pending: list[tuple[str, int, int]] = []
    room = CONFORMERS_PER_TASK
    for where, total in groups:
        start = 0
        while True:
            stop = min(start + room, total)
            pending.append((where, start, stop))
            room -= max(stop - start, 1)
            start = stop
            if room <= 0:
                yield tuple(pending)
                pending, room = [], CONFORMERS_PER_TASK
            if start >= total:
                break
    if pending:
        yield tuple(pending)


def num_conformers(file: Hdf5File, group: h5py.Group | str) -> int:
    """Rows of a group's coordinates; 0 if they are malformed, which reading them will say."""
    try:
        return len(file.dataset(file.group(group) if isinstance(group, str) else group, "coordinates", "f"))
    except MALFORMED_HDF5:
        return 0


@dataclass(frozen=True)
class ConformerSource(FileSource):
    """A reader of files with a group for each molecule or formula, and many conformers in each."""

    SUFFIXES: ClassVar[tuple[str, ...]] = (".h5", ".hdf5")

    def tasks(self) -> Iterator[tuple[str, Path, Portion]]:
        """Portions of each file: ranges of conformers in a few groups."""
        for name, path in self.files().items():
            with Hdf5File(path) as file:
                groups = self._list_groups(file)
            if not groups:
                raise DataError(f"{path} holds no groups; a file of {self.name} has one for each molecule or formula")
            yield from ((name, path, portion) for portion in portions(groups))

    def read(self, task: tuple[str, Path, Portion]) -> Iterator[Structure | Rejected]:
        name, path, portion = task
        with Hdf5File(path) as file:
            for where, start, stop in portion:
                label = f"{name}#{where}"
                try:
                    entries = self._read_range(file, label, where, start, stop)
                except MALFORMED_HDF5 as error:
                    entries = [as_rejected(f"{label}/{start}", error)]
                yield from entries or [Rejected(label, "no conformers")]

    @abstractmethod
    def _list_groups(self, file: Hdf5File) -> list[tuple[str, int]]:
        """Each group by its path, and how many conformers it has (0 if that is unknown)."""

    @abstractmethod
    def _read_range(self, file: Hdf5File, label: str, where: str, start: int, stop: int) -> list[Structure | Rejected]:
        """Read conformers start .. stop of a group.

        Raises:
            MALFORMED_HDF5: if the group as a whole is broken.
        """
