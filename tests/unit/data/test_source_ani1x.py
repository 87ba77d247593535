"""Reading the ANI-1x release: levels, units, what was not computed, and files that are damaged."""

import h5py
import numpy as np
import pytest
from ase.units import Hartree

from scaling.data.manifest import Rejected
from scaling.data.preparation.validation import Accepted, Bounds, validate
from scaling.data.sources.ani1x import Ani1x
from scaling.errors import ConfigError, DataError

WATER = np.array([[0.0, 0.0, 0.0], [0.96, 0.0, 0.0], [-0.24, 0.93, 0.0]])


def formula(num_conformers=5, seed=0, **changes):
    """The data sets of a formula as published; the larger basis covers the even rows."""
    rng = np.random.default_rng(seed)
    shape = (num_conformers, 3, 3)
    fields = {"atomic_numbers": np.array([8, 1, 1], dtype=np.uint8)}
    fields["coordinates"] = (WATER + rng.uniform(-0.1, 0.1, shape)).astype(np.float32)
    for level in ("wb97x_dz", "wb97x_tz"):
        fields[f"{level}.energy"] = rng.normal(-76.0, 0.01, num_conformers)
        fields[f"{level}.forces"] = rng.normal(0, 0.02, shape).astype(np.float32)
    fields["wb97x_tz.energy"][1::2] = np.nan
    fields["wb97x_tz.forces"][1::2] = np.nan
    fields["ccsd(t)_cbs.energy"] = np.full(num_conformers, np.nan)
    fields.update({name.replace("__", "."): value for name, value in changes.items()})
    return {name: value for name, value in fields.items() if value is not None}


def write(path, formulas):
    with h5py.File(path, "w") as file:
        for name, fields in formulas.items():
            group = file.create_group(name)
            for key, value in fields.items():
                group.create_dataset(key, data=value)
    return path


def read(path, **settings):
    source = Ani1x(path=str(path), **settings)
    return [entry for task in source.tasks() for entry in source.read(task)]


@pytest.mark.parametrize(("level", "rows"), [("wb97x_dz", [0, 1, 2, 3, 4]), ("wb97x_tz", [0, 2, 4])])
def test_level_is_read_in_full_where_it_was_computed(level, rows, tmp_path):
    formulas = {"H2O1": formula(seed=1), "O1H2": formula(seed=2)}
    entries = read(write(tmp_path / "a.h5", formulas), level=level)
    kept = [entry for entry in entries if not isinstance(entry, Rejected)]
    expected = [(name, row) for name in ("H2O1", "O1H2") for row in rows]
    assert [entry.record for entry in kept] == [f"a.h5#{name}/{row}" for name, row in expected]
    for entry, (name, row) in zip(kept, expected, strict=True):
        fields = formulas[name]
        assert entry.numbers.tolist() == [8, 1, 1]
        np.testing.assert_array_equal(entry.positions, fields["coordinates"][row].astype(np.float64))
        np.testing.assert_array_equal(entry.forces, fields[f"{level}.forces"][row].astype(np.float64) * Hartree)
        assert entry.energy == fields[f"{level}.energy"][row] * Hartree
        assert (entry.group, entry.holdout) == (f"ani1x {name}", "")
        assert not entry.pbc.any()
        assert isinstance(validate(entry, Bounds()), Accepted)


def test_what_was_not_computed_is_counted(tmp_path):
    entries = read(write(tmp_path / "a.h5", {"H2O1": formula()}), level="wb97x_tz")
    assert [(e.record, e.reason, e.detail) for e in entries if isinstance(e, Rejected)] == [
        ("a.h5#H2O1/0", "level not computed", "wb97x_tz: 2 of the conformers 0 to 4")
    ]


@pytest.mark.parametrize("name", ["wb97x_dz__energy", "wb97x_dz__forces"])
def test_half_a_label_is_none(name, tmp_path):
    values = formula()[name.replace("__", ".")]
    values[3] = np.nan
    entries = read(write(tmp_path / "a.h5", {"H2O1": formula(**{name: values})}))
    assert [entry.record[-1] for entry in entries if not isinstance(entry, Rejected)] == ["0", "1", "2", "4"]
    assert "1 of the conformers" in entries[-1].detail


def test_level_is_part_of_the_identity_and_needs_forces():
    assert Ani1x().identity() != Ani1x(level="wb97x_tz").identity()
    with pytest.raises(ConfigError, match=r"source\.level=ccsd\(t\)_cbs must be wb97x_dz or wb97x_tz"):
        Ani1x(level="ccsd(t)_cbs")


def test_tasks_are_portions_that_add_up(tmp_path):
    source = Ani1x(path=str(write(tmp_path / "a.h5", {"A": formula(600), "B": formula(3)})))
    tasks = list(source.tasks())
    assert [task[2] for task in tasks] == [(("A", 0, 512),), (("A", 512, 600), ("B", 0, 3))]
    assert [entry.record for entry in source.read(tasks[1])][::88] == ["a.h5#A/512", "a.h5#B/0"]


