"""Reading ASE's SQLite databases: fields, groups, portions, and what is wrong with files and rows."""

import itertools
import json
import pickle
import sqlite3
from pathlib import Path

import ase.db
import numpy as np
import pytest
from ase import Atoms, units
from ase.calculators.singlepoint import SinglePointCalculator
from ase.constraints import FixAtoms
from ase.db.core import object_to_bytes

from scaling.data.manifest import Rejected
from scaling.data.preparation.validation import Bounds, validate
from scaling.data.sources import ase_db
from scaling.data.sources.ase_db import AseDb
from scaling.errors import DataError

OXIDES = Path(__file__).parents[4] / "shared" / "data" / "atoms" / "formats" / "fairchem_oxides.db"


def make_atoms(symbols="MoO", seed=0, labels=("energy", "forces"), **changes):
    """A few atoms in a row, in a periodic cell, with random labels."""
    rng = np.random.default_rng(seed)
    num_atoms = len(Atoms(symbols))
    positions = np.outer(np.arange(num_atoms), [1.2, 0.9, 0.6]) + rng.uniform(-0.1, 0.1, (num_atoms, 3))
    atoms = Atoms(symbols, positions, cell=np.eye(3) * 6 + rng.uniform(-0.1, 0.1, (3, 3)), pbc=(True, True, False))
    results = {"energy": float(rng.normal()), "forces": rng.normal(size=(num_atoms, 3))}
    atoms.calc = SinglePointCalculator(atoms, **{label: results[label] for label in labels} | changes)
    return atoms


def write_db(path, entries, **key_values):
    with ase.db.connect(str(path)) as database:
        for atoms in entries:
            database.write(atoms, **key_values)


def read(path, **settings):
    source = AseDb(path=str(path), **settings)
    return [entry for task in source.tasks() for entry in source.read(task)]


def change_row(path, row_id, **columns):
    """Write to the table behind ASE's back."""
    with sqlite3.connect(path) as connection:
        for column, value in columns.items():
            connection.execute(f"UPDATE systems SET {column}=? WHERE id=?", (value, row_id))
    connection.close()


def final(entry):
    return entry if isinstance(entry, Rejected) else validate(entry, Bounds())


def test_row_is_read_in_full(tmp_path):
    written = [make_atoms(seed=seed) for seed in range(3)]
    write_db(tmp_path / "set.db", written)
    for index, (entry, atoms) in enumerate(zip(read(tmp_path / "set.db"), written, strict=True)):
        assert entry.record == f"set.db#{index + 1}"
        np.testing.assert_array_equal(entry.numbers, atoms.numbers)
        np.testing.assert_array_equal(entry.positions, atoms.positions)
        np.testing.assert_array_equal(entry.cell, atoms.cell.array)
        np.testing.assert_array_equal(entry.forces, atoms.calc.results["forces"])
        assert entry.energy == atoms.calc.results["energy"]
        assert entry.pbc.tolist() == [True, True, False]
        assert not isinstance(validate(entry, Bounds()), Rejected)


def test_trajectory_is_one_group_even_in_two_databases(tmp_path):
    (tmp_path / "sub").mkdir()
    write_db(tmp_path / "a.db", [make_atoms(), make_atoms("Mo2O2"), make_atoms("MoO2")])
    write_db(tmp_path / "sub" / "b.db", [make_atoms("OMo")])
    entries = read(tmp_path)
    assert [entry.group for entry in entries] == ["Mo1 O1", "Mo1 O1", "Mo1 O2", "Mo1 O1"]
    assert [entry.record for entry in entries] == ["a.db#1", "a.db#2", "a.db#3", "sub/b.db#1"]


def test_group_is_a_key_value_pair_or_an_entry_of_the_data(tmp_path):
    with ase.db.connect(str(tmp_path / "set.db")) as database:
        database.write(make_atoms(), sid=7)
        database.write(make_atoms(), data={"sid": "random7", "other": np.arange(3)})
        database.write(make_atoms())
    first, second, third = read(tmp_path / "set.db", group_key="sid")
    assert (first.group, second.group) == ("7", "random7")
    assert (third.record, third.reason) == ("set.db#3", "missing group key")
    assert AseDb(group_key="sid").identity() != AseDb().identity()


def test_constraints_do_not_alter_the_forces(tmp_path):
    atoms = make_atoms()
    atoms.set_constraint(FixAtoms([0]))
    write_db(tmp_path / "set.db", [atoms])
    assert not ase.db.connect(str(tmp_path / "set.db")).get_atoms(1).get_forces()[0].any()  # what ASE makes of them
    np.testing.assert_array_equal(read(tmp_path / "set.db")[0].forces, atoms.calc.results["forces"])


