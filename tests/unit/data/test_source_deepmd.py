"""Reading DeePMD systems: fields, groups, portions, and what is wrong with files."""

import itertools
import pickle
from pathlib import Path

import numpy as np
import pytest

from scaling.data.manifest import Rejected
from scaling.data.preparation.validation import Bounds, validate
from scaling.data.sources import deepmd
from scaling.data.sources.deepmd import Deepmd
from scaling.errors import ConfigError, DataError

FORMATS = Path(__file__).parents[4] / "shared" / "data" / "atoms" / "formats"
WATER = FORMATS / "deepmd_water_data_0"


def write_system(system, num_frames=3, seed=0, dtype=np.float64, sets=1, periodic=True, **changes):
    """A system of three atoms as DeePMD writes it; changes: arrays to put in place of those of the last set."""
    rng = np.random.default_rng(seed)
    written = []
    for number in range(sets):
        arrays = {
            "coord": rng.uniform(-0.1, 0.1, (num_frames, 9)) + np.eye(3).ravel(),
            "energy": rng.normal(size=num_frames),
            "force": rng.normal(size=(num_frames, 9)),
        }
        if periodic:
            arrays["box"] = np.diag([7.0, 8.0, 9.0]).ravel() + rng.uniform(-0.1, 0.1, (num_frames, 9))
        if number == sets - 1:
            arrays |= changes
        written.append({key: np.asarray(value).astype(dtype) for key, value in arrays.items()})
        (system / f"set.{number:03}").mkdir(parents=True)
        for key, value in written[-1].items():
            np.save(system / f"set.{number:03}" / f"{key}.npy", value)
    (system / "type.raw").write_text("0\n1\n1\n")
    (system / "type_map.raw").write_text("O\nH\n")
    if not periodic:
        (system / "nopbc").touch()
    return written


def read(path):
    source = Deepmd(path=str(path))
    return [entry for task in source.tasks() for entry in source.read(task)]


@pytest.mark.parametrize("dtype", [np.float32, np.float64, ">f8"])
def test_frame_is_read_in_full(dtype, tmp_path):
    first, second = write_system(tmp_path / "water", dtype=dtype, sets=2)
    entries = read(tmp_path / "water")
    assert [entry.record for entry in entries] == [f"water/set.{k:03}#{i}" for k in (0, 1) for i in range(3)]
    for entry, (arrays, index) in zip(entries, [(a, i) for a in (first, second) for i in range(3)], strict=True):
        assert entry.numbers.tolist() == [8, 1, 1]
        np.testing.assert_array_equal(entry.positions, arrays["coord"][index].reshape(3, 3))
        np.testing.assert_array_equal(entry.forces, arrays["force"][index].reshape(3, 3))
        np.testing.assert_array_equal(entry.cell, arrays["box"][index].reshape(3, 3))
        assert entry.positions.dtype == entry.forces.dtype == entry.cell.dtype == np.float64
        assert entry.energy == float(arrays["energy"][index])
        assert entry.pbc.tolist() == [True] * 3
        assert not isinstance(validate(entry, Bounds()), Rejected)


def test_without_periodic_cell(tmp_path):
    (arrays,) = write_system(tmp_path / "molecule", periodic=False)
    entry = read(tmp_path / "molecule")[1]
    assert not entry.pbc.any()
    assert not entry.cell.any()
    np.testing.assert_array_equal(entry.positions, arrays["coord"][1].reshape(3, 3))


def test_virial_becomes_stress_and_what_is_no_input_is_named(tmp_path):
    virial = np.arange(27.0).reshape(3, 9)
    (arrays,) = write_system(tmp_path / "water", virial=virial, spin=np.ones((3, 9)))
    for index, entry in enumerate(read(tmp_path)):
        volume = np.linalg.det(arrays["box"][index].reshape(3, 3))
        np.testing.assert_array_equal(entry.stress, -virial[index].reshape(3, 3) / volume)
    (left,) = Deepmd(path=str(tmp_path)).not_read()
    assert (left.kind, left.count, left.example) == ("spin.npy", 1, "water/set.000/spin.npy")


@pytest.mark.parametrize("missing", ["energy", "force"])
def test_either_label_may_be_missing(missing, tmp_path):
    write_system(tmp_path / "water")
    (tmp_path / "water" / "set.000" / f"{missing}.npy").unlink()
    entries = read(tmp_path)
    assert [(e.energy is None, e.forces is None) for e in entries] == [(missing == "energy", missing == "force")] * 3
    (tmp_path / "water" / "set.000" / f"{'force' if missing == 'energy' else 'energy'}.npy").unlink()
    with pytest.raises(DataError, match=r"set\.000 holds neither energy\.npy nor force\.npy"):
        read(tmp_path)


def test_energies_may_be_a_column(tmp_path):
    write_system(tmp_path / "water", energy=[[1.0], [2.0], [3.0]])
    assert [entry.energy for entry in read(tmp_path)] == [1.0, 2.0, 3.0]


