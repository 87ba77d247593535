"""Reading ASE's databases in LMDB: fields, groups, portions, and what is wrong with files and rows."""

import itertools
import json
import pickle
import zlib

import ase.db
import numpy as np
import pytest
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.constraints import FixAtoms
from ase.io.jsonio import encode

from scaling.data.manifest import Rejected
from scaling.data.preparation.validation import Bounds, validate
from scaling.data.sources import ase_db, aselmdb
from scaling.data.sources.aselmdb import AseLmdb
from scaling.errors import DataError

lmdb = pytest.importorskip("lmdb", reason="needs the extra aselmdb")
published = pytest.importorskip("ase_db_backends.aselmdb", reason="needs the extra aselmdb")


def make_atoms(symbols="MoO", seed=0, labels=("energy", "forces"), pbc=(True, True, False)):
    """A few atoms in a row, with random labels."""
    rng = np.random.default_rng(seed)
    num_atoms = len(Atoms(symbols))
    positions = np.outer(np.arange(num_atoms), [1.2, 0.9, 0.6]) + rng.uniform(-0.1, 0.1, (num_atoms, 3))
    cell = np.eye(3) * 6 + rng.uniform(-0.1, 0.1, (3, 3)) if any(pbc) else np.zeros((3, 3))
    atoms = Atoms(symbols, positions, cell=cell, pbc=pbc)
    results = {"energy": float(rng.normal()), "forces": rng.normal(size=(num_atoms, 3))}
    atoms.calc = SinglePointCalculator(atoms, **{label: results[label] for label in labels})
    return atoms


def write_lmdb(path, entries, data=None, **key_values):
    """Write as fairchem does."""
    with published.LMDBDatabase(str(path)) as database:
        for atoms in entries:
            database.write(atoms, data=data, **key_values)


def put(path, **values):
    """Write values behind the back of ASE; None deletes."""
    with (
        lmdb.open(str(path), subdir=False, map_size=2**30, lock=False) as environment,
        environment.begin(write=True) as change,
    ):
        for key, value in values.items():
            name = key.removeprefix("row").encode()
            change.delete(name) if value is None else change.put(name, value)


def packed(value):
    return zlib.compress(encode(value).encode())


def row(**changes):
    fields = {
        "numbers": np.array([42, 8]),
        "positions": np.array([[0.0, 0, 0], [1.5, 1, 1]]),
        "cell": np.eye(3) * 6,
        "pbc": np.array([True, True, True]),
        "energy": -1.5,
        "forces": np.array([[0.1, 0, 0], [-0.1, 0, 0]]),
        "unique_id": "a",
        "ctime": 1.0,
        "data": {},
    }
    return {key: value for key, value in (fields | changes).items() if value is not None}


def read(path, **settings):
    source = AseLmdb(path=str(path), **settings)
    return [entry for task in source.tasks() for entry in source.read(task)]


def final(entry):
    return entry if isinstance(entry, Rejected) else validate(entry, Bounds())


def test_row_equals_what_was_written_and_what_the_published_reader_returns(tmp_path):
    written = [make_atoms(seed=seed, pbc=(seed % 2 == 0,) * 3) for seed in range(12)]
    write_lmdb(tmp_path / "set.aselmdb", written)
    database = published.LMDBDatabase(str(tmp_path / "set.aselmdb"), readonly=True)
    returned = [(row_id, database.get_atoms(row_id)) for row_id in range(1, 13)]
    database.close()
    entries = read(tmp_path / "set.aselmdb")
    assert len(entries) == len(written)
    for entry, (row_id, atoms), original in zip(entries, returned, written, strict=True):
        assert entry.record == f"set.aselmdb#{row_id}"
        for truth in (atoms, original):
            np.testing.assert_array_equal(entry.numbers, truth.numbers)
            np.testing.assert_array_equal(entry.positions, truth.positions)
            np.testing.assert_array_equal(entry.cell, truth.cell.array)
            np.testing.assert_array_equal(entry.forces, truth.calc.results["forces"])
            assert entry.energy == truth.calc.results["energy"]
            assert entry.pbc.tolist() == truth.pbc.tolist()
        assert not isinstance(validate(entry, Bounds()), Rejected)


