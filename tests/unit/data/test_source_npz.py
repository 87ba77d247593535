"""NumPy archives in the layouts of rMD17, MD17, MD22 and padded ones: labels, units, and what is wrong with files."""

import pickle
import zipfile

import ase.units as u
import numpy as np
import pytest

from scaling.data.manifest import Rejected
from scaling.data.sources.npz import Npz
from scaling.errors import DataError
from scaling.structure import Structure

KCAL = u.kcal / u.mol
NUMBERS = np.array([8, 1, 1])


def content(num_frames=4, seed=0):
    rng = np.random.default_rng(seed)
    rest = np.array([[0.0, 0.0, 0.12], [0.0, 0.76, -0.48], [0.0, -0.76, -0.48]])
    return (
        rest + rng.normal(0, 0.05, (num_frames, 3, 3)),
        rng.normal(-47000, 1, num_frames),
        rng.normal(size=(num_frames, 3, 3)),
    )


def rmd17(**changes):
    coords, energies, forces = content()
    old = {"old_energies": energies + 1, "old_forces": -forces, "old_indices": np.arange(4)}
    return {"nuclear_charges": NUMBERS, "coords": coords, "energies": energies, "forces": forces, **old, **changes}


def md17(**changes):
    coords, energies, forces = content()
    texts = {"md5": np.array("ab"), "theory": np.array(b"PBE+TS"), "name": np.array("water"), "type": np.array("d")}
    return {"z": NUMBERS.astype(np.uint8), "R": coords, "E": energies[:, None], "F": forces, **texts, **changes}


def md22(**changes):
    """As sGDML's tools write it, with units."""
    return md17(e_unit=np.array("kcal/mol"), r_unit=np.array("Ang"), code_version=np.array("1.0"), **changes)


def read(tmp_path, arrays, **settings):
    np.savez(tmp_path / "set.npz", **arrays)
    source = Npz(path=str(tmp_path / "set.npz"), **settings)
    return [entry for task in pickle.loads(pickle.dumps(list(source.tasks()))) for entry in source.read(task)]


@pytest.mark.parametrize("layout", [rmd17, md17, md22])
def test_published_layouts_are_in_kcal_per_mol(layout, tmp_path, monkeypatch):
    monkeypatch.setattr("scaling.data.sources.npz._ATOMS_PER_TASK", 4)
    coords, energies, forces = content()
    entries = read(tmp_path, layout())
    assert [entry.record for entry in entries] == [f"set.npz#{k}" for k in range(4)]
    for entry, place, energy, force in zip(entries, coords, energies, forces, strict=True):
        assert entry.numbers.tolist() == [8, 1, 1]
        np.testing.assert_array_equal(entry.positions, place)
        assert entry.energy == energy * KCAL
        np.testing.assert_array_equal(entry.forces, force * KCAL)
        assert not entry.pbc.any()
        assert entry.group == "H2 O1"


def test_units_of_the_file_or_the_settings_but_never_guessed(tmp_path):
    coords, energies, forces = content()
    arrays = {"atomic_numbers": NUMBERS, "positions": coords, "energy": energies, "forces": forces}
    with pytest.raises(DataError, match=r"set\.npz does not state the unit of its energies: say source\.energy_unit"):
        read(tmp_path, arrays)
    assert read(tmp_path, arrays, energy_unit="eV")[0].energy == energies[0]
    stated = {"e_unit": np.array("hartree"), "r_unit": np.array("bohr")}
    hartree = read(tmp_path, arrays | stated)
    assert hartree[0].energy == energies[0] * u.Hartree
    np.testing.assert_array_equal(hartree[0].positions, coords[0] * u.Bohr)
    np.testing.assert_array_equal(hartree[0].forces, forces[0] * (u.Hartree / u.Bohr))
    with pytest.raises(DataError, match=r"states e_unit=kcal/mol, but source\.energy_unit=eV"):
        read(tmp_path, md22(), energy_unit="eV")


