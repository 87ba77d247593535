"""Reading nested files of conformers: units, the sign of what they call forces, and files that are damaged."""

import itertools
import pickle
from pathlib import Path

import h5py
import numpy as np
import pytest
from ase.units import Hartree

from scaling.data.manifest import Rejected
from scaling.data.preparation.validation import Accepted, Bounds, validate
from scaling.data.sources.ani import Ani
from scaling.errors import ConfigError, DataError

S66X8 = Path(__file__).parents[4] / "shared" / "data" / "atoms" / "comp6_s66x8" / "s66x8_wb97x6-31gd.h5"
needs_s66x8 = pytest.mark.skipif(not S66X8.exists(), reason=f"needs the published COMP6 file at {S66X8}")
WATER = np.array([[0.0, 0.0, 0.0], [0.96, 0.0, 0.0], [-0.24, 0.93, 0.0]])


def molecule(num_conformers=4, seed=0, **changes):
    """The data sets of a molecule as published: float32 coordinates and forces."""
    rng = np.random.default_rng(seed)
    shape = (num_conformers, 3, 3)
    fields = {
        "species": np.array([b"O", b"H", b"H"]),
        "coordinates": (WATER + rng.uniform(-0.1, 0.1, shape)).astype(np.float32),
        "energies": rng.normal(-76.0, 0.01, num_conformers),
        "forces": rng.normal(0, 0.02, shape).astype(np.float32),
        "lot": np.array([b"wb97x/6-31g*"]),
        **changes,
    }
    return {name: value for name, value in fields.items() if value is not None}


def write(path, molecules):
    with h5py.File(path, "w") as file:
        for where, fields in molecules.items():
            group = file.create_group(where)
            for name, value in fields.items():
                group.create_dataset(name, data=value)
    return path


def read(path, **settings):
    source = Ani(path=str(path), **settings)
    return [entry for task in source.tasks() for entry in source.read(task)]


def test_molecules_are_read_in_full_and_in_order(tmp_path):
    first, second = molecule(seed=1), molecule(num_conformers=2, seed=2)
    entries = read(write(tmp_path / "a.h5", {"set/b/mol2": second, "set/a": first}))
    assert [entry.record for entry in entries] == [
        *(f"a.h5#set/a/{k}" for k in range(4)),
        *(f"a.h5#set/b/mol2/{k}" for k in range(2)),
    ]
    for entry, fields, row in zip(entries, [first] * 4 + [second] * 2, [0, 1, 2, 3, 0, 1], strict=True):
        assert entry.numbers.tolist() == [8, 1, 1]
        np.testing.assert_array_equal(entry.positions, fields["coordinates"][row].astype(np.float64))
        np.testing.assert_array_equal(entry.forces, -fields["forces"][row].astype(np.float64) * Hartree)
        assert entry.energy == fields["energies"][row] * Hartree
        assert entry.positions.dtype == entry.forces.dtype == np.float64
        assert not entry.pbc.any()
        assert not entry.cell.any()
        assert isinstance(validate(entry, Bounds()), Accepted)
    assert {entry.group for entry in entries} == {"ani set/a", "ani set/b/mol2"}


def test_true_forces_keep_their_sign(tmp_path):
    path = write(tmp_path / "a.h5", {"m": molecule()})
    for negated, kept in zip(read(path), read(path, forces_are="forces"), strict=True):
        np.testing.assert_array_equal(negated.forces, -kept.forces)
        assert np.abs(kept.forces).max() > 0
    assert Ani().identity() != Ani(forces_are="forces").identity()
    with pytest.raises(ConfigError, match=r"source\.forces_are=grad"):
        Ani(forces_are="grad")