def test_trajectory_is_one_group_even_in_two_files(tmp_path):
    write_lmdb(tmp_path / "a.aselmdb", [make_atoms(), make_atoms("Mo2O2"), make_atoms("MoO2")])
    write_lmdb(tmp_path / "b.aselmdb", [make_atoms("OMo")])
    (tmp_path / "metadata.npz").write_bytes(b"not needed")
    assert [entry.group for entry in read(tmp_path)] == ["Mo1 O1", "Mo1 O1", "Mo1 O2", "Mo1 O1"]


def test_stress_charge_and_spin_are_read_exactly(tmp_path):
    atoms = make_atoms(pbc=(True, True, True))
    stress = np.random.default_rng(0).normal(size=6)
    atoms.calc.results["stress"] = stress
    write_lmdb(tmp_path / "set.aselmdb", [atoms], data={"charge": -2, "spin": 4, "sid": "a"})
    (entry,) = read(tmp_path / "set.aselmdb")
    np.testing.assert_array_equal(entry.stress, stress[[0, 5, 4, 5, 1, 3, 4, 3, 2]].reshape(3, 3))
    assert (entry.charge, entry.spin) == (-2, 4)
    (flipped,) = read(tmp_path / "set.aselmdb", stress_unit="GPa")
    assert not np.allclose(flipped.stress, entry.stress)


def test_metadata_state_units_and_damaged_ones_are_an_error(tmp_path):
    write_lmdb(tmp_path / "set.aselmdb", [make_atoms()])
    put(tmp_path / "set.aselmdb", metadata=packed({"energy_unit": "Hartree", "force_unit": "Hartree/Bohr"}))
    with pytest.raises(DataError, match=r"states energy_unit=Hartree, but source\.energy_unit=eV"):
        read(tmp_path / "set.aselmdb", energy_unit="eV")
    put(tmp_path / "set.aselmdb", metadata=b"\xff")
    with pytest.raises(DataError, match=r"set\.aselmdb: its metadata are damaged"):
        read(tmp_path / "set.aselmdb")


def test_group_is_an_entry_of_the_data_or_a_key_value_pair(tmp_path):
    write_lmdb(tmp_path / "a.aselmdb", [make_atoms()], data={"sid": "random7", "fid": 3})
    write_lmdb(tmp_path / "b.aselmdb", [make_atoms()], sid=7)
    write_lmdb(tmp_path / "c.aselmdb", [make_atoms()])
    first, second, third = read(tmp_path, group_key="sid")
    assert (first.group, second.group) == ("random7", "7")
    assert (third.record, third.reason) == ("c.aselmdb#1", "missing group key")
    assert third.detail.startswith("sid; found calculator: energy, forces; key-value pairs: nothing")


def test_constraints_do_not_alter_the_forces(tmp_path):
    atoms = make_atoms()
    atoms.set_constraint(FixAtoms([0]))
    write_lmdb(tmp_path / "set.aselmdb", [atoms])
    np.testing.assert_array_equal(read(tmp_path / "set.aselmdb")[0].forces, atoms.calc.results["forces"])


def test_large_database_is_shared_out_and_every_part_stands_alone(tmp_path, monkeypatch):
    written = [make_atoms(seed=seed) for seed in range(20)]
    write_lmdb(tmp_path / "set.aselmdb", written)
    database = ase.db.connect(str(tmp_path / "set.aselmdb"), type="aselmdb")
    database.delete([1, 4, 5, 6, 7])
    database.close()
    monkeypatch.setattr(ase_db, "_ROWS_PER_TASK", 4)
    source = AseLmdb(path=str(tmp_path / "set.aselmdb"))
    tasks = pickle.loads(pickle.dumps(list(source.tasks())))
    assert len(tasks) == 4
    entries = [entry for part in reversed([list(source.read(task)) for task in reversed(tasks)]) for entry in part]
    kept = [row_id for row_id in range(1, 21) if row_id not in (1, 4, 5, 6, 7)]  # not in the order of the keys' text
    assert [entry.record for entry in entries] == [f"set.aselmdb#{row_id}" for row_id in kept]
    assert [entry.energy for entry in entries] == [written[row_id - 1].calc.results["energy"] for row_id in kept]