def test_large_database_is_shared_out_and_every_part_stands_alone(tmp_path, monkeypatch):
    written = [make_atoms(seed=seed) for seed in range(20)]
    write_db(tmp_path / "set.db", written)
    with ase.db.connect(str(tmp_path / "set.db")) as database:
        database.delete([1, 4, 5, 6, 7])
    monkeypatch.setattr(ase_db, "_ROWS_PER_TASK", 4)
    source = AseDb(path=str(tmp_path / "set.db"))
    tasks = pickle.loads(pickle.dumps(list(source.tasks())))
    assert len(tasks) == 4
    entries = [entry for part in reversed([list(source.read(task)) for task in reversed(tasks)]) for entry in part]
    kept = [row_id for row_id in range(1, 21) if row_id not in (1, 4, 5, 6, 7)]
    assert [entry.record for entry in entries] == [f"set.db#{row_id}" for row_id in kept]
    assert [entry.energy for entry in entries] == [written[row_id - 1].calc.results["energy"] for row_id in kept]


def test_stress_charge_and_spin_are_read(tmp_path):
    atoms = make_atoms()
    stress = np.arange(1.0, 7.0)
    atoms.calc.results["stress"] = stress
    with ase.db.connect(str(tmp_path / "set.db")) as database:
        database.write(atoms, data={"charge": -1, "spin": 2})
        database.write(atoms, total_charge=1, multiplicity=3)
    first, second = read(tmp_path / "set.db")
    np.testing.assert_array_equal(first.stress, stress[[0, 5, 4, 5, 1, 3, 4, 3, 2]].reshape(3, 3))
    assert [(entry.charge, entry.spin) for entry in (first, second)] == [(-1, 2), (1, 3)]
    in_gpa = read(tmp_path / "set.db", stress_unit="GPa")[0]
    np.testing.assert_allclose(in_gpa.stress, first.stress * units.GPa)


def test_labels_are_looked_for_in_key_value_pairs_and_data(tmp_path):
    atoms = make_atoms(labels=())
    forces = np.ones((len(atoms), 3))
    with ase.db.connect(str(tmp_path / "set.db")) as database:
        database.write(atoms, E_dft=-1.5, data={"F": forces, "energy": -9.0})
        database.write(atoms, data={"energies": [1.0, 2.0]})
    found, refused = read(tmp_path / "set.db", energy_key="E_dft", forces_key="F")
    assert found.energy == -1.5
    np.testing.assert_array_equal(found.forces, forces)
    assert refused.detail.startswith(
        "source.energy_key=E_dft is not there; source.forces_key=F is not there; found calculator: nothing; "
        "key-value pairs: nothing; data: energies"
    )


@pytest.mark.parametrize(
    ("metadata", "energy", "force", "length"),
    [
        ({}, 1.0, 1.0, 1.0),
        ({"_distance_unit": "Ang", "_property_unit_dict": {"energy": "1.0", "forces": 1.0}}, 1.0, 1.0, 1.0),
        (
            {"_distance_unit": "Bohr", "_property_unit_dict": {"energy": "Hartree", "forces": "Hartree/Bohr"}},
            units.Hartree,
            units.Hartree / units.Bohr,
            units.Bohr,
        ),
        (
            {"units": {"energy": "Hartree", "forces": "Hartree/Bohr", "positions": "Bohr"}},
            units.Hartree,
            units.Hartree / units.Bohr,
            units.Bohr,
        ),
        ({"energy": {"unit": "Hartree"}, "forces": {"unit": "Hartree/Ang"}}, units.Hartree, units.Hartree, 1),
        ({"energy_unit": "kcal/mol", "force_unit": "kcal/mol/Ang"}, units.kcal / units.mol, units.kcal / units.mol, 1),
    ],
)
def test_units_in_the_metadata_count(metadata, energy, force, length, tmp_path):
    atoms = make_atoms()
    with ase.db.connect(str(tmp_path / "set.db")) as database:
        database.metadata = metadata
        database.write(atoms)
    (found,) = read(tmp_path / "set.db")
    assert found.energy == pytest.approx(atoms.calc.results["energy"] * energy)
    np.testing.assert_allclose(found.forces, atoms.calc.results["forces"] * force)
    np.testing.assert_allclose(found.positions, atoms.positions * length)
    if energy != 1.0:
        with pytest.raises(DataError, match=r"set\.db#1 states .*source\.energy_unit=eV"):
            read(tmp_path / "set.db", energy_unit="eV")


