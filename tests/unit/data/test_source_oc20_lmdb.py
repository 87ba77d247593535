"""Reading Open Catalyst records: both layouts, groups, and files that are damaged or mean harm."""

import os
import pickle

import lmdb
import numpy as np
import pytest
import torch
from torch_geometric.data import Data

from scaling.data.manifest import Rejected
from scaling.data.preparation.validation import Accepted, Bounds, validate
from scaling.data.sources import oc20_lmdb
from scaling.data.sources.oc20_lmdb import Oc20Lmdb
from scaling.errors import DataError


def fields(seed=0, **changes):
    """The fields of an S2EF record as published: float32, atomic numbers as floats too."""
    rng = np.random.default_rng(seed)
    grid = np.stack(np.meshgrid(*[np.arange(2)] * 3, indexing="ij"), -1).reshape(-1, 3)
    num_atoms = len(grid)
    return {
        "pos": torch.tensor(grid * 2.5 + rng.uniform(0, 0.3, grid.shape), dtype=torch.float32),
        "cell": torch.tensor([[[5.0, 0.0, 0.0], [0.5, 5.1, 0.0], [0.0, 0.0, 20.0]]]),
        "atomic_numbers": torch.tensor(rng.choice([1.0, 6.0, 29.0, 78.0], num_atoms), dtype=torch.float32),
        "natoms": num_atoms,
        "y": float(rng.normal()),
        "force": torch.tensor(rng.normal(size=(num_atoms, 3)), dtype=torch.float32),
        "fixed": torch.zeros(num_atoms),
        "tags": torch.ones(num_atoms, dtype=torch.long),
        "sid": 1000 + seed,
        "fid": 7,
        **changes,
    }


def new_layout(values):
    """As PyTorch-Geometric since 2.0 pickles it: the fields lie in a storage."""
    return pickle.dumps(Data(**values), protocol=-1)


def old_layout(values):
    """As PyTorch-Geometric before 2.0 pickled it: the fields are the object's own."""
    data = Data.__new__(Data)
    data.__dict__.update({"edge_index": None, "edge_attr": None, "face": None, **values})
    return pickle.dumps(data, protocol=4)


def write(path, records, length="count"):
    with lmdb.open(str(path), subdir=False, map_size=2**26, lock=False) as env, env.begin(write=True) as transaction:
        for index, record in enumerate(records):
            if record is not None:
                transaction.put(str(index).encode(), record)
        if length is not None:
            content = pickle.dumps(len(records), protocol=-1) if length == "count" else length
            transaction.put(b"length", content)
    return path


def read(path):
    source = Oc20Lmdb(path=str(path))
    return [entry for task in source.tasks() for entry in source.read(task)]


def read_one(tmp_path, record):
    (entry,) = read(write(tmp_path / "a.lmdb", [record]))
    return entry


@pytest.mark.parametrize("layout", [new_layout, old_layout])
def test_record_is_read_in_full(layout, tmp_path):
    values = fields()
    structure = read_one(tmp_path, layout(values))
    np.testing.assert_array_equal(structure.numbers, values["atomic_numbers"].long().numpy())
    np.testing.assert_array_equal(structure.positions, values["pos"].double().numpy())
    np.testing.assert_array_equal(structure.cell, values["cell"][0].double().numpy())
    np.testing.assert_array_equal(structure.forces, values["force"].double().numpy())
    assert structure.energy == values["y"]
    assert structure.pbc.tolist() == [True] * 3
    assert (structure.group, structure.record, structure.holdout) == ("oc20 1000", "a.lmdb#0", "")
    assert structure.positions.dtype == structure.forces.dtype == structure.cell.dtype == np.float64
    assert isinstance(validate(structure, Bounds()), Accepted)


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_all_protocols_give_the_same(protocol, tmp_path):
    entry = read_one(tmp_path, pickle.dumps(Data(**fields()), protocol=protocol))
    assert entry.energy == fields()["y"]


@pytest.mark.parametrize(
    "changes",
    [
        {"y": torch.tensor(-3.5)},
        {"y": torch.tensor([-3.5])},
        {"y": np.float64(-3.5)},
        {"y": np.array([-3.5])},
        {"natoms": torch.tensor([8])},
        {"natoms": None},
        {"cell": np.eye(3) * 6},
        {"sid": torch.tensor([1000])},
        {"atomic_numbers": np.full(8, 29)},
        {"force": np.zeros((8, 3), dtype=np.float32)},
    ],
    ids=lambda changes: ",".join(f"{name} {type(value).__name__}" for name, value in changes.items()),
)
def test_numbers_of_any_kind_are_read(changes, tmp_path):
    structure = read_one(tmp_path, new_layout(fields(**changes)))
    assert structure.energy == (-3.5 if "y" in changes else fields()["y"])
    assert structure.group == "oc20 1000"
    assert isinstance(validate(structure, Bounds()), Accepted)