def test_one_process_may_list_and_read_a_file_by_turns(tmp_path, monkeypatch):
    monkeypatch.setattr(ase_db, "_ROWS_PER_TASK", 2)
    write_lmdb(tmp_path / "set.aselmdb", [make_atoms(seed=seed) for seed in range(6)])
    source = AseLmdb(path=str(tmp_path / "set.aselmdb"))
    half_read = [(entries := source.read(task), next(entries))[1].record for task in source.tasks()]
    assert half_read == ["set.aselmdb#1", "set.aselmdb#3", "set.aselmdb#5"]


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (b"", "malformed record"),
        (b"\x80\x04\x95pickle", "malformed record"),
        (packed(row())[:-5], "malformed record"),
        (zlib.compress(b"{"), "malformed record"),
        (zlib.compress(b"\xff\xfe"), "malformed record"),
        (zlib.compress(b"[" * 100_000), "malformed record"),
        (zlib.compress(b"3"), "malformed record"),
        (zlib.compress(b"[1, 2]"), "malformed record"),
        (zlib.compress(b"{}"), "malformed record"),
        (zlib.compress(b'{"numbers": {"__ase_objtype__": "os.system"}}'), "malformed record"),
        (
            zlib.compress(json.dumps({"numbers": {"__ndarray__": [[10**15], "float64", [0]]}}).encode()),
            "malformed record",
        ),
        (packed(row(energy=None, forces=None)), "missing energy and forces"),
        (packed(row(energy=float("nan"))), "not finite"),
        (packed(row(energy=True)), "malformed record"),
        (packed(row(energy="-1.5")), "malformed record"),
        (packed(row(energy=[1.0, 2.0])), "malformed record"),
        (packed(row(forces=np.full((2, 3), np.inf))), "not finite"),
        (packed(row(forces=np.ones((1, 3)))), "atom count disagrees with the forces"),
        (packed(row(forces=[[1, 2, 3], [4, 5]])), "malformed record"),
        (packed(row(forces="text")), "malformed record"),
        (packed(row(positions=np.ones((3, 3)))), "atom count disagrees with the positions"),
        (packed(row(positions=None)), "malformed record"),
        (packed(row(numbers=[], positions=[], forces=[])), "no atoms"),
        (packed(row(numbers=np.array([42, 0]))), "unknown element"),
        (packed(row(numbers=np.array([42, 300]))), "unknown element"),
        (packed(row(numbers=np.array([42.0, 8.5]))), "malformed record"),
        (packed(row(numbers=["Mo", "O"])), "malformed record"),
        (packed(row(cell=np.zeros((3, 3)))), "broken cell"),
        (packed(row(cell=None)), "broken cell"),
        (packed(row(cell=np.eye(2))), "broken cell"),
        (packed(row(pbc="TTT")), "malformed record"),
        (packed(row(pbc=np.array([True, False]))), "broken cell"),
        (packed(row(key_value_pairs=[1])), "malformed record"),
        (packed(row(key_value_pairs={"get": 1})), "malformed record"),
    ],
    ids=itertools.count(),
)
def test_malformed_row_is_rejected_by_name_and_the_rest_is_read(value, reason, tmp_path):
    write_lmdb(tmp_path / "set.aselmdb", [make_atoms(seed=seed) for seed in range(3)])
    put(tmp_path / "set.aselmdb", row2=value)
    first, found, last = (final(entry) for entry in read(tmp_path / "set.aselmdb"))
    assert isinstance(found, Rejected)
    assert (found.record, found.reason) == ("set.aselmdb#2", reason)
    assert not isinstance(first, Rejected)
    assert not isinstance(last, Rejected)


def test_row_by_hand_is_valid(tmp_path):
    """The control of the test above: what is wrong there is the change alone."""
    write_lmdb(tmp_path / "set.aselmdb", [make_atoms(), make_atoms()])
    put(tmp_path / "set.aselmdb", row2=packed(row()))
    assert not isinstance(final(read(tmp_path / "set.aselmdb")[1]), Rejected)


