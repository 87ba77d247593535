"""Reading LMDB files page by page, with every offset checked.

The LMDB library maps a file into memory and trusts it: a damaged page ends the process with a bus error (about one in
fifteen random changes to a leaf page did). This reader gets values by key, no more, and raises instead.

Source of the layout: liblmdb/mdb.c, data version 1 (LMDB 0.9), 64 bit, little-endian: MDB_page, MDB_node, MDB_meta.
"""

import struct
from pathlib import Path
from types import TracebackType
from typing import NamedTuple

from scaling.errors import DataError

_MAGIC, _VERSION = 0xBEEFC0DE, 1
_BRANCH, _LEAF, _OVERFLOW, _META = 1, 2, 4, 8
_BOOKKEEPING = 0xC010  # flags of pages that are being written
_BIG_DATA, _OTHER_NODES = 1, 6
_HEADER = struct.Struct("<QHHHH")  # number, padding, flags, lower, upper
_NODE = struct.Struct("<HHHH")  # size low, size high, flags, key size
_META_HEAD = struct.Struct("<IIQQ")  # magic, version, address, map size
_DATABASE = struct.Struct("<IHHQQQQQ")  # padding, flags, depth, branch, leaf and overflow pages, entries, root
_EMPTY_ROOT = 2**64 - 1
_MAX_DEPTH = 32
_MIN_BYTES_PER_ENTRY = 10


class _Snapshot(NamedTuple):
    transaction: int
    page_bytes: int
    root: int
    num_entries: int