def test_cell_charge_stress_and_groups_are_read(tmp_path):
    lattice = np.array([[8.0, 1.0, 0.0], [0.0, 9.0, 0.0], [0.0, 0.0, 10.0]])  # columns
    stress = np.arange(24.0).reshape(4, 6)
    groups = np.array(["a", "a", "b", "b"])
    arrays = md22(lattice=lattice, stress=stress, Q=np.array([0, 1, -1, 2]), run=groups)
    entries = read(tmp_path, arrays, group_key="run", stress_unit="GPa")
    np.testing.assert_array_equal(entries[0].cell, lattice.T)
    assert entries[0].pbc.all()
    assert [entry.charge for entry in entries] == [0, 1, -1, 2]
    assert [entry.group for entry in entries] == ["a", "a", "b", "b"]
    np.testing.assert_array_equal(entries[1].stress[0], stress[1][[0, 5, 4]] * u.GPa)


def test_padded_frames_lose_their_padding(tmp_path):
    coords, energies, forces = content()
    numbers = np.array([[8, 1, 1], [8, 1, 0], [1, 1, 0], [8, 1, 1]])
    arrays = {"Z": numbers, "R": coords, "E": energies, "F": forces, "N": (numbers > 0).sum(axis=1)}
    entries = read(tmp_path, arrays, energy_unit="eV")
    assert [entry.numbers.tolist() for entry in entries] == [[8, 1, 1], [8, 1], [1, 1], [8, 1, 1]]
    np.testing.assert_array_equal(entries[1].positions, coords[1, :2])
    np.testing.assert_array_equal(entries[1].forces, forces[1, :2])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"nuclear_charges": np.array([8, 1])}, "nuclear_charges has shape"),
        ({"coords": np.ones((4, 9))}, "coords is float64 of shape"),
        ({"coords": np.ones((0, 3, 3))}, "coords is float64 of shape"),
        ({"cell": np.ones((3, 2))}, "cell has shape"),
        ({"forces": np.ones((3, 3, 3))}, "forces has shape"),
    ],
)
def test_arrays_that_do_not_fit_are_an_error_that_names_file_and_array(changes, message, tmp_path):
    with pytest.raises(DataError, match=rf"set\.npz: {message}"):
        read(tmp_path, rmd17(**changes))


@pytest.mark.parametrize("missing", ["nuclear_charges", "coords"])
def test_missing_atoms_are_an_error_that_lists_what_is_there(missing, tmp_path):
    arrays = {key: value for key, value in rmd17().items() if key != missing}
    with pytest.raises(DataError, match=r"by any usual name; it has .*energies"):
        read(tmp_path, arrays)


def test_frame_that_is_malformed_is_rejected(tmp_path):
    energies = rmd17()["energies"].astype(str)
    found = read(tmp_path, rmd17(energies=energies))
    assert {(entry.reason, isinstance(entry, Rejected)) for entry in found} == {("malformed record", True)}
    unlabelled = {key: value for key, value in md22().items() if key not in "EF"}
    assert {entry.reason for entry in read(tmp_path, unlabelled)} == {"missing energy and forces"}
    only_energies = read(tmp_path, {key: value for key, value in md22().items() if key != "F"})
    assert all(isinstance(entry, Structure) and entry.forces is None for entry in only_energies)


class Bomb:
    def __reduce__(self):
        return (pytest.fail, ("it was unpickled",))


def test_objects_are_never_unpickled_and_bombs_not_unpacked(tmp_path):
    with pytest.raises(DataError, match=r"set\.npz is not a whole \.npz file of plain arrays"):
        read(tmp_path, rmd17(energies=np.array([Bomb()] * 4, dtype=object)))
    np.savez_compressed(tmp_path / "set.npz", **rmd17(), zeros=np.zeros(10**6))
    assert len(list(Npz(path=str(tmp_path)).tasks())) == 1, "an array of zeros is no bomb"
    for content_ in (b"", b"hello", b"PK\x03\x04" + bytes(50)):
        (tmp_path / "set.npz").write_bytes(content_)
        with pytest.raises(DataError, match=r"set\.npz is not a whole \.npz"):
            list(Npz(path=str(tmp_path)).tasks())
    with zipfile.ZipFile(tmp_path / "set.npz", "w") as archive:
        archive.writestr("a.npy", b"\x93NUMPY\x01\x00v\x00{'descr': '<f8', 'fortran_order': False, 'shape': (10**15,)}")
    with pytest.raises(DataError, match=r"set\.npz"):
        list(Npz(path=str(tmp_path)).tasks())