@pytest.mark.parametrize(
    ("changes", "detail"),
    [
        ({"atomic_numbers": None}, "KeyError"),
        ({"coordinates": None}, "KeyError"),
        ({"wb97x_dz__energy": None}, "KeyError"),
        ({"wb97x_dz__forces": None}, "KeyError"),
        ({"atomic_numbers": np.array([8.0, 1, 1])}, "type float64"),
        ({"atomic_numbers": np.array([b"O", b"H", b"H"])}, "type"),
        ({"atomic_numbers": np.array([8, 1])}, "shape"),
        ({"atomic_numbers": np.array([[8, 1, 1]])}, "shape"),
        ({"atomic_numbers": np.array([10**7, 1, 1])}, "whole number"),
        ({"coordinates": np.zeros((5, 3, 3), dtype=int)}, "type"),
        ({"coordinates": np.zeros((5, 3, 2))}, "shape"),
        ({"coordinates": np.zeros(())}, "TypeError"),
        ({"wb97x_dz__energy": np.zeros(4)}, "shape"),
        ({"wb97x_dz__forces": np.zeros((5, 4, 3))}, "shape"),
    ],
)
def test_malformed_formula_is_rejected_and_the_rest_is_read(changes, detail, tmp_path):
    entries = read(write(tmp_path / "a.h5", {"A": formula(), "B": formula(**changes), "C": formula()}))
    (bad,) = [entry for entry in entries if isinstance(entry, Rejected)]
    assert (bad.record, bad.reason) == ("a.h5#B/0", "malformed record")
    assert detail in bad.detail
    assert len(entries) == 11


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"coordinates": np.full((5, 3, 3), np.nan)}, "not finite"),
        ({"wb97x_dz__energy": np.full(5, -np.inf)}, "not finite"),
        ({"wb97x_dz__forces": np.full((5, 3, 3), np.inf)}, "not finite"),
        ({"atomic_numbers": np.array([119, 1, 1])}, "unknown element"),
        ({"atomic_numbers": np.array([0, 1, 1])}, "unknown element"),
    ],
)
def test_wrong_values_are_rejected_by_validation(changes, reason, tmp_path):
    entries = read(write(tmp_path / "a.h5", {"A": formula(**changes)}))
    assert [validate(entry, Bounds()).reason for entry in entries] == [reason] * 5


def test_formula_without_conformers_or_atoms_is_rejected(tmp_path):
    empty = {name: np.zeros((5, 0, 3)) for name in ("coordinates", "wb97x_dz__forces")}
    path = write(
        tmp_path / "a.h5", {"A": formula(0), "B": formula(atomic_numbers=np.array([], dtype=np.uint8), **empty)}
    )
    first, *others = read(path)
    assert (first.record, first.reason) == ("a.h5#A", "no conformers")
    assert [validate(entry, Bounds()).reason for entry in others] == ["no atoms"] * 5


def test_links_are_refused(tmp_path):
    write(tmp_path / "other.h5", {"A": formula()})
    path = write(tmp_path / "a.h5", {"A": formula(wb97x_dz__energy=None)})
    with h5py.File(path, "a") as file:
        file["A/wb97x_dz.energy"] = h5py.ExternalLink("other.h5", "/A/wb97x_dz.energy")
    with pytest.raises(DataError, match=r"a\.h5: wb97x_dz\.energy in /A is a link"):
        read(path)
    with h5py.File(path, "a") as file:
        file["B"] = h5py.ExternalLink("other.h5", "/A")
    with pytest.raises(DataError, match=r"a\.h5: B in / is a link"):
        read(path)


def test_conformers_that_are_declared_and_not_stored_are_rejected_unread(tmp_path):
    path = write(tmp_path / "a.h5", {"A": formula(coordinates=None)})
    with h5py.File(path, "a") as file:
        file.create_dataset("A/coordinates", (10**12, 3, 3), "f4", chunks=(1000, 3, 3))
    (bad,) = read(path)
    assert (bad.record, bad.reason) == ("a.h5#A/0", "malformed record")
    assert "0 are stored" in bad.detail


@pytest.mark.parametrize("content", [b"", b"text", b"\x89HDF\r\n\x1a\n"])
def test_foreign_or_truncated_file_is_an_error_that_names_it(content, tmp_path):
    path = write(tmp_path / "a.h5", {"A": formula()})
    for broken in (content, path.read_bytes()[:-100]):
        path.write_bytes(broken)
        with pytest.raises(DataError, match=r"a\.h5 is not a whole HDF5 file"):
            read(path)


def test_file_of_another_layout_is_an_error_or_rejected(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["data"] = np.zeros(3)
    with pytest.raises(DataError, match=r"a\.h5 holds no groups"):
        read(tmp_path / "a.h5")
    with h5py.File(tmp_path / "b.h5", "w") as file:
        file["set/molecule/energies"] = np.zeros(3)
    (bad,) = read(tmp_path / "b.h5")
    assert (bad.record, bad.reason) == ("b.h5#set/0", "malformed record")
