"""One JSON object too large for memory, cut between its members; the pieces are parsed elsewhere, by many."""

import re
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from scaling.data.files import opened
from scaling.errors import DataError

#: A piece ends with the last member that ends within this many bytes; seconds of work.
CHUNK_BYTES = 2**21
#: A member is held in memory whole.
MAX_MEMBER_BYTES = 2**28
#: Deeper documents are made to exhaust a parser's stack.
MAX_DEPTH = 64

_BLANK = b" \t\r\n"
_QUOTE = 2
_KIND = np.zeros(256, np.int8)
_KIND[list(b"{[")], _KIND[list(b"}]")], _KIND[ord('"')] = 1, -1, _QUOTE
_ESCAPED = re.compile(rb"\\.", re.DOTALL)


def pieces(path: Path) -> Iterator[tuple[int, bytes]]:
    """Yield the object in a file as smaller ones, each `{"key": value, ...}`, and the byte where it begins in the file.

    Brackets balance, strings end, and no key of the large object comes twice (as written); whatever else is wrong, the
    parser of a piece will find.

    Raises:
        DataError: if the file is no such object, ends too early or too late, or goes beyond the limits above.
    """
    seen: set[bytes] = set()

    def broken(place: int, problem: str) -> DataError:
        return DataError(f"{path}: byte {place}, after {len(seen)} members: {problem}")

    with opened(path) as stream:
        chunks = _chunks(stream)
        head = next(chunks, b"")
        start = len(head) - len(head.lstrip(_BLANK)) + 1
        if head[start - 1 : start] != b"{":
            raise broken(start - 1, f"no JSON object begins with {head[start - 1 : start + 19]!r}")
        chunk = head[start:]
        kept, depth, quoted, is_first = bytearray(), 1, False, True  # kept: read, not yielded; begins at `start`
        while True:
            places, steps, quoted = _brackets(chunk, quoted)
            places += len(kept)
            kept += chunk
            depths = depth + np.cumsum(steps, dtype=np.int64)
            if (depths == 0).any():
                last = int((depths == 0).argmax()) + 1
                places, steps, depths = places[:last], steps[:last], depths[:last]
            if (depths > MAX_DEPTH).any():
                raise broken(start + int(places[depths.argmax()]), f"nested deeper than {MAX_DEPTH}")
            cut = 0
            for begin, end, key in _members(kept, places, steps, depths):
                if key is None:
                    cut = end
                elif key in seen:
                    raise broken(start + begin, f"key {key[:80]!r} comes twice")
                else:
                    seen.add(key)
            depth = int(depths[-1]) if len(depths) else depth
            if not depth:
                cut = int(places[-1])
            if text := bytes(kept[:cut]).strip(_BLANK):
                if not is_first and not text.startswith(b","):
                    raise broken(start, f"a comma is missing before {text[:20]!r}")
                yield start, b"{" + (text if is_first else text[1:]) + b"}"
                is_first = False
            if not depth:
                break
            start += cut
            del kept[:cut]
            if len(kept) > MAX_MEMBER_BYTES:
                raise broken(start, f"a member has more than {MAX_MEMBER_BYTES} bytes")
            if not (chunk := next(chunks, b"")):
                raise broken(start + len(kept), "the file ends here, but the object does not; it may be truncated")
        if kept[cut] != ord("}"):
            raise broken(start + cut, "the object ends with another bracket")
        if any(rest.strip(_BLANK) for rest in chain([kept[cut + 1 :]], chunks)):
            raise broken(start + cut + 1, "the object ends here, but the file does not")


def _members(
    kept: bytearray, places: NDArray[np.int64], steps: NDArray[np.int8], depths: NDArray[np.int64]
) -> Iterator[tuple[int, int, bytes | None]]:
    """Where the keys of members begin and end, and each key; and where members end, with None in place of a key."""
    begin = 0
    outline = (depths == 1) | ((depths == 2) & (steps == 1))  # where members end, and where their values begin
    for place, level in zip(places[outline].tolist(), depths[outline].tolist(), strict=True):
        if level == 1:
            begin = place + 1
            yield begin, begin, None
        else:
            yield begin, place, bytes(kept[begin:place]).strip(_BLANK + b",:")


def _chunks(stream: BinaryIO) -> Iterator[bytes]:
    """Read a file, never parting a backslash from what it escapes."""
    held = b""
    while read := stream.read(CHUNK_BYTES):
        read = held + read
        odd = (len(read) - len(read.rstrip(b"\\"))) % 2
        held = read[len(read) - odd :]
        if read := read[: len(read) - odd]:
            yield read
    if held:
        yield held


def _brackets(text: bytes, quoted: bool) -> tuple[NDArray[np.int64], NDArray[np.int8], bool]:
    """Where brackets open (1) and close (-1) outside of strings.

    Args:
        quoted: whether the text begins within a string; whether it ends within one is returned.
    """
    kinds: NDArray[Any] = _KIND[np.frombuffer(_ESCAPED.sub(b"__", text), np.uint8)]
    places = np.flatnonzero(kinds)
    kinds = kinds[places]
    in_string = (np.cumsum(kinds == _QUOTE) + quoted) % 2 == 1
    is_bracket = (kinds != _QUOTE) & ~in_string
    return places[is_bracket], kinds[is_bracket], bool(in_string[-1]) if len(in_string) else quoted
