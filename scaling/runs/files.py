"""Writes that are either whole or not there."""

import json
import os
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from scaling.errors import RunError

T = TypeVar("T")


def write_atomic(path: Path, content: str | bytes) -> None:
    """Replace a file by one with this content; whoever reads it sees the old file or the new, never a part.

    Raises:
        OSError: if the directory cannot be written; the old file is untouched.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(6)}")
    try:
        write_new(temporary, content)
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def write_new(path: Path, content: str | bytes) -> None:
    """Create a file and wait until its content is on the disk.

    Raises:
        OSError: if it exists, or cannot be written whole.
    """
    with path.open("xb") as file:
        file.write(content.encode() if isinstance(content, str) else content)
        file.flush()
        os.fsync(file.fileno())


def write_json(path: Path, value: Any) -> None:
    """Write JSON atomically; NaN and infinity are refused, since a missing number must not look like one."""
    write_atomic(path, json.dumps(value, indent=1, allow_nan=False) + "\n")


def read_json(path: Path, make: Callable[[Any], T], *, remedy: str) -> T:
    """What `make` makes of a JSON file.

    Raises:
        FileNotFoundError: if there is none.
        RunError: if it is damaged or holds something else; ends with the remedy.
    """
    try:
        return make(json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, TypeError, KeyError) as error:
        raise RunError(f"{path} is damaged ({type(error).__name__}: {error}); {remedy}") from error


def sync_file(path: Path) -> None:
    """Wait until a file's contents are on the disk."""
    with path.open("rb") as file:
        os.fsync(file.fileno())


def sync_directory(path: Path) -> None:
    """Wait until the names in a directory are on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
