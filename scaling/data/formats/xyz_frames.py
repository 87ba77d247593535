"""Files of the XYZ kind, cut between frames: a number of atoms on a line, a line about the whole, a line an atom."""

import re
from collections.abc import Iterator
from functools import partial
from itertools import islice
from pathlib import Path
from typing import BinaryIO

from scaling.data.manifest import Rejected
from scaling.errors import DataError

_COUNT = re.compile(rb"\s*\d{1,7}\s*")
_MAX_LINE_BYTES = 2**20


def next_frame(stream: BinaryIO, path: Path, index: int) -> tuple[int, list[bytes]] | None:
    """Read the stated number of atoms and the lines after it (fewer if the file ends before); None at the end.

    Raises:
        DataError: if a line that should be a number of atoms is not, or a line is too long.
    """
    lines = iter(partial(stream.readline, _MAX_LINE_BYTES), b"")
    header = next((line for line in lines if not line.isspace()), None)
    if header is None:
        return None
    if not _COUNT.fullmatch(header):
        raise DataError(f"{path}, frame {index}: expected a number of atoms, found {header[:60]!r}")
    num_atoms = int(header)
    frame = list(islice(lines, num_atoms + 1))
    if max(map(len, frame), default=0) == _MAX_LINE_BYTES:
        raise DataError(f"{path}, frame {index}: a line is longer than {_MAX_LINE_BYTES} bytes")
    return num_atoms, frame


def broken_frame(label: str, num_atoms: int, lines: list[bytes]) -> Rejected | None:
    """What is wrong with a frame as `next_frame` gives it, if its end is missing or it has no atoms."""
    if len(lines) <= num_atoms:
        return Rejected(label, "truncated frame", f"{len(lines)} of {num_atoms + 1} lines")
    if not lines[-1].endswith(b"\n"):
        return Rejected(label, "truncated frame", "no newline at its end")
    return None if num_atoms else Rejected(label, "no atoms")


def frames_of(stream: BinaryIO, path: Path, num_bytes: int) -> Iterator[tuple[int, int, bytes]]:
    """Runs of frames of at least so many bytes but the last: index of the first, how many, and their text.

    Raises:
        DataError: as `next_frame`, and if there is no frame.
    """
    kept: list[bytes] = []
    first = index = size = 0
    while (frame := next_frame(stream, path, index)) is not None:
        index += 1
        kept += [b"%d\n" % frame[0], *frame[1]]
        size += sum(map(len, frame[1]))
        if size >= num_bytes:
            yield first, index - first, b"".join(kept)
            first, size, kept = index, 0, []
    if index == 0:
        raise DataError(f"{path} holds no frame")
    if kept:
        yield first, index - first, b"".join(kept)