@pytest.mark.parametrize("labels", [(), ("forces",), ("energy",)])
def test_row_without_a_label_says_so_and_one_without_any_is_rejected(labels, tmp_path):
    write_db(tmp_path / "set.db", [make_atoms(labels=labels), make_atoms()])
    entry, good = read(tmp_path / "set.db")
    if labels:
        assert (entry.energy is None, entry.forces is None) == ("energy" not in labels, "forces" not in labels)
    else:
        assert (entry.record, entry.reason) == ("set.db#1", "missing energy and forces")
        assert "name them by source.energy_key, source.forces_key" in entry.detail
    assert not isinstance(good, Rejected)


BOMB = json.dumps({"run": {"__ndarray__": [[10**15], "float64", [0.0]]}})


@pytest.mark.parametrize(
    ("columns", "reason"),
    [
        ({"energy": float("inf")}, "not finite"),
        ({"energy": "low"}, "malformed record"),
        ({"energy": b"\x00\x01"}, "malformed record"),
        ({"energy": None, "forces": None}, "missing energy and forces"),
        ({"forces": np.full(6, np.nan).tobytes()}, "not finite"),
        ({"forces": np.ones(3).tobytes()}, "atom count disagrees with the forces"),
        ({"forces": np.ones(6, np.float32).tobytes()}, "atom count disagrees with the forces"),
        ({"forces": np.ones(4).tobytes()}, "malformed record"),
        ({"forces": b"short"}, "malformed record"),
        ({"forces": "text"}, "malformed record"),
        ({"forces": 7}, "malformed record"),
        ({"positions": np.ones(9).tobytes()}, "atom count disagrees with the positions"),
        ({"positions": np.array([0, 0, 0, np.inf, 1, 1]).tobytes()}, "not finite"),
        ({"positions": None}, "atom count disagrees with the positions"),
        ({"numbers": b""}, "no atoms"),
        ({"numbers": np.array([42], np.int32).tobytes()}, "atom count disagrees with the positions"),
        ({"numbers": np.array([42, 0], np.int32).tobytes()}, "unknown element"),
        ({"numbers": np.array([42, 200], np.int32).tobytes()}, "unknown element"),
        ({"numbers": np.array([42, -1], np.int32).tobytes()}, "unknown element"),
        ({"numbers": None}, "malformed record"),
        ({"cell": np.ones(3).tobytes()}, "malformed record"),
        ({"cell": np.zeros(9).tobytes()}, "broken cell"),
        ({"cell": np.full(9, np.nan).tobytes()}, "not finite"),
        ({"cell": None}, "broken cell"),
        ({"pbc": "all"}, "malformed record"),
        ({"key_value_pairs": "{"}, "malformed record"),
        ({"key_value_pairs": "null"}, "malformed record"),
        ({"key_value_pairs": "[" * 100_000}, "malformed record"),
        ({"key_value_pairs": BOMB}, "malformed record"),
        ({"key_value_pairs": '{"get": 1, "_keys": 2}'}, "malformed record"),
        ({"key_value_pairs": '{"a": {"__ase_objtype__": "os.system"}}'}, "malformed record"),
        ({"calculator_parameters": "{"}, "malformed record"),
    ],
    ids=itertools.count(),
)
def test_malformed_row_is_rejected_by_name_and_the_rest_is_read(columns, reason, tmp_path):
    write_db(tmp_path / "set.db", [make_atoms(seed=seed) for seed in range(3)])
    change_row(tmp_path / "set.db", 2, **columns)
    first, found, last = (final(entry) for entry in read(tmp_path / "set.db"))
    assert isinstance(found, Rejected)
    assert (found.record, found.reason) == ("set.db#2", reason)
    assert not isinstance(first, Rejected)
    assert not isinstance(last, Rejected)


@pytest.mark.parametrize(
    "data",
    [b"", b"\xff" * 40, object_to_bytes({"run": 1})[:-3], b"\x08" + bytes(7) + b"[" * 100_000, "{", '{"run": [1, {"a"'],
    ids=itertools.count(),
)
def test_row_with_malformed_data_is_rejected_since_a_charge_may_be_lost_with_them(data, tmp_path):
    write_db(tmp_path / "set.db", [make_atoms(), make_atoms()])
    change_row(tmp_path / "set.db", 1, data=data)
    found, good = read(tmp_path / "set.db")
    assert (found.record, found.reason) == ("set.db#1", "malformed record")
    assert not isinstance(good, Rejected)


def test_constraints_are_never_decoded(tmp_path):
    write_db(tmp_path / "set.db", [make_atoms()])
    change_row(tmp_path / "set.db", 1, constraints='[{"name": "Filter", "kwargs": {"x": 1}}]')
    with pytest.raises((TypeError, AttributeError, ValueError)):
        ase.db.connect(str(tmp_path / "set.db")).get_atoms(1)  # the trap works
    assert not isinstance(read(tmp_path / "set.db")[0], Rejected)


