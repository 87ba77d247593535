"""What all readers of files have in common."""

import re

import pytest

from scaling.data.source import FileSource
from scaling.data.sources import SOURCES
from scaling.errors import ConfigError, DataError

READERS = {name: reader for name, reader in SOURCES.items() if issubclass(reader, FileSource)}


def read(name, path):
    source = READERS[name](path=str(path))
    return [entry for task in source.tasks() for entry in source.read(task)]


def test_all_sources_but_the_generators_and_the_mixture_read_files():
    assert set(SOURCES) - set(READERS) == {"emt", "xtb", "mixed"}


@pytest.mark.parametrize("name", READERS)
def test_path_must_be_given_and_exist(name, tmp_path):
    with pytest.raises(ConfigError, match=r"source\.path is not set"):
        read(name, "")
    with pytest.raises(DataError, match="does not exist"):
        read(name, tmp_path / "nowhere")
    with pytest.raises(DataError, match="holds no .*" + re.escape(READERS[name].SUFFIXES[-1])):
        read(name, tmp_path)
