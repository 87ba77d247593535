"""What a source of structures is, and what all readers of files have in common."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, ClassVar, Protocol

from scaling.data.files import Found, find, is_packed, plain_name, suffix_of
from scaling.data.manifest import NotRead, Part, Rejected
from scaling.errors import ConfigError, DataError
from scaling.structure import Structure


class StructureSource(Protocol):
    """A frozen dataclass of settings that yields structures in a fixed order: eV, angstrom, eV/angstrom, -dE/dx.

    The work is cut into tasks, so that processes can share it and a killed preparation can go on: `tasks` lists them,
    `read` does one, in any process and the same each time.
    """

    name: str

    def identity(self) -> Mapping[str, Any]:
        """The settings that change the structures (no paths)."""
        ...

    def files(self) -> Mapping[str, Path]:
        """Every file that will be read, by a name that does not change with its place; checksums are kept.

        Raises:
            ConfigError, DataError: if a path is not set, or a named file or directory is missing.
        """
        ...

    def not_read(self) -> tuple[NotRead, ...]:
        """What lies beside the files and will not be read, by kind."""
        ...

    def parts(self) -> Sequence[Part]:
        """What is mixed, by the index that structures bear as `source`; one part where nothing is."""
        ...

    def num_expected(self) -> int | None:
        """How many structures will come, if that is known beforehand; for a progress bar."""
        ...

    def limit(self) -> int | None:
        """How many valid structures to keep at most; None: all that come."""
        ...

    def tasks(self) -> Iterator[Any]:
        """The parts of the work in order, each small enough to hand to another process: seconds, not minutes.

        Raises:
            DataError: if a file as a whole cannot be read.
        """
        ...

    def read(self, task: Any) -> Iterator[Structure | Rejected]:
        """Read or make the structures of one task; a malformed record is yielded as Rejected.

        Raises:
            DataError: if a file as a whole cannot be read.
        """
        ...


@dataclass(frozen=True)
class PlainSource:
    """What most sources have in common: one part, no files, no limit."""

    name: str = ""

    RECIPE: ClassVar[int] = 1  # raise it whenever the same settings and files give other structures

    def identity(self) -> Mapping[str, Any]:
        settings = {entry.name: getattr(self, entry.name) for entry in fields(self)}
        return {"recipe": self.RECIPE, **{key: value for key, value in settings.items() if key not in ("name", "path")}}

    def files(self) -> Mapping[str, Path]:
        return {}

    def not_read(self) -> tuple[NotRead, ...]:
        return ()

    def parts(self) -> Sequence[Part]:
        return (Part(self.name, 1.0, ""),)

    def num_expected(self) -> int | None:
        return None

    def limit(self) -> int | None:
        return None


@dataclass(frozen=True)
class GeneratedSource(PlainSource):
    """A generator of structures.

    num_structures: how many to make; the first n of a larger set are those of a smaller one.
    seed: another seed, other structures.
    """

    num_structures: int = 8000
    seed: int = 0

    def __post_init__(self) -> None:
        if self.num_structures < 1:
            raise ConfigError(f"source.num_structures={self.num_structures} must be at least 1")
        if self.seed < 0:
            raise ConfigError(f"source.seed={self.seed} must not be negative")

    def num_expected(self) -> int | None:
        return self.num_structures

    def limit(self) -> int | None:
        return self.num_structures


@dataclass(frozen=True)
class FileSource(PlainSource):
    """A reader of files. path: one file, or a directory of them, searched with its subdirectories and links to others.

    Suffixes count in any case. Hidden files and folders are not read; `not_read` says what else was left.
    """

    path: str = ""

    SUFFIXES: ClassVar[tuple[str, ...]] = ()
    UNPACKS: ClassVar[bool] = False  # whether the reader takes .gz, .xz, .bz2 and .zst

    def files(self) -> Mapping[str, Path]:
        return self._found().files

    def not_read(self) -> tuple[NotRead, ...]:
        return self._found().not_read

    def _found(self) -> Found:
        if not self.path:
            raise ConfigError(
                f"source.path is not set; name a {' or '.join(self.SUFFIXES)} file, or a directory of them"
            )
        path = Path(self.path)
        if not path.exists():
            raise DataError(f"source.path={path} does not exist (seen from {Path.cwd()})")
        if not path.is_dir():
            if is_packed(path) and not self.UNPACKS:
                raise DataError(f"source.path={path} is packed, and source={self.name} reads it in places; unpack it")
            return Found({path.name: path}, ())
        found = find(path, lambda file: "" if self._is_mine(file) else self._kind_not_read(file))
        if not found.files:
            beside = ", ".join(f"{entry.count} {entry.kind}" for entry in found.not_read)
            raise DataError(
                f"source.path={path} holds no {' or '.join(self.SUFFIXES)} file" + (f", but {beside}" if beside else "")
            )
        return found

    def _is_mine(self, path: Path) -> bool:
        """Whether a file of the directory is read."""
        return (self.UNPACKS or not is_packed(path)) and plain_name(path.name).lower().endswith(self.SUFFIXES)

    def _kind_not_read(self, path: Path) -> str:
        """What a file that is not read counts as."""
        return suffix_of(path)


def slices(total: int, size: int) -> Iterator[tuple[int, int]]:
    """Cut 0 .. total into ranges (start, stop) of at most `size`."""
    for start in range(0, total, size):
        yield start, min(start + size, total)


def as_rejected(record: str, error: Exception) -> Rejected:
    """What to yield for a record whose form is wrong."""
    return Rejected(record, "malformed record", one_line(f"{type(error).__name__}: {error}"[:200]))


def one_line(text: str) -> str:
    """A text that may come from a file, fit to be printed: one line of ASCII."""
    return " ".join(text.split()).encode("ascii", "backslashreplace").decode()
