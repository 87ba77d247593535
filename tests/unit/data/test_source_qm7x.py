"""Reading QM7-X: conformers of molecules, their order, and files that are damaged."""

import h5py
import numpy as np
import pytest

from scaling.data.preparation.validation import Accepted, Bounds, validate
from scaling.data.sources.qm7x import Qm7x
from scaling.errors import DataError

WATER = np.array([[0.0, 0.0, 0.0], [0.96, 0.0, 0.0], [-0.24, 0.93, 0.0]])


def conformer(seed=0, **changes):
    """The data sets of a conformer as published."""
    rng = np.random.default_rng(seed)
    fields = {
        "atNUM": np.array([8, 1, 1]),
        "atXYZ": WATER + rng.uniform(-0.1, 0.1, (3, 3)),
        "ePBE0+MBD": np.array([rng.normal(-2000.0)]),
        "totFOR": rng.normal(size=(3, 3)),
        "ePBE0": np.array([1.0]),
        "pbe0FOR": np.ones((3, 3)),
        "hCHG": np.zeros(3),
        **changes,
    }
    return {name: value for name, value in fields.items() if value is not None}


def write(path, conformers):
    with h5py.File(path, "w") as file:
        for where, fields in conformers.items():
            group = file.create_group(where)
            for name, value in fields.items():
                group.create_dataset(name, data=value)
    return path


def read(path):
    source = Qm7x(path=str(path))
    return [entry for task in source.tasks() for entry in source.read(task)]


def test_conformers_are_read_in_full_and_in_order(tmp_path):
    names = ["1/Geom-m1-i1-c1-d1", "1/Geom-m1-i1-c1-opt", "1/Geom-m1-i2-c1-d7", "20/Geom-m20-i1-c1-opt"]
    conformers = {name: conformer(seed) for seed, name in enumerate(names)}
    entries = read(write(tmp_path / "1000.hdf5", dict(reversed(conformers.items()))))
    assert [entry.record for entry in entries] == [f"1000.hdf5#{name}" for name in names]
    assert [entry.group for entry in entries] == ["qm7x 1", "qm7x 1", "qm7x 1", "qm7x 20"]
    for entry, fields in zip(entries, conformers.values(), strict=True):
        assert entry.numbers.tolist() == [8, 1, 1]
        np.testing.assert_array_equal(entry.positions, fields["atXYZ"])
        np.testing.assert_array_equal(entry.forces, fields["totFOR"])
        assert entry.energy == fields["ePBE0+MBD"][0]
        assert entry.holdout == ""
        assert not entry.pbc.any()
        assert not entry.cell.any()
        assert isinstance(validate(entry, Bounds()), Accepted)


@pytest.mark.parametrize(
    "changes",
    [
        {"atXYZ": WATER.astype(np.float32)},
        {"atNUM": np.array([8, 1, 1], dtype=np.uint8)},
        {"atNUM": np.array([8.0, 1.0, 1.0])},
        {"ePBE0+MBD": np.float64(-2000.0)},
    ],
)
def test_numbers_of_any_kind_are_read(changes, tmp_path):
    (entry,) = read(write(tmp_path / "a.hdf5", {"1/c": conformer(**changes)}))
    assert isinstance(validate(entry, Bounds()), Accepted)


def test_tasks_hold_hundreds_of_conformers(tmp_path):
    path = write(tmp_path / "a.hdf5", {f"{m}/c{k:03}": conformer() for m, n in ((1, 600), (2, 5)) for k in range(n)})
    source = Qm7x(path=str(path))
    tasks = list(source.tasks())
    assert [task[2] for task in tasks] == [(("1", 0, 512),), (("1", 512, 600), ("2", 0, 5))]
    assert [entry.record for entry in source.read(tasks[1])][::88] == ["a.hdf5#1/c512", "a.hdf5#2/c000"]