def test_group_is_the_system_across_files_and_the_composition_where_it_is_unknown(tmp_path):
    write(
        tmp_path / "a.lmdb",
        [new_layout(fields(0, sid=5)), new_layout(fields(1, sid=6)), new_layout(fields(2, sid="x"))],
    )
    plain = torch.tensor([29.0, 1, 29, 1, 1, 29, 29, 29])
    lost = {"sid": None, "atomic_numbers": plain}
    write(
        tmp_path / "b.lmdb",
        [new_layout(fields(3, sid=5)), old_layout(fields(4, **lost)), old_layout(fields(5, **lost))],
    )
    groups = [structure.group for structure in read(tmp_path)]
    assert groups == ["oc20 5", "oc20 6", "oc20 x", "oc20 5", "oc20 Cu5 H3", "oc20 Cu5 H3"]


def test_tasks_cover_each_record_once_and_give_the_same_in_any_order(tmp_path, monkeypatch):
    monkeypatch.setattr(oc20_lmdb, "_RECORDS_PER_TASK", 4)
    write(tmp_path / "a.lmdb", [new_layout(fields(k)) for k in range(10)])
    write(tmp_path / "b.lmdb", [old_layout(fields(k)) for k in range(3)])
    source = Oc20Lmdb(path=str(tmp_path))
    tasks = list(source.tasks())
    assert [task[2:] for task in tasks] == [(0, 4), (4, 8), (8, 10), (0, 3)]
    assert pickle.loads(pickle.dumps(tasks)) == tasks
    backwards = {entry.record: entry.energy for task in reversed(tasks) for entry in source.read(task)}
    expected = [*(f"a.lmdb#{k}" for k in range(10)), *(f"b.lmdb#{k}" for k in range(3))]
    assert sorted(backwards) == sorted(expected)
    assert all(backwards[name] == fields(int(name[-1]))["y"] for name in expected)


def test_number_of_keys_stands_in_for_a_missing_length(tmp_path):
    entries = read(write(tmp_path / "a.lmdb", [new_layout(fields(k)) for k in range(3)], length=None))
    assert [entry.record for entry in entries] == ["a.lmdb#0", "a.lmdb#1", "a.lmdb#2"]


@pytest.mark.parametrize(
    ("changes", "reason", "detail"),
    [
        ({"force": None, "y_init": 1.0, "y_relaxed": 0.5, "y": None}, "no forces", "IS2RE"),
        ({"force": None, "y": None}, "no forces", ""),
        ({"y": None}, "no energy", ""),
        ({"pos": None}, "malformed record", ""),
        ({"cell": None}, "malformed record", ""),
        ({"atomic_numbers": None}, "malformed record", ""),
        ({"natoms": 7}, "atom count disagrees with natoms", "8 atoms"),
        ({"natoms": [4, 4]}, "atom count disagrees with natoms", "8 atoms"),
        ({"cell": torch.eye(3)[:2]}, "malformed record", "reshape"),
        ({"y": torch.tensor([1.0, 2.0])}, "malformed record", "size 1"),
        ({"y": "low"}, "malformed record", "str"),
        ({"y": True}, "malformed record", "bool"),
        ({"pos": [[0.0] * 3] * 8}, "malformed record", "nested list"),
        ({"atomic_numbers": torch.full((8,), 1.5)}, "malformed record", "whole number"),
        ({"atomic_numbers": torch.full((8,), float("nan"))}, "malformed record", "whole number"),
        ({"atomic_numbers": torch.full((8,), float("inf"))}, "malformed record", "whole number"),
        ({"atomic_numbers": ["Cu"] * 8}, "malformed record", "nested list"),
        ({"sid": [1, 2]}, "malformed record", "sid"),
        ({"sid": 1.5}, "malformed record", "sid"),
        ({"pos": np.array([[0, 0, "x"]] * 8, dtype=object)}, "malformed record", "not bytes"),
    ],
)
@pytest.mark.parametrize("layout", [new_layout, old_layout])
def test_malformed_record_is_rejected_and_the_rest_is_read(layout, changes, reason, detail, tmp_path):
    good = layout(fields())
    first, bad, last = read(write(tmp_path / "a.lmdb", [good, layout(fields(**changes)), good]))
    assert isinstance(bad, Rejected)
    assert (bad.record, bad.reason) == ("a.lmdb#1", reason)
    assert detail in bad.detail
    assert (first.record, last.record) == ("a.lmdb#0", "a.lmdb#2")


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"pos": torch.full((8, 3), float("nan"))}, "not finite"),
        ({"force": torch.full((8, 3), float("inf"))}, "not finite"),
        ({"y": float("nan")}, "not finite"),
        ({"force": torch.zeros(7, 3)}, "atom count disagrees with the forces"),
        ({"pos": torch.zeros(8, 2)}, "atom count disagrees with the positions"),
        (
            {"pos": torch.zeros(0, 3), "force": torch.zeros(0, 3), "atomic_numbers": torch.zeros(0), "natoms": 0},
            "no atoms",
        ),
        ({"atomic_numbers": torch.full((8,), 119.0)}, "unknown element"),
        ({"atomic_numbers": torch.full((8,), -1.0)}, "unknown element"),
        ({"cell": torch.zeros(1, 3, 3)}, "broken cell"),
    ],
)
def test_wrong_values_are_rejected_by_validation(changes, reason, tmp_path):
    rejected = validate(read_one(tmp_path, new_layout(fields(**changes))), Bounds())
    assert isinstance(rejected, Rejected)
    assert (rejected.record, rejected.reason) == ("a.lmdb#0", reason)


