"""Which files of a directory are read and which are not, and opening them packed or plain."""

import bz2
import gzip
import io
import lzma
import os
import re
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, cast

import pyarrow as pa

from scaling.data.manifest import NotRead
from scaling.errors import DataError

PACKED = (".gz", ".xz", ".bz2", ".zst")


@dataclass(frozen=True)
class Found:
    """files: by their name below the root, in `natural_order`. not_read: what else lies there, by kind."""

    files: Mapping[str, Path]
    not_read: tuple[NotRead, ...]


def find(root: Path, kind_not_read: Callable[[Path], str]) -> Found:
    """Walk a directory, following links to other directories, each directory once, by its own name if it has one here.

    Hidden files and directories (whose names begin with a dot) are not read.

    Args:
        kind_not_read: "" for a file that is read, else what to count it as.
    """
    files: dict[str, Path] = {}
    left: dict[str, list[str]] = {}
    for kind, path in _walk(root):
        name = str(path.relative_to(root))
        if kind := kind or kind_not_read(path):
            left.setdefault(kind, []).append(name)
        else:
            files[name] = path
    not_read = tuple(NotRead(kind, len(names), min(names)) for kind, names in sorted(left.items()))
    return Found(dict(sorted(files.items(), key=lambda entry: natural_order(entry[0]))), not_read)


def natural_order(name: str) -> tuple[list[list[tuple[int, int]]], str]:
    """A key by which names of files sort as they were counted: folder by folder, runs of digits as numbers.

    So md_2 comes before md_10, and the frames of a trajectory in several files stay in the order of time.
    """
    parts = ([_place(token) for token in re.findall(r"[0-9]+|[^0-9]", part)] for part in Path(name).parts)
    return list(parts), name  # md_1 and md_01 are alike but for their names


def _place(token: str) -> tuple[int, int]:
    """Of a character, or of a number among the digits."""
    return (ord("0"), int(token)) if token[0] in "0123456789" else (ord(token), 0)


def _walk(root: Path) -> Iterator[tuple[str, Path]]:
    """Each file with "", and what is not entered or is no file with what it is."""
    seen: set[str] = set()
    waiting = [root]
    while waiting:
        start = waiting.pop(0)
        if start is not root and (reason := _why_not_followed(Path(os.path.realpath(start)), root, seen)):
            yield reason, start
            continue
        unreadable: list[OSError] = []
        for folder, folders, names in os.walk(start, onerror=unreadable.append):
            here = Path(folder)
            seen.add(os.path.realpath(here))
            for name in sorted(folders):
                if name.startswith("."):
                    yield "hidden folder", here / name
                elif (here / name).is_symlink():
                    waiting.append(here / name)  # after all that lies here by its own name
            entered = [n for n in folders if not n.startswith(".") and not (here / n).is_symlink()]
            folders[:] = sorted(n for n in entered if os.path.realpath(here / n) not in seen)
            for name in sorted(set(entered) - set(folders)):
                yield "linked folder (read by another name)", here / name
            for name in sorted(names):
                path = here / name
                if name.startswith("."):
                    yield "hidden file", path
                elif not path.is_file():
                    yield "broken link" if path.is_symlink() else "special file", path
                else:
                    yield "", path
        for error in unreadable:
            yield "folder without permission", Path(error.filename)


def _why_not_followed(target: Path, root: Path, seen: set[str]) -> str:
    """What a link to a directory counts as if it is not entered, else ""."""
    if str(target) in seen:
        return "linked folder (read by another name)"
    if root.resolve().is_relative_to(target):
        return "link to a folder above"
    return ""


def suffix_of(path: Path) -> str:
    """What a file that is not read is counted as: its suffix in lower case, `.xyz.gz` where it is packed."""
    plain = path.with_suffix("") if is_packed(path) else path
    return f"{plain.suffix}{path.suffix if is_packed(path) else ''}".lower() or "without suffix"


def is_packed(path: Path) -> bool:
    """Whether a file is compressed, by its suffix."""
    return path.suffix.lower() in PACKED


def plain_name(name: str) -> str:
    """A file's name without the suffix of its compression."""
    return name[: -len(Path(name).suffix)] if is_packed(Path(name)) else name


@contextmanager
def opened(path: Path) -> Iterator[BinaryIO]:
    """Open a file for reading from its beginning on, unpacked if it is compressed.

    Raises:
        DataError: if it cannot be read, or is not whole, also while it is read.
    """
    try:
        with _stream(path) as stream:
            yield stream
    except (OSError, EOFError, lzma.LZMAError, zlib.error, pa.ArrowException) as error:
        problem = f"is not a whole {path.suffix} file" if is_packed(path) else "cannot be read"
        raise DataError(f"{path} {problem}: {getattr(error, 'strerror', None) or error}") from error


def _stream(path: Path) -> BinaryIO:
    kind = path.suffix.lower()
    if kind == ".gz":
        return cast(BinaryIO, gzip.open(path))
    if kind == ".xz":
        return cast(BinaryIO, lzma.open(path))
    if kind == ".bz2":
        return cast(BinaryIO, bz2.open(path))
    if kind == ".zst":
        return cast(BinaryIO, io.BufferedReader(pa.CompressedInputStream(pa.OSFile(str(path)), "zstd")))
    return path.open("rb")


def describe(num_files: int, not_read: tuple[NotRead, ...]) -> str:
    """One line: `read 3; not read: 2 .txt (e.g. notes.txt), 1 hidden folder (.cache)`."""
    left = [f"{e.count} {e.kind} ({'e.g. ' if e.count > 1 else ''}{e.example})" for e in not_read]
    return f"read {num_files}" + (f"; not read: {', '.join(left)}" if left else "")