@pytest.mark.parametrize(
    ("changes", "detail"),
    [
        ({"atNUM": None}, "KeyError"),
        ({"atXYZ": None}, "KeyError"),
        ({"ePBE0+MBD": None}, "KeyError"),
        ({"totFOR": None}, "KeyError"),
        ({"atNUM": np.array([8.5, 1, 1])}, "whole number"),
        ({"atNUM": np.array([b"O", b"H", b"H"])}, "type"),
        ({"atXYZ": np.zeros((3, 3), dtype=int)}, "type"),
        ({"totFOR": np.array([b"x"])}, "type"),
        ({"ePBE0+MBD": np.zeros(2)}, "2 energies"),
        ({"ePBE0+MBD": np.zeros(0)}, "0 energies"),
        ({"atXYZ": np.zeros((20_000, 3))}, "shape"),
    ],
)
def test_malformed_conformer_is_rejected_and_the_rest_is_read(changes, detail, tmp_path):
    first, bad, last = read(
        write(tmp_path / "a.hdf5", {"1/a": conformer(), "1/b": conformer(**changes), "1/c": conformer()})
    )
    assert (bad.record, bad.reason) == ("a.hdf5#1/b", "malformed record")
    assert detail in bad.detail
    assert (first.record, last.record) == ("a.hdf5#1/a", "a.hdf5#1/c")


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"atXYZ": np.full((3, 3), np.nan)}, "not finite"),
        ({"ePBE0+MBD": np.array([np.inf])}, "not finite"),
        ({"totFOR": np.full((3, 3), np.nan)}, "not finite"),
        ({"totFOR": np.zeros((2, 3))}, "atom count disagrees with the forces"),
        ({"atXYZ": np.zeros((2, 3))}, "atom count disagrees with the positions"),
        ({"atNUM": np.array([[8, 1, 1]])}, "atom count disagrees with the positions"),
        ({"atNUM": np.array([8, 1, 200])}, "unknown element"),
        ({"atNUM": np.zeros(0, int), "atXYZ": np.zeros((0, 3)), "totFOR": np.zeros((0, 3))}, "no atoms"),
    ],
)
def test_wrong_values_are_rejected_by_validation(changes, reason, tmp_path):
    (entry,) = read(write(tmp_path / "a.hdf5", {"1/a": conformer(**changes)}))
    assert validate(entry, Bounds()).reason == reason


def test_molecule_without_conformers_is_rejected(tmp_path):
    with h5py.File(tmp_path / "a.hdf5", "w") as file:
        file.create_group("1")
        file["2/data"] = np.zeros(3)
    empty, foreign = read(tmp_path / "a.hdf5")
    assert (empty.record, empty.reason) == ("a.hdf5#1", "no conformers")
    assert (foreign.record, foreign.reason) == ("a.hdf5#2/data", "malformed record")


@pytest.mark.parametrize("where", ["2", "1/b", "1/a/extra", "1/a/totFOR"])
def test_links_are_refused_where_they_would_be_read(where, tmp_path):
    write(tmp_path / "other.hdf5", {"1/a": conformer()})
    path = write(tmp_path / "a.hdf5", {"1/a": conformer()})
    with h5py.File(path, "a") as file:
        if where in file:
            del file[where]
        file[where] = h5py.ExternalLink("other.hdf5", "/1/a/totFOR" if where.endswith("totFOR") else "/1/a")
    if where == "1/a/extra":
        assert len(read(path)) == 1
    else:
        with pytest.raises(DataError, match=r"a\.hdf5: \w+ in .* is a link"):
            read(path)


@pytest.mark.parametrize("content", [b"", b"text", b"\x89HDF\r\n\x1a\n"])
def test_foreign_or_truncated_file_is_an_error_that_names_it(content, tmp_path):
    path = write(tmp_path / "a.hdf5", {"1/a": conformer()})
    for broken in (content, path.read_bytes()[:-100]):
        path.write_bytes(broken)
        with pytest.raises(DataError, match=r"a\.hdf5 is not a whole HDF5 file"):
            read(path)


def test_file_without_groups_is_an_error(tmp_path):
    with h5py.File(tmp_path / "a.hdf5", "w") as file:
        file["data"] = np.zeros(3)
    with pytest.raises(DataError, match=r"a\.hdf5 holds no groups"):
        read(tmp_path / "a.hdf5")
