"""Documents that are JSON lists of records, alone or in archives."""

from abc import abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, ClassVar

from scaling.data.files import plain_name
from scaling.data.formats.archive import ARCHIVES, documents, read_json
from scaling.data.manifest import Rejected
from scaling.data.source import FileSource
from scaling.errors import DataError
from scaling.structure import Structure


@dataclass(frozen=True)
class JsonListSource(FileSource):
    """A reader of such documents; path: a .tar.gz of JSON files, a directory of them, or one JSON file."""

    SUFFIXES: ClassVar[tuple[str, ...]] = (".json", *ARCHIVES)
    UNPACKS: ClassVar[bool] = True

    def tasks(self) -> Iterator[tuple[Path, str]]:
        """Each file, and each member of an archive."""
        for path in self.files().values():
            yield from documents(path, ".json")

    def read(self, task: tuple[Path, str]) -> Iterator[Structure | Rejected]:
        path, member = task
        records, name = read_json(path, member), PurePosixPath(member).name or plain_name(path.name)
        if not isinstance(records, list):
            raise DataError(f"{path}: {name} holds a {type(records).__name__}, not a list of records")
        for index, record in enumerate(records):
            yield self._parse(PurePosixPath(name).stem, f"{name}#{index}", record)

    @abstractmethod
    def _parse(self, stem: str, label: str, record: Any) -> Structure | Rejected:
        """Read one record of the document `stem`.json; anything amiss with its form is a rejection."""
