"""Reading LMDB files: the same values as the library's, and no crash whatever the bytes."""

import collections

import lmdb
import numpy as np
import pytest

from scaling.data.formats.lmdb_file import LmdbFile
from scaling.errors import DataError


def write(path, items, **options):
    with lmdb.open(str(path), subdir=False, map_size=2**28, lock=False, **options) as env:
        for chunk in range(0, len(items), 500):
            with env.begin(write=True) as transaction:
                for key, value in items[chunk : chunk + 500]:
                    transaction.put(key, value)
    return path


@pytest.mark.parametrize(
    ("num_items", "max_bytes"), [(1, 10), (30, 3000), (400, 3000), (3000, 40), (3000, 9000), (20_000, 16)]
)
def test_values_are_those_of_the_library(num_items, max_bytes, tmp_path):
    """Pages of one level to several, values within pages and beyond them, and pages that were freed."""
    rng = np.random.default_rng(num_items)
    items = [(str(k).encode(), rng.bytes(int(rng.integers(0, max_bytes)))) for k in range(num_items)]
    path = write(tmp_path / "a.lmdb", items)
    with lmdb.open(str(path), subdir=False, map_size=2**28, lock=False) as env, env.begin(write=True) as transaction:
        for k in range(0, num_items, 7):
            transaction.put(str(k).encode(), b"again" * (k % 3000))
        for k in range(5, num_items, 11):
            transaction.delete(str(k).encode())
    with (
        lmdb.open(str(path), subdir=False, lock=False, readonly=True) as env,
        env.begin() as transaction,
        LmdbFile(path) as file,
    ):
        assert file.num_entries == env.stat()["entries"]
        for key in [*(str(k).encode() for k in range(num_items)), b"", b"0000", b"zzz", b"length", b"1" * 500]:
            expected = transaction.get(key) if key else None
            assert file.get(key, 10**6) == expected, key


def test_empty_database_holds_nothing(tmp_path):
    with LmdbFile(write(tmp_path / "a.lmdb", [])) as file:
        assert file.num_entries == 0
        assert file.get(b"0", 100) is None


def test_large_value_is_not_read(tmp_path):
    with LmdbFile(write(tmp_path / "a.lmdb", [(b"0", bytes(9000)), (b"1", bytes(100))])) as file:
        assert file.get(b"0", 9000) == bytes(9000)
        with pytest.raises(ValueError, match="9000 bytes, more than the 8999"):
            file.get(b"0", 8999)
        with pytest.raises(ValueError, match="100 bytes"):
            file.get(b"1", 99)


@pytest.mark.parametrize(
    "content", [b"", b"x", b"SQLite format 3\0" * 600, bytes(100_000), b"\x89HDF\r\n\x1a\n" * 5000]
)
def test_other_file_is_refused_by_name(content, tmp_path):
    (tmp_path / "a.lmdb").write_bytes(content)
    with pytest.raises(DataError, match=r"a\.lmdb (is not an LMDB file|ends before)"):
        LmdbFile(tmp_path / "a.lmdb")


def test_missing_file_and_directory_are_refused_by_name(tmp_path):
    for path in (tmp_path / "none.lmdb", tmp_path):
        with pytest.raises(DataError, match="cannot be read"):
            LmdbFile(path)


def test_several_databases_in_a_file_are_not_values(tmp_path):
    path = tmp_path / "a.lmdb"
    with lmdb.open(str(path), subdir=False, max_dbs=2, lock=False) as env:
        env.open_db(b"inner")
    with LmdbFile(path) as file, pytest.raises(DataError, match="another database"):
        file.get(b"inner", 1000)


def read_all(path, num_items):
    with LmdbFile(path) as file:
        return [file.get(str(k).encode(), 10**6) for k in range(num_items)]


def test_every_cut_is_noticed(tmp_path):
    path = write(tmp_path / "a.lmdb", [(str(k).encode(), bytes([k]) * 5000) for k in range(40)])
    content = path.read_bytes()
    for length in range(0, len(content) - 4096, 3000):  # of the last page the record fills a part
        path.write_bytes(content[:length])
        with pytest.raises(DataError, match=r"a\.lmdb"):
            read_all(path, 40)


def test_damage_raises_and_never_crashes(tmp_path):
    """Changes of meta, branch, leaf and data pages; the library dies of a bus error on some of these."""
    path = write(tmp_path / "a.lmdb", [(str(k).encode(), bytes([k % 256]) * (7 * k % 6000)) for k in range(600)])
    content = path.read_bytes()
    expected = read_all(path, 600)
    rng = np.random.default_rng(0)
    outcomes = collections.Counter()
    for _ in range(150):
        damaged = bytearray(content)
        heads = [page for page in range(len(content) // 4096) if page < 2 or damaged[page * 4096 + 10] in (1, 2)]
        for _ in range(rng.integers(1, 30)):
            damaged[rng.choice(heads) * 4096 + rng.integers(200)] = rng.choice([0, 255, rng.integers(256)])
        path.write_bytes(damaged)
        try:
            outcomes["as before" if read_all(path, 600) == expected else "otherwise"] += 1
        except DataError as error:
            outcomes["refused by name" if str(path) in str(error) else "refused"] += 1
        except ValueError as error:
            outcomes["too large" if "more than the 1000000" in str(error) else "other"] += 1
    assert outcomes["refused by name"] > 50
    assert outcomes.keys() <= {"as before", "otherwise", "refused by name", "too large"}


def test_page_that_leads_back_is_noticed(tmp_path):
    path = write(tmp_path / "a.lmdb", [(str(k).encode(), bytes(1000)) for k in range(500)])
    content = bytearray(path.read_bytes())
    (branch,) = [page for page in range(2, len(content) // 4096) if content[page * 4096 + 10] == 1]
    start = branch * 4096
    for node in range((int.from_bytes(content[start + 12 : start + 14], "little") - 16) // 2):
        at = start + int.from_bytes(content[start + 16 + 2 * node :][:2], "little")
        content[at : at + 6] = branch.to_bytes(6, "little")
    path.write_bytes(content)
    with LmdbFile(path) as file, pytest.raises(DataError, match="deeper than"):
        file.get(b"3", 10**6)