def test_systems_are_found_at_any_depth_and_each_is_a_group(tmp_path):
    for system in ("b", "a/300K", "a/600K"):
        write_system(tmp_path / system, num_frames=2)
    assert [entry.group for entry in read(tmp_path)] == ["a/300K", "a/300K", "a/600K", "a/600K", "b", "b"]
    assert set(Deepmd(path=str(tmp_path)).files()) >= {"a/300K/type.raw", "b/set.000/coord.npy", "b/type_map.raw"}


def test_large_system_is_shared_out_and_every_part_stands_alone(tmp_path, monkeypatch):
    (arrays,) = write_system(tmp_path / "water", num_frames=20)
    monkeypatch.setattr(deepmd, "_ATOMS_PER_TASK", 10)
    source = Deepmd(path=str(tmp_path))
    tasks = pickle.loads(pickle.dumps(list(source.tasks())))
    assert len(tasks) == 7
    parts = [list(source.read(task)) for task in reversed(tasks)]
    assert [entry.energy for part in reversed(parts) for entry in part] == arrays["energy"].tolist()


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"energy": [1.0, np.nan, 3.0]}, "not finite"),
        ({"coord": np.where(np.arange(27).reshape(3, 9) == 10, np.inf, 1.0)}, "not finite"),
        ({"force": np.where(np.arange(27).reshape(3, 9) == 10, np.nan, 1.0)}, "not finite"),
        ({"box": np.where(np.arange(27).reshape(3, 9) >= 9, 0.0, 5.0 * np.eye(3).ravel())}, "broken cell"),
    ],
)
def test_broken_frame_is_rejected_by_name(changes, reason, tmp_path):
    write_system(tmp_path / "water", **changes)
    found = validate(read(tmp_path)[1], Bounds())
    assert isinstance(found, Rejected)
    assert (found.record, found.reason) == ("water/set.000#1", reason)


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({"coord": np.ones((3, 12))}, "coord"),
        ({"coord": np.ones((3, 3, 3))}, "coord"),
        ({"coord": np.ones(27)}, "coord"),
        ({"force": np.ones((3, 6))}, "force"),
        ({"force": np.ones((2, 9))}, "force"),
        ({"energy": np.ones(2)}, "energy"),
        ({"energy": np.ones((3, 3))}, "energy"),
        ({"box": np.ones((3, 6))}, "box"),
        ({"box": np.ones((1, 9))}, "box"),
        ({"coord": np.float64(1.0)}, "coord"),
        ({"energy": np.array(["a", "b", "c"]), "dtype": "U1"}, "coord"),
        ({"dtype": np.int64}, "coord"),
        ({"dtype": np.complex128}, "coord"),
    ],
)
def test_arrays_that_do_not_fit_are_an_error_that_names_the_file(changes, name, tmp_path):
    write_system(tmp_path / "water", **changes)
    with pytest.raises(DataError, match=rf"water/set\.000/{name}\.npy"):
        read(tmp_path)


class _Evil:
    def __reduce__(self):
        return (Path.touch, (Path("evil"),))