def test_row_that_swells_is_not_unpacked(tmp_path, monkeypatch):
    write_lmdb(tmp_path / "set.aselmdb", [make_atoms(), make_atoms()])
    put(tmp_path / "set.aselmdb", row1=zlib.compress(b" " * 10**7 + encode(row()).encode()))
    assert not isinstance(read(tmp_path / "set.aselmdb")[0], Rejected)
    monkeypatch.setattr(aselmdb, "MAX_ROW_BYTES", 10**6)
    found, good = read(tmp_path / "set.aselmdb")
    assert (found.record, found.reason) == ("set.aselmdb#1", "malformed record")
    assert "longer than 1000000 bytes" in found.detail
    assert not isinstance(good, Rejected)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"row2": None}, "holds 2 rows, but counts 3"),
        ({"nextid": None}, "holds 3 rows, but counts 0"),
        ({"nextid": packed(10**18)}, "holds 3 rows, but counts 999999999999999999"),
        ({"nextid": packed("many")}, "is not a whole ASE database"),
        ({"nextid": b"3"}, "is not a whole ASE database"),
        ({"deleted_ids": packed([2])}, "holds 3 rows, but counts 2"),
        ({"deleted_ids": packed({"a": 1})}, "holds 3 rows, but counts 2"),
        ({"length": pickle.dumps(3)}, "holds 4 rows, but counts 3"),
    ],
)
def test_rows_that_do_not_add_up_are_an_error_that_names_the_file(values, message, tmp_path):
    write_lmdb(tmp_path / "set.aselmdb", [make_atoms() for _ in range(3)])
    put(tmp_path / "set.aselmdb", **values)
    with pytest.raises(DataError, match=rf"set\.aselmdb {message}"):
        read(tmp_path / "set.aselmdb")


def test_database_without_rows_is_an_error(tmp_path):
    write_lmdb(tmp_path / "set.aselmdb", [])
    with pytest.raises(DataError, match=r"set\.aselmdb holds no row"):
        read(tmp_path / "set.aselmdb")


@pytest.mark.parametrize("content", [b"", b"hello", b"\x00" * 9000, b"\xff" * 9000, b"SQLite format 3\x00" * 1000])
def test_foreign_file_is_an_error_that_names_it_and_is_left_alone(content, tmp_path):
    (tmp_path / "set.aselmdb").write_bytes(content)
    with pytest.raises(DataError, match=r"set\.aselmdb"):
        read(tmp_path / "set.aselmdb")
    assert (tmp_path / "set.aselmdb").read_bytes() == content
    assert [path.name for path in tmp_path.iterdir()] == ["set.aselmdb"]


def test_database_cut_off_anywhere_is_an_error_and_not_the_end_of_the_process(tmp_path):
    write_lmdb(tmp_path / "whole.aselmdb", [make_atoms("Mo20", seed=seed) for seed in range(40)])
    content = (tmp_path / "whole.aselmdb").read_bytes()
    (tmp_path / "cut").mkdir()
    for length in [100, 4096, *range(8192, len(content), 5000), len(content) - 1]:
        (tmp_path / "cut" / "set.aselmdb").write_bytes(content[:length])
        with pytest.raises(DataError, match=r"set\.aselmdb"):
            read(tmp_path / "cut" / "set.aselmdb")


def test_damaged_pages_are_an_error_and_not_the_end_of_the_process(tmp_path):
    write_lmdb(tmp_path / "whole.aselmdb", [make_atoms("Mo20", seed=seed) for seed in range(40)])
    content = bytearray((tmp_path / "whole.aselmdb").read_bytes())
    content[2 * 4096 :] = b"\xff" * (len(content) - 2 * 4096)  # all but the two pages that describe the file
    (tmp_path / "set.aselmdb").write_bytes(content)
    with pytest.raises(DataError, match=r"set\.aselmdb"):
        read(tmp_path / "set.aselmdb")


def test_database_is_not_written_to(tmp_path):
    write_lmdb(tmp_path / "set.aselmdb", [make_atoms()])
    (tmp_path / "set.aselmdb-lock").unlink(missing_ok=True)
    before = (tmp_path / "set.aselmdb").read_bytes()
    (tmp_path / "set.aselmdb").chmod(0o444)
    assert len(read(tmp_path / "set.aselmdb")) == 1
    assert (tmp_path / "set.aselmdb").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["set.aselmdb"]