@pytest.mark.parametrize("content", [b"", b"hello", b"\x00" * 8192, b"SQLite format 3\x00" + b"\xff" * 8176])
def test_foreign_file_is_an_error_that_names_it_and_is_left_alone(content, tmp_path):
    (tmp_path / "set.db").write_bytes(content)
    with pytest.raises(DataError, match=r"set\.db is not an? (whole )?ASE database"):
        read(tmp_path / "set.db")
    assert (tmp_path / "set.db").read_bytes() == content
    assert [path.name for path in tmp_path.iterdir()] == ["set.db"]


@pytest.mark.parametrize(
    "script",
    [
        "CREATE TABLE systems (id TEXT); INSERT INTO systems VALUES ('natoms>0')",
        "CREATE TABLE systems (id INTEGER PRIMARY KEY, energy REAL); INSERT INTO systems VALUES (1, 2.0)",
        "CREATE TABLE systems (energy REAL)",
        "CREATE TABLE other (id INTEGER)",
        # asked for its rows, this one would never end
        "CREATE TABLE information (name TEXT, value TEXT); INSERT INTO information VALUES ('version', '9');"
        "CREATE VIEW systems AS WITH RECURSIVE n(id) AS (SELECT 1 UNION ALL SELECT id + 1 FROM n) SELECT id FROM n",
    ],
)
def test_database_of_something_else_is_an_error_that_names_it(script, tmp_path):
    connection = sqlite3.connect(tmp_path / "set.db")
    connection.executescript(script)
    connection.close()
    with pytest.raises(DataError, match=r"set\.db is not an? (whole )?ASE database"):
        read(tmp_path / "set.db")


def test_format_that_ase_cannot_read_is_an_error(tmp_path):
    write_db(tmp_path / "set.db", [make_atoms()])
    with sqlite3.connect(tmp_path / "set.db") as connection:
        connection.execute("UPDATE information SET value='99' WHERE name='version'")
    connection.close()
    with pytest.raises(DataError, match=r"set\.db .*version 99"):
        read(tmp_path / "set.db")


def test_database_without_rows_is_an_error(tmp_path):
    write_db(tmp_path / "set.db", [make_atoms()])
    with ase.db.connect(str(tmp_path / "set.db")) as database:
        database.delete([1])
    with pytest.raises(DataError, match=r"set\.db holds no row"):
        read(tmp_path / "set.db")


def test_database_cut_off_anywhere_is_an_error_that_names_it(tmp_path):
    write_db(tmp_path / "whole.db", [make_atoms("Mo20", seed=seed) for seed in range(60)])
    content = (tmp_path / "whole.db").read_bytes()
    (tmp_path / "cut").mkdir()
    for num_pages in range(1, len(content) // 4096):
        (tmp_path / "cut" / "set.db").write_bytes(content[: num_pages * 4096])
        with pytest.raises(DataError, match=r"set\.db is not"):
            read(tmp_path / "cut" / "set.db")


def test_database_is_not_written_to(tmp_path):
    write_db(tmp_path / "set.db", [make_atoms()])
    before = (tmp_path / "set.db").read_bytes()
    (tmp_path / "set.db").chmod(0o444)
    assert len(read(tmp_path / "set.db")) == 1
    assert (tmp_path / "set.db").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["set.db"]


def test_odd_characters_in_the_path(tmp_path):
    odd = tmp_path / "50% of #1 ?mode=rwc"
    odd.mkdir()
    write_db(odd / "a b.db", [make_atoms()])
    assert len(read(odd / "a b.db")) == 1


@pytest.mark.skipif(not OXIDES.exists(), reason=f"needs the published database at {OXIDES}")
def test_published_oxides_equal_their_columns():
    connection = sqlite3.connect(f"file:{OXIDES}?mode=ro", uri=True)
    columns = "id, numbers, positions, cell, pbc, energy, forces"
    rows = connection.execute(f"SELECT {columns} FROM systems ORDER BY id").fetchall()
    connection.close()
    entries = read(OXIDES)
    assert len(rows) == 295
    for entry, (row_id, numbers, positions, cell, pbc, energy, forces) in zip(entries, rows, strict=True):
        assert entry.record == f"fairchem_oxides.db#{row_id}"
        assert entry.numbers.tolist() == np.frombuffer(numbers, "<i4").tolist()
        np.testing.assert_array_equal(entry.positions.ravel(), np.frombuffer(positions, "<f8"))
        np.testing.assert_array_equal(entry.cell.ravel(), np.frombuffer(cell, "<f8"))
        np.testing.assert_array_equal(entry.forces.ravel(), np.frombuffer(forces, "<f8"))
        assert (entry.energy, entry.pbc.tolist(), pbc) == (energy, [True] * 3, 7)
        assert not isinstance(validate(entry, Bounds()), Rejected)
    assert len({entry.group for entry in entries}) == 5
