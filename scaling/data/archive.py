"""Documents (JSON files) that lie alone or in a tar archive, read in memory: nothing is unpacked onto the disk."""

import json
import tarfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from scaling.errors import DataError

ARCHIVES = (".tar.gz", ".tgz", ".tar")
#: A document is held in memory whole; larger ones are bombs, or better unpacked and streamed.
MAX_DOCUMENT_BYTES = 2**30
MAX_DOCUMENTS = 10_000


def documents(path: Path, suffix: str) -> Iterator[tuple[Path, str]]:
    """A file, or each file of an archive whose name ends so: path and member ("" for a file of its own).

    Raises:
        DataError: if the archive is damaged, unsafe, too large, or holds no such file.
    """
    if not path.name.endswith(ARCHIVES):
        yield path, ""
        return
    names = []
    try:
        with tarfile.open(path, "r:*") as archive:
            for member in archive:
                inside = PurePosixPath(member.name)
                if inside.is_absolute() or ".." in inside.parts:
                    raise DataError(f"{path}: member {member.name!r} leads outside the archive; it is not read")
                if not member.isfile() or inside.suffix != suffix or inside.name.startswith("."):
                    continue
                names.append(member.name)
                if member.size > MAX_DOCUMENT_BYTES or len(names) > MAX_DOCUMENTS:
                    raise DataError(
                        f"{path}: member {member.name!r} of {member.size} bytes is beyond what an archive may hold, "
                        f"{MAX_DOCUMENTS} files of {MAX_DOCUMENT_BYTES} bytes; unpack it and name the directory"
                    )
    except (tarfile.TarError, EOFError, OSError) as error:
        raise DataError(f"{path} is not a whole tar archive: {error}") from error
    if not names:
        raise DataError(f"{path} holds no {suffix} file")
    yield from ((path, name) for name in sorted(names))


def read_json(path: Path, member: str) -> Any:
    """Parse one document.

    Raises:
        DataError: if it cannot be read, or is not JSON.
    """
    name = f"{path}:{member}" if member else str(path)
    try:
        if member:
            with tarfile.open(path, "r:*") as archive:
                stream = archive.extractfile(member)
                assert stream is not None, "documents() lists files alone"
                text = stream.read()
        else:
            if (size := path.stat().st_size) > MAX_DOCUMENT_BYTES:
                raise DataError(f"{path} has {size} bytes; a document of this format may have {MAX_DOCUMENT_BYTES}")
            text = path.read_bytes()
    except (tarfile.TarError, EOFError, OSError) as error:
        raise DataError(f"{name} cannot be read: {error}") from error
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{name} is not JSON: {error}") from error
