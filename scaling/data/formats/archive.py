"""Documents (JSON files) that lie alone or in a tar archive, read in memory: nothing is unpacked onto the disk."""

import gzip
import json
import tarfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, cast

from scaling.data.files import is_packed, opened, plain_name
from scaling.errors import DataError

ARCHIVES = (".tar", ".tgz")
"""And .tar packed by gzip, xz or bzip2."""
#: A document is held in memory whole; larger ones are bombs, or better unpacked and streamed.
MAX_DOCUMENT_BYTES = 2**28
#: Each document is found by reading the archive from its beginning.
MAX_DOCUMENTS = 1_000
MAX_TOTAL_BYTES = 2**34
#: Of a name or comment in an archive, and of what follows its last member.
MAX_HEADER_BYTES, MAX_PADDING_BYTES = 2**20, 2**24


def documents(path: Path, suffix: str) -> Iterator[tuple[Path, str]]:
    """A file, or each file of an archive whose name ends with a suffix: path and member ("" where there is no archive).

    Raises:
        DataError: if the archive is damaged, unsafe, too large, or holds no such file.
    """
    if not plain_name(path.name).lower().endswith(ARCHIVES):
        yield path, ""
        return
    names = []
    total = 0
    with _open(path, MAX_HEADER_BYTES) as archive:
        for member in archive:
            total += member.size
            if total > MAX_TOTAL_BYTES:
                raise DataError(
                    f"{path} expands to more than {MAX_TOTAL_BYTES} bytes; unpack it and name the directory"
                )
            inside = PurePosixPath(member.name)
            if inside.is_absolute() or ".." in inside.parts:
                raise DataError(f"{path}: member {member.name!r} leads outside the archive; it is not read")
            if not member.isfile() or inside.suffix != suffix or inside.name.startswith("."):
                continue
            names.append(member.name)
            if member.size > MAX_DOCUMENT_BYTES or len(names) > MAX_DOCUMENTS:
                raise DataError(
                    f"{path}: member {member.name!r} of {member.size} bytes goes beyond what an archive may hold, "
                    f"{MAX_DOCUMENTS} files of {MAX_DOCUMENT_BYTES} bytes; unpack it and name the directory"
                )
        _read_to_end(path, archive)
    if not names:
        raise DataError(f"{path} holds no {suffix} file")
    yield from ((path, name) for name in sorted(names))


def read_json(path: Path, member: str) -> Any:
    """Parse one document.

    Raises:
        DataError: if it cannot be read, or is not JSON.
    """
    name = f"{path}:{member}" if member else str(path)
    if member:
        with _open(path, MAX_DOCUMENT_BYTES) as archive:
            stream = archive.extractfile(member)
            assert stream is not None, "documents() lists files alone"
            text = stream.read()
    else:
        with opened(path) as document:
            text = document.read(MAX_DOCUMENT_BYTES + 1)
        if len(text) > MAX_DOCUMENT_BYTES:
            raise DataError(
                f"{path} has more than {MAX_DOCUMENT_BYTES} bytes, which a document of this format may have"
            )
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{name} is not JSON: {error}") from error


class _Bounded:
    """A file that refuses to be read in portions larger than what lies in the archive may be."""

    def __init__(self, file: BinaryIO, most: int) -> None:
        self.file, self.most = file, most
        self.seek, self.tell, self.close = file.seek, file.tell, file.close

    def read(self, size: int = -1) -> bytes:
        if not 0 <= size <= self.most:
            raise tarfile.ReadError(f"a part of {size} bytes; {self.most} are allowed")
        return self.file.read(size)


@contextmanager
def _open(path: Path, most: int) -> Iterator[tarfile.TarFile]:
    """Open an archive, gzipped or not, in which nothing is larger than `most` bytes.

    Raises:
        DataError: if it is damaged.
    """
    try:
        with opened(path) as plain:
            is_gzip = not is_packed(path) and plain.read(2) == b"\x1f\x8b"  # .tgz
            plain.seek(0)
            file = cast(BinaryIO, gzip.GzipFile(fileobj=plain)) if is_gzip else plain
            with tarfile.open(fileobj=cast(BinaryIO, _Bounded(file, most)), mode="r:") as archive:
                yield archive
    except (tarfile.TarError, EOFError, OSError, zlib.error) as error:
        raise DataError(f"{path} is not a whole tar archive: {error}") from error


def _read_to_end(path: Path, archive: tarfile.TarFile) -> None:
    """Read what follows the last member, so that a checksum at the end of the file is compared.

    Raises:
        DataError: if much more than padding follows.
    """
    assert archive.fileobj is not None, "the archive is open"
    for _ in range(MAX_PADDING_BYTES // MAX_HEADER_BYTES):
        if not archive.fileobj.read(MAX_HEADER_BYTES):
            return
    raise DataError(f"{path} goes on after its last member; it is not read")