def test_large_molecule_is_cut_and_small_ones_share_a_task(tmp_path):
    path = write(tmp_path / "a.h5", {"a": molecule(1300), "b": molecule(3), "c": molecule(3)})
    source = Ani(path=str(path))
    tasks = list(source.tasks())
    assert [task[2] for task in tasks] == [
        (("a", 0, 512),),
        (("a", 512, 1024),),
        (("a", 1024, 1300), ("b", 0, 3), ("c", 0, 3)),
    ]
    assert pickle.loads(pickle.dumps(tasks)) == tasks
    energies = [entry.energy for task in reversed(tasks) for entry in source.read(task)]
    assert len(energies) == 1306
    assert sorted(energies) == sorted(entry.energy for entry in read(path))


@pytest.mark.parametrize(
    ("changes", "detail"),
    [
        ({"species": None}, "KeyError"),
        ({"coordinates": None}, "KeyError"),
        ({"energies": None}, "KeyError"),
        ({"forces": None}, "KeyError"),
        ({"species": np.array([b"O", b"H", b"Qq"])}, "not a chemical element"),
        ({"species": np.array([b"O", b"H", b"X"])}, "not a chemical element"),
        ({"species": np.array([8, 1, 1])}, "species has type int64"),
        ({"species": np.array([b"O", b"H"])}, "shape"),
        ({"coordinates": np.zeros((4, 3, 3), dtype=int)}, "coordinates has type int64"),
        ({"coordinates": np.zeros((4, 9))}, "shape"),
        ({"coordinates": np.float64(1)}, "TypeError"),
        ({"energies": np.zeros(3)}, "shape"),
        ({"energies": np.array([b"low"] * 4)}, "energies has type"),
        ({"forces": np.zeros((4, 2, 3))}, "shape"),
        ({"forces": np.zeros((3, 3, 3))}, "shape"),
    ],
)
def test_malformed_molecule_is_rejected_and_the_rest_is_read(changes, detail, tmp_path):
    entries = read(write(tmp_path / "a.h5", {"a": molecule(), "b": molecule(**changes), "c": molecule()}))
    (bad,) = [entry for entry in entries if isinstance(entry, Rejected)]
    assert bad.reason == "malformed record"
    assert bad.record == "a.h5#b/0"
    assert detail in bad.detail
    assert [entry.record for entry in entries if entry is not bad] == [f"a.h5#{m}/{k}" for m in "ac" for k in range(4)]


def test_molecule_without_conformers_is_rejected(tmp_path):
    entries = read(write(tmp_path / "a.h5", {"a": molecule(), "b": molecule(0)}))
    assert [(entry.record, entry.reason) for entry in entries if isinstance(entry, Rejected)] == [
        ("a.h5#b", "no conformers")
    ]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"coordinates": np.full((4, 3, 3), np.nan)}, "not finite"),
        ({"energies": np.full(4, np.inf)}, "not finite"),
        ({"forces": np.full((4, 3, 3), np.nan)}, "not finite"),
        (
            {"species": np.array([], dtype="S1"), "coordinates": np.zeros((4, 0, 3)), "forces": np.zeros((4, 0, 3))},
            "no atoms",
        ),
    ],
)
def test_wrong_values_are_rejected_by_validation(changes, reason, tmp_path):
    for entry in read(write(tmp_path / "a.h5", {"m": molecule(**changes)})):
        assert validate(entry, Bounds()).reason == reason


def test_file_without_molecules_or_forces_is_an_error(tmp_path):
    with pytest.raises(DataError, match=r"a\.h5 holds no molecules"):
        read(write(tmp_path / "a.h5", {"deep/empty": {}, "other": {"data": np.zeros(3)}}))
    with pytest.raises(DataError, match=r"b\.h5 holds energies without forces"):
        read(write(tmp_path / "b.h5", {"m": molecule(forces=None)}))


def test_groups_that_lead_back_are_an_error(tmp_path):
    path = write(tmp_path / "a.h5", {"m": molecule(), "loop/inner": {}})
    with h5py.File(path, "a") as file:
        file["loop/inner/again"] = file["loop"]
    with pytest.raises(DataError, match=r"a\.h5: loop/inner/again is reached twice"):
        read(path)
    with pytest.raises(DataError, match="deeper than"):
        read(write(tmp_path / "b.h5", {"/".join("x" * 40): molecule()}))