@pytest.mark.parametrize("name", ["coord", "energy", "force", "box"])
def test_objects_are_neither_loaded_nor_run(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_system(tmp_path / "water")
    target = tmp_path / "water" / "set.000" / f"{name}.npy"
    hostile = np.full((3, 9), _Evil(), dtype=object)
    np.save(target, hostile, allow_pickle=True)
    for content in (target.read_bytes(), pickle.dumps(_Evil())):
        target.write_bytes(content)
        with pytest.raises(DataError, match=rf"{name}\.npy"):
            read(tmp_path / "water")
    assert not (tmp_path / "evil").exists()
    pickle.loads(pickle.dumps(_Evil()))  # the trap works
    assert (tmp_path / "evil").exists()


@pytest.mark.parametrize("name", ["coord", "energy", "force", "box"])
@pytest.mark.parametrize(
    "damage",
    [
        lambda content: b"",
        lambda content: content[:-1],
        lambda content: content[:140],
        lambda content: content[:60],
        lambda content: b"hello",
        lambda content: b"PK\x03\x04" + content,
        lambda content: content.replace(b"'shape': (3", b"'shape': (9"),
        lambda content: content.replace(b"'shape': (3", b"'shape': (-"),
        lambda content: content.replace(b"<f8", b"|O8"),
        lambda content: content.replace(b"}", b"("),
    ],
)
def test_damaged_array_is_an_error_that_names_it(name, damage, tmp_path):
    write_system(tmp_path / "water")
    target = tmp_path / "water" / "set.000" / f"{name}.npy"
    content = target.read_bytes()
    assert damage(content) != content
    target.write_bytes(damage(content))
    with pytest.raises(DataError, match=rf"water/set\.000/{name}\.npy"):
        read(tmp_path)


@pytest.mark.parametrize("name", ["coord", "box"])
def test_missing_array_is_an_error_that_names_it(name, tmp_path):
    write_system(tmp_path / "water")
    (tmp_path / "water" / "set.000" / f"{name}.npy").unlink()
    with pytest.raises(DataError, match=rf"{name}\.npy is needed"):
        read(tmp_path)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("type.raw", "", "type.raw is empty"),
        ("type.raw", "0 1 2", "type.raw: '2' is not one of the 2 types"),
        ("type.raw", "0 1 -1", "type.raw: '-1' is not"),
        ("type.raw", "0 1 1.0", "type.raw: '1.0' is not"),
        ("type.raw", "0 1 " + "9" * 5000, "type.raw: '9+' is not"),
        ("type.raw", "0 1", "coord.npy has shape"),
        ("type_map.raw", "", "type_map.raw is empty"),
        ("type_map.raw", "O Qq", "type_map.raw: 'Qq' is not a chemical element"),
        ("type_map.raw", "O", "type.raw: '1' is not one of the 1 types"),
        ("type_map.raw", b"\xff\xfe", "type_map.raw is needed, and cannot be read"),
        ("type_map.raw", None, "type_map.raw is needed, and cannot be read"),
        ("type.raw", None, "type.raw is needed, and cannot be read"),
    ],
    ids=itertools.count(),
)
def test_malformed_types_are_an_error_that_names_the_file(name, content, message, tmp_path):
    write_system(tmp_path / "water")
    if content is None:
        (tmp_path / "water" / name).unlink()
    else:
        (tmp_path / "water" / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(DataError, match=f"water/.*{message}"):
        read(tmp_path)


def test_dummy_type_is_not_an_element(tmp_path):
    write_system(tmp_path / "water")
    (tmp_path / "water" / "type_map.raw").write_text("O X")
    found = validate(read(tmp_path)[0], Bounds())
    assert isinstance(found, Rejected)
    assert (found.record, found.reason) == ("water/set.000#0", "unknown element")


def test_mixed_type_is_refused_rather_than_misread(tmp_path):
    write_system(tmp_path / "mixed")
    np.save(tmp_path / "mixed" / "set.000" / "real_atom_types.npy", np.zeros((3, 3), np.int32))
    with pytest.raises(DataError, match=r"mixed/set\.000 is of mixed type"):
        read(tmp_path)


def test_system_without_frames(tmp_path):
    (tmp_path / "water").mkdir()
    (tmp_path / "water" / "type.raw").write_text("0")
    with pytest.raises(DataError, match=r"water holds no set\.\* directory"):
        read(tmp_path)


def test_set_without_frames(tmp_path):
    write_system(tmp_path / "water", num_frames=0)
    with pytest.raises(DataError, match=r"water/set\.000/coord\.npy holds no frame"):
        read(tmp_path)


def test_path_must_be_given_and_name_a_directory(tmp_path):
    with pytest.raises(ConfigError, match=r"source\.path is not set"):
        read("")
    with pytest.raises(DataError, match="does not exist"):
        read(tmp_path / "nowhere")
    with pytest.raises(DataError, match=r"holds no type\.raw"):
        read(tmp_path)
    (tmp_path / "type.raw").write_text("0")
    with pytest.raises(DataError, match="is a file; name the directory"):
        read(tmp_path / "type.raw")


@pytest.mark.skipif(not WATER.exists(), reason=f"needs the published system at {WATER}")
def test_published_water_equals_its_arrays():
    entries = read(WATER)
    coord, energy, force, box = (np.load(WATER / "set.000" / f"{k}.npy") for k in ("coord", "energy", "force", "box"))
    numbers = [{"0": 8, "1": 1}[word] for word in (WATER / "type.raw").read_text().split()]
    assert len(entries) == len(energy) == 80
    for index, entry in enumerate(entries):
        assert entry.numbers.tolist() == numbers
        np.testing.assert_array_equal(entry.positions.ravel(), coord[index])
        np.testing.assert_array_equal(entry.forces.ravel(), force[index])
        np.testing.assert_array_equal(entry.cell.ravel(), box[index])
        assert (entry.energy, entry.group) == (energy[index], "deepmd_water_data_0")
        assert not isinstance(validate(entry, Bounds()), Rejected)


def test_box_and_virial_beside_nopbc_are_named_and_not_read(tmp_path):
    write_system(tmp_path / "water", periodic=False)
    for name in ("box", "virial"):
        np.save(tmp_path / "water" / "set.000" / f"{name}.npy", np.ones((3, 9)))
    source = Deepmd(path=str(tmp_path))
    assert {entry.kind for entry in source.not_read()} == {"box.npy (beside nopbc)", "virial.npy (beside nopbc)"}
    assert not any(name.endswith(("box.npy", "virial.npy")) for name in source.files())
    assert [entry.stress for entry in read(tmp_path)] == [None] * 3