@pytest.mark.parametrize(
    "content", [b"", b"text", new_layout(fields())[:-30], pickle.dumps({"pos": 1}), pickle.dumps([1]), bytes(9_000_000)]
)
def test_value_that_is_no_record_is_rejected(content, tmp_path):
    entry = read_one(tmp_path, content)
    assert (entry.record, entry.reason) == ("a.lmdb#0", "malformed record")


def test_missing_key_is_rejected(tmp_path):
    good = new_layout(fields())
    entries = read(write(tmp_path / "a.lmdb", [good, None, good], length=pickle.dumps(3)))
    assert [entry.record for entry in entries if isinstance(entry, Rejected)] == ["a.lmdb#1"]
    assert entries[1].reason == "no such record"


@pytest.mark.parametrize(
    "length", [pickle.dumps(n) for n in (0, -1, 10**18, 3.0, "3", None, 10**5000, True)] + [b"", b"3", bytes(5000)]
)
def test_length_that_cannot_be_is_an_error(length, tmp_path):
    write(tmp_path / "a.lmdb", [new_layout(fields())], length=length)
    with pytest.raises(DataError, match=r"a\.lmdb: its key 'length'"):
        read(tmp_path / "a.lmdb")


class Calling:
    def __init__(self, function, *args):
        self.reduced = (function, args)

    def __reduce__(self):
        return self.reduced


@pytest.mark.parametrize("place", ["record", "field", "length"])
def test_pickle_that_runs_code_is_refused_and_not_run(place, tmp_path):
    evil = Calling(os.mkdir, str(tmp_path / "canary"))
    good = new_layout(fields())
    bad = {"record": pickle.dumps(evil), "field": new_layout(fields(y=evil)), "length": good}[place]
    path = write(tmp_path / "a.lmdb", [good, bad], pickle.dumps(evil) if place == "length" else "count")
    with pytest.raises(
        DataError, match=rf"a\.lmdb#{'length' if place == 'length' else 1}: the pickle names 'posix\.mkdir'"
    ):
        read(path)
    assert not (tmp_path / "canary").exists()
    pickle.loads(pickle.dumps(evil))
    assert (tmp_path / "canary").exists()


@pytest.mark.parametrize("content", [b"", b"text", bytes(50_000)])
def test_file_that_is_no_lmdb_is_an_error_that_names_it(content, tmp_path):
    (tmp_path / "a.lmdb").write_bytes(content)
    with pytest.raises(DataError, match=r"a\.lmdb"):
        read(tmp_path / "a.lmdb")


def test_truncated_file_is_an_error_that_names_it(tmp_path):
    path = write(tmp_path / "a.lmdb", [new_layout(fields(k)) for k in range(20)])
    content = path.read_bytes()
    for share in (0.1, 0.5, 0.9):
        path.write_bytes(content[: int(len(content) * share)])
        with pytest.raises(DataError, match=r"a\.lmdb"):
            read(path)


def test_empty_database_is_an_error(tmp_path):
    with pytest.raises(DataError, match=r"a\.lmdb holds no records"):
        read(write(tmp_path / "a.lmdb", [], length=None))