@pytest.mark.parametrize("link", [h5py.ExternalLink("other.h5", "/m"), h5py.SoftLink("/m")])
def test_links_are_refused(link, tmp_path):
    write(tmp_path / "other.h5", {"m": molecule()})
    path = write(tmp_path / "a.h5", {"m": molecule()})
    with h5py.File(path, "a") as file:
        file["n"] = link
    with pytest.raises(DataError, match=r"a\.h5: n in / is a link"):
        read(path)
    with h5py.File(path, "a") as file:
        del file["n"], file["m/forces"]
        file["m/forces"] = h5py.ExternalLink("other.h5", "/m/forces")
    with pytest.raises(DataError, match=r"a\.h5: forces in /m is a link"):
        read(path)


def test_conformers_that_are_declared_and_not_stored_are_rejected_unread(tmp_path):
    path = write(tmp_path / "a.h5", {"m": molecule()})
    with h5py.File(path, "a") as file:
        del file["m/coordinates"]
        file.create_dataset("m/coordinates", (10**12, 3, 3), "f4", chunks=(1000, 3, 3))
    (bad,) = read(path)
    assert (bad.record, bad.reason) == ("a.h5#m/0", "malformed record")
    assert "0 are stored" in bad.detail


@pytest.mark.parametrize("content", [b"", b"text", b"\x89HDF\r\n\x1a\n"])
def test_foreign_or_truncated_file_is_an_error_that_names_it(content, tmp_path):
    path = write(tmp_path / "a.h5", {"m": molecule()})
    for broken in (content, path.read_bytes()[:-100]):
        (tmp_path / "a.h5").write_bytes(broken)
        with pytest.raises(DataError, match=r"a\.h5 is not a whole HDF5 file"):
            read(path)


@needs_s66x8
def test_published_set_is_read_whole():
    entries = read(S66X8)
    assert len(entries) == 528
    assert sum(len(entry.numbers) for entry in entries) == 10_512
    assert len({entry.group for entry in entries}) == 66
    assert {z for entry in entries for z in entry.numbers.tolist()} == {1, 6, 7, 8}
    assert all(isinstance(validate(entry, Bounds()), Accepted) for entry in entries)
    with h5py.File(S66X8, "r") as file:
        raw = file["s66x8/mol17"]
        for row, entry in enumerate(entries[17 * 8 : 18 * 8]):
            assert entry.record == f"{S66X8.name}#s66x8/mol17/{row}"
            assert [entry.energy] == (raw["energies"][row : row + 1] * Hartree).tolist()
            np.testing.assert_array_equal(entry.positions, raw["coordinates"][row].astype(np.float64))
            np.testing.assert_array_equal(entry.forces, -raw["forces"][row].astype(np.float64) * Hartree)


def neighbouring(entries):
    """Energy differences of neighbouring conformers, and what forces and displacements make of them."""
    found = []
    for a, b in itertools.pairwise(entries):
        if a.group != b.group:
            continue
        step = b.positions - a.positions
        if np.abs(step).max() < 0.4:
            found.append((b.energy - a.energy, -np.sum((a.forces + b.forces) / 2 * step)))
    return np.array(found).T


@needs_s66x8
@pytest.mark.parametrize(("forces_are", "sign"), [("gradient", 1), ("forces", -1)])
def test_sign_of_forces_follows_from_energy_differences(forces_are, sign):
    """dE = -F.dx along the dimers' separation; with the other setting the correlation is reversed."""
    measured, predicted = neighbouring(read(S66X8, forces_are=forces_are))
    assert len(measured) > 200
    slope = measured @ predicted / (predicted @ predicted)
    assert slope == pytest.approx(sign, abs=0.05)  # the trapezoid's error over steps of up to 0.4 angstrom
    assert np.corrcoef(measured, predicted)[0, 1] * sign > 0.995