class LmdbFile:
    """One open LMDB file, read-only and without locks; a context manager.

    num_entries: how many keys it holds.

    Raises:
        DataError: if it is not an LMDB file of this version.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            self._file = path.open("rb")
        except OSError as error:
            raise DataError(f"{path} cannot be read: {error}") from error
        try:
            first = self._snapshot(0)
            latest = max(first, self._snapshot(first.page_bytes))
            if latest.num_entries * _MIN_BYTES_PER_ENTRY > path.stat().st_size:
                raise self._damaged(f"states {latest.num_entries} entries, more than its bytes can hold")
        except BaseException:
            self._file.close()
            raise
        self._page_bytes, self._root = latest.page_bytes, latest.root
        self.num_entries = latest.num_entries
        self._branches: dict[int, bytes] = {}

    def __enter__(self) -> "LmdbFile":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._file.close()

    def get(self, key: bytes, max_bytes: int) -> bytes | None:
        """The value of `key`, or None if there is none.

        Raises:
            ValueError: if the value is larger than `max_bytes`.
            DataError: if the file is damaged.
        """
        number = self._root
        if number == _EMPTY_ROOT:
            return None
        for _ in range(_MAX_DEPTH):
            page, flags = self._page(number)
            low, high = 0, self._num_nodes(page, number)
            if flags & _LEAF:
                while low < high:
                    middle = (low + high) // 2
                    if self._key(page, number, middle) < key:
                        low = middle + 1
                    else:
                        high = middle
                if low == self._num_nodes(page, number) or self._key(page, number, low) != key:
                    return None
                return self._value(page, number, low, max_bytes)
            low = 1  # the first node of a branch has no key: it is below all
            while low < high:
                middle = (low + high) // 2
                if self._key(page, number, middle) <= key:
                    low = middle + 1
                else:
                    high = middle
            start = self._node(page, number, low - 1)
            size_low, size_high, child_flags, _ = _NODE.unpack_from(page, start)
            number = size_low | size_high << 16 | child_flags << 32
        raise self._damaged(f"is deeper than {_MAX_DEPTH} pages")

    def _snapshot(self, offset: int) -> _Snapshot:
        """What one of the two meta pages says."""
        size = _HEADER.size + _META_HEAD.size + 2 * _DATABASE.size + 16
        page = self._read(offset, size)
        magic, version, _, _ = _META_HEAD.unpack_from(page, _HEADER.size)
        if magic != _MAGIC or version != _VERSION or not _HEADER.unpack_from(page)[2] & _META:
            raise DataError(f"{self._path} is not an LMDB file of version {_VERSION} (64 bit, little-endian)")
        start = _HEADER.size + _META_HEAD.size
        page_bytes = _DATABASE.unpack_from(page, start)[0]
        _, flags, _, _, _, _, num_entries, root = _DATABASE.unpack_from(page, start + _DATABASE.size)
        _, transaction = struct.unpack_from("<QQ", page, start + 2 * _DATABASE.size)
        if page_bytes not in [2**k for k in range(9, 17)] or flags:
            raise self._damaged(f"has pages of {page_bytes} bytes and database flags {flags}")
        return _Snapshot(transaction, page_bytes, root, num_entries)

    def _page(self, number: int) -> tuple[bytes, int]:
        """A branch or leaf page and its flags."""
        page = self._branches.get(number) or self._read(number * self._page_bytes, self._page_bytes)
        stated, _, flags, _, _ = _HEADER.unpack_from(page)
        flags &= ~_BOOKKEEPING
        if stated != number or flags not in (_BRANCH, _LEAF):
            raise self._damaged(f"has no page of keys where page {number} should be")
        if flags == _BRANCH and len(self._branches) < 4096:
            self._branches[number] = page
        return page, flags

    def _num_nodes(self, page: bytes, number: int) -> int:
        lower = _HEADER.unpack_from(page)[3]
        if not _HEADER.size < lower <= len(page) or lower % 2:
            raise self._damaged(f"is broken in page {number}")
        return int(lower - _HEADER.size) // 2

    def _node(self, page: bytes, number: int, index: int) -> int:
        """Where a node starts."""
        (start,) = struct.unpack_from("<H", page, _HEADER.size + 2 * index)
        if start + _NODE.size > len(page):
            raise self._damaged(f"is broken in page {number}")
        return int(start)

    def _key(self, page: bytes, number: int, index: int) -> bytes:
        start = self._node(page, number, index)
        return page[start + _NODE.size : start + _NODE.size + _NODE.unpack_from(page, start)[3]]

    def _value(self, page: bytes, number: int, index: int, max_bytes: int) -> bytes:
        """The value of a node of a leaf page, which lies on pages of its own where it is large."""
        start = self._node(page, number, index)
        size_low, size_high, flags, key_bytes = _NODE.unpack_from(page, start)
        size, begin = size_low | size_high << 16, start + _NODE.size + key_bytes
        if size > max_bytes:
            raise ValueError(f"{size} bytes, more than the {max_bytes} that a record may have")
        if flags & _OTHER_NODES:
            raise self._damaged(f"holds another database in page {number}")
        inside = page[begin : begin + (8 if flags & _BIG_DATA else size)]
        if len(inside) != (8 if flags & _BIG_DATA else size):
            raise self._damaged(f"is broken in page {number}")
        if not flags & _BIG_DATA:
            return inside
        overflow = int.from_bytes(inside, "little")
        content = self._read(overflow * self._page_bytes, _HEADER.size + size)
        stated, _, flags, _, _ = _HEADER.unpack_from(content)
        if stated != overflow or flags & ~_BOOKKEEPING != _OVERFLOW:
            raise self._damaged(f"has no page of data where page {overflow} should be")
        return content[_HEADER.size :]

    def _read(self, offset: int, size: int) -> bytes:
        try:
            self._file.seek(offset)
            content = self._file.read(size)
        except (OSError, OverflowError, ValueError) as error:
            raise self._damaged(f"cannot be read at byte {offset}: {error}") from error
        if len(content) != size:
            raise self._damaged(f"ends before byte {offset + size}; it is cut short, or not an LMDB file")
        return content

    def _damaged(self, how: str) -> DataError:
        return DataError(f"{self._path} {how}")
