"""Which files of a directory are read, what is said of the others, and packed files."""

import bz2
import gzip
import lzma
import os
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scaling.data.files import describe, find, natural_order, opened, plain_name, suffix_of
from scaling.data.manifest import NotRead
from scaling.data.sources.extxyz import Extxyz
from scaling.data.sources.mptrj import MPtrj
from scaling.errors import DataError
from scaling.structure import Structure

FRAME = b"1\nProperties=species:S:1:pos:R:3:forces:R:3 energy=%d\nMo 0 0 0 0.1 0.2 0.3\n"
PACKERS = {
    ".gz": gzip.compress,
    ".xz": lzma.compress,
    ".bz2": bz2.compress,
    ".zst": lambda content: pa.Codec("zstd").compress(content, asbytes=True),
}


def text(*energies):
    return b"".join(FRAME % energy for energy in energies)


def energies(path):
    source = Extxyz(path=str(path))
    entries = [entry for task in source.tasks() for entry in source.read(task)]
    assert all(isinstance(entry, Structure) for entry in entries)
    return [entry.energy for entry in entries]


def lie(root, *names, content=b""):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)


def kinds(found):
    return {(entry.kind, entry.count, entry.example) for entry in found.not_read}


def xyz_alone(path):
    return "" if path.name.lower().endswith(".xyz") else suffix_of(path)


def test_linked_folders_are_entered_each_folder_once_and_by_its_own_name(tmp_path):
    lie(tmp_path, "set/a.xyz", "set/inner/b.xyz", "elsewhere/c.xyz", "elsewhere/deep/d.xyz")
    (tmp_path / "set" / "more").symlink_to("../elsewhere")
    (tmp_path / "set" / "again").symlink_to("../elsewhere")  # the first by name counts
    (tmp_path / "set" / "a_link").symlink_to("inner")
    (tmp_path / "set" / "inner" / "up").symlink_to("..")
    (tmp_path / "elsewhere" / "back").symlink_to("../set")
    (tmp_path / "set" / "top").symlink_to("/")
    (tmp_path / "set" / "gone.xyz").symlink_to("nowhere.xyz")
    found = find(tmp_path / "set", xyz_alone)
    assert list(found.files) == ["a.xyz", "again/c.xyz", "again/deep/d.xyz", "inner/b.xyz"]
    assert kinds(found) == {
        ("linked folder (read by another name)", 4, "a_link"),
        ("link to a folder above", 1, "top"),
        ("broken link", 1, "gone.xyz"),
    }


def test_numbers_in_names_are_counted_and_all_else_is_as_it_was(tmp_path):
    names = [
        "md_2.xyz",
        "md_10.xyz",
        "md_1.xyz",
        "md_01.xyz",
        "9/x.xyz",
        "10/a2.xyz",
        "10/a10.xyz",
        "md.xyz",
        "md1.xyz",
    ]
    lie(tmp_path, *names)
    assert list(find(tmp_path, xyz_alone).files) == [
        *("9/x.xyz", "10/a2.xyz", "10/a10.xyz", "md.xyz", "md1.xyz", "md_01.xyz", "md_1.xyz", "md_2.xyz", "md_10.xyz")
    ]


@given(st.lists(st.text("aZ_-. \u00b2\u0663b/", min_size=1), max_size=8))
def test_names_without_digits_sort_as_paths_do(names):
    names = [name for name in names if not name.startswith("/")]
    assert sorted(names, key=natural_order) == sorted(sorted(names), key=Path)


def test_frames_of_several_files_are_read_in_the_order_of_time(tmp_path):
    for number in range(12):
        lie(tmp_path, f"md_{number}.xyz", content=text(10 * number, 10 * number + 1))
    assert energies(tmp_path) == [10 * number + k for number in range(12) for k in (0, 1)]


def test_what_is_not_read_is_counted_by_kind_with_an_example(tmp_path):
    lie(tmp_path, "a.XYZ", "b.txt", "sub/c.TXT", "README", ".hidden.xyz", ".cache/d.xyz", ".cache/e.xyz", "f.csv.gz")
    os.mkfifo(tmp_path / "pipe.xyz")
    found = find(tmp_path, xyz_alone)
    assert list(found.files) == ["a.XYZ"]
    assert kinds(found) == {
        (".txt", 2, "b.txt"),
        ("without suffix", 1, "README"),
        ("hidden file", 1, ".hidden.xyz"),
        ("hidden folder", 1, ".cache"),
        (".csv.gz", 1, "f.csv.gz"),
        ("special file", 1, "pipe.xyz"),
    }


def test_summary_names_counts_and_examples():
    left = (NotRead(".txt", 2, "notes.txt"), NotRead("hidden folder", 1, ".cache"))
    assert describe(3, left) == "read 3; not read: 2 .txt (e.g. notes.txt), 1 hidden folder (.cache)"
    assert describe(1, ()) == "read 1"


@pytest.mark.parametrize("suffix", PACKERS)
def test_packed_file_gives_what_the_plain_one_gives(suffix, tmp_path, monkeypatch):
    monkeypatch.setattr("scaling.data.sources.extxyz._TASK_BYTES", 3 * len(FRAME))
    lie(tmp_path, "plain/set.xyz", content=text(*range(20)))
    lie(tmp_path, f"packed/set.XYZ{suffix.upper()}", content=PACKERS[suffix](text(*range(20))))
    source = Extxyz(path=str(tmp_path / "packed"))
    assert len(list(source.tasks())) > 4
    assert energies(tmp_path / "packed") == energies(tmp_path / "plain") == list(range(20))
    assert plain_name(f"set.xyz{suffix}") == "set.xyz"


@pytest.mark.parametrize("suffix", PACKERS)
def test_packed_file_that_is_cut_or_foreign_is_an_error_that_names_it(suffix, tmp_path):
    whole = PACKERS[suffix](text(*range(500)))
    for content in (whole[: len(whole) // 2], whole[:-3], b"hello world" * 9, b""):
        lie(tmp_path, f"set.xyz{suffix}", content=content)
        with pytest.raises(DataError, match=rf"set\.xyz{suffix}"):
            energies(tmp_path / f"set.xyz{suffix}")


def test_files_joined_after_packing_are_read_to_the_end(tmp_path):
    for suffix in (".gz", ".zst"):
        lie(tmp_path, f"set.xyz{suffix}", content=PACKERS[suffix](text(1)) + PACKERS[suffix](text(2)))
        assert energies(tmp_path / f"set.xyz{suffix}") == [1, 2]


def test_error_while_the_caller_reads_is_not_taken_for_one_of_the_file(tmp_path):
    lie(tmp_path, "a.xyz", content=b"1\n")
    with pytest.raises(KeyError), opened(tmp_path / "a.xyz"):
        raise KeyError("of the caller")


def test_packed_json_of_materials_is_read(tmp_path):
    content = b'{"mp-1": {}}'
    lie(tmp_path, "m.json.gz", content=gzip.compress(content))
    assert [task[2] for task in MPtrj(path=str(tmp_path)).tasks()] == [content]


def test_packed_database_is_an_error_with_the_way_out_and_is_listed_in_a_directory(tmp_path):
    from scaling.data.sources.ase_db import AseDb

    lie(tmp_path, "set.db.gz", content=gzip.compress(b"SQLite"))
    with pytest.raises(DataError, match=r"set\.db\.gz is packed, .* unpack it"):
        AseDb(path=str(tmp_path / "set.db.gz")).files()
    with pytest.raises(DataError, match=r"holds no \.db file, but 1 \.db\.gz"):
        AseDb(path=str(tmp_path)).files()
