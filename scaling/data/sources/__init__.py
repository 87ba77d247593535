"""Where structures come from: one reader or generator a file, all of one shape."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from scaling.data.manifest import Rejected
from scaling.data.sources.emt import Emt
from scaling.data.sources.mvl import Mvl
from scaling.structure import Structure


class StructureSource(Protocol):
    """A frozen dataclass of settings that yields structures in a fixed order: eV, angstrom, eV/angstrom, -dE/dx."""

    name: str

    def identity(self) -> Mapping[str, Any]:
        """The settings that change the structures (no paths, no process counts)."""
        ...

    def files(self) -> Sequence[Path]:
        """Every file that will be read; their checksums are part of the data's identity.

        Raises:
            DataError: if a named file or directory is missing.
        """
        ...

    def num_expected(self) -> int | None:
        """How many structures will come, if that is known beforehand; for a progress bar."""
        ...

    def records(self) -> Iterator[Structure | Rejected]:
        """Read or make the structures; a malformed record is yielded as Rejected.

        Raises:
            DataError: if a file as a whole cannot be read.
        """
        ...


SOURCES: dict[str, type[StructureSource]] = {
    "emt": Emt,
    "mvl": Mvl,
}
