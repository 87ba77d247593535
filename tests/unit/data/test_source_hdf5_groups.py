"""HDF5 of molecules in the layouts of SPICE and Transition1x: units, signs, sets, and what is wrong with files."""

import ase.units as u
import h5py
import numpy as np
import pytest

from scaling.data.manifest import Rejected
from scaling.data.sources.hdf5_groups import Hdf5Groups
from scaling.errors import DataError

REST = np.array([[0.0, 0.0, 0.12], [0.0, 0.76, -0.48], [0.0, -0.76, -0.48]])
SPICE_UNITS = {"conformations": "bohr", "dft_total_energy": "hartree", "dft_total_gradient": "hartree/bohr"}
ENERGY, FORCES = "wB97x_6-31G(d).energy", "wB97x_6-31G(d).forces"


def values(num=3, seed=0):
    rng = np.random.default_rng(seed)
    return REST + rng.normal(0, 0.05, (num, 3, 3)), rng.normal(-76, 0.1, num), rng.normal(size=(num, 3, 3))


def write_spice(path, names=("water", "water 2"), units=SPICE_UNITS, **changes):
    """As openmm/spice-dataset's downloader writes it: attributes `units`, gradients, float32 geometries."""
    with h5py.File(path, "w") as file:
        for seed, name in enumerate(names):
            places, energies, gradients = values(seed=seed)
            group = file.create_group(name)
            group["smiles"] = [b"[H:2][O:1][H:3]"]
            group["subset"] = [b"SPICE Test"]
            content = {
                "atomic_numbers": np.array([8, 1, 1]),
                "conformations": (places / u.Bohr).astype(np.float32),
                "formation_energy": energies + 75,
                "dft_total_energy": energies,
                "dft_total_gradient": gradients,
                "mbis_charges": np.zeros((3, 3, 1)),
                **changes,
            }
            for key, value in content.items():
                group[key] = value
                if key in units:
                    group[key].attrs["units"] = units[key]


def write_transition1x(path, splits=True):
    with h5py.File(path, "w") as file:
        for seed, (formula, reaction) in enumerate([("H2O", "rxn1"), ("H2O", "rxn2"), ("H2O2", "rxn3")]):
            places, energies, forces = values(seed=seed)
            group = file.create_group(f"data/{formula}/{reaction}")
            group["atomic_numbers"], group["positions"] = np.array([8, 1, 1]), places
            group[ENERGY], group[FORCES] = energies, forces
            group["wB97x_6-31G(d).atomization_energy"] = energies + 75
            group.create_group("reactant")["positions"] = places[:1]
            if splits:
                split = ("train", "val", "test")[seed]
                file.require_group(split).require_group(formula)[reaction] = group  # a hard link
        if splits:
            assert file["train/H2O/rxn1"] == file["data/H2O/rxn1"]


def read(path, **settings):
    source = Hdf5Groups(path=str(path), **settings)
    return [entry for task in source.tasks() for entry in source.read(task)]


def test_spice_is_read_with_the_units_of_its_attributes_and_gradients_negated(tmp_path):
    write_spice(tmp_path / "spice.hdf5")
    entries = read(tmp_path)
    assert [entry.group for entry in entries] == ["water"] * 3 + ["water 2"] * 3
    places, energies, gradients = values()
    for entry, place, energy, gradient in zip(entries[:3], places, energies, gradients, strict=True):
        assert entry.numbers.tolist() == [8, 1, 1]
        np.testing.assert_allclose(entry.positions, place, atol=1e-6)
        assert entry.energy == energy * u.Hartree
        np.testing.assert_array_equal(entry.forces, -gradient * (u.Hartree / u.Bohr))
        assert not entry.pbc.any()
    by_key = read(tmp_path, energy_key="formation_energy", energy_unit="Hartree", force_unit="Hartree/Bohr")
    assert by_key[0].energy == (energies[0] + 75) * u.Hartree


def test_setting_that_contradicts_the_attributes_is_an_error(tmp_path):
    write_spice(tmp_path / "spice.hdf5")
    with pytest.raises(DataError, match=r"states /water/dft_total_energy units=hartree, but source\.energy_unit=eV"):
        read(tmp_path, energy_unit="eV")


def test_file_without_units_is_refused_until_they_are_said(tmp_path):
    write_spice(tmp_path / "plain.h5", units={})
    with pytest.raises(DataError, match=r"does not state the unit of its energies: say source\.energy_unit"):
        read(tmp_path)
    entry = read(tmp_path, energy_unit="Hartree", force_unit="Hartree/Bohr", length_unit="Bohr")[0]
    assert entry.energy == values()[1][0] * u.Hartree
    np.testing.assert_allclose(entry.positions, values()[0][0], atol=1e-6)


def test_transition1x_is_in_ev_held_out_by_its_authors_and_grouped_by_formula(tmp_path):
    write_transition1x(tmp_path / "t1x.h5")
    entries = read(tmp_path)
    assert [(entry.record, entry.group, entry.holdout) for entry in entries[::3]] == [
        ("t1x.h5#test/H2O2/rxn3/0", "H2O2", "test"),
        ("t1x.h5#train/H2O/rxn1/0", "H2O", ""),
        ("t1x.h5#val/H2O/rxn2/0", "H2O", ""),
    ]
    places, energies, forces = values()
    assert entries[3].energy == energies[0]
    np.testing.assert_array_equal(entries[3].forces, forces[0])
    np.testing.assert_array_equal(entries[3].positions, places[0])
    write_transition1x(tmp_path / "t1x.h5", splits=False)
    assert [entry.record for entry in read(tmp_path)[::3]] == [
        f"t1x.h5#data/{name}/0" for name in ("H2O/rxn1", "H2O/rxn2", "H2O2/rxn3")
    ]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"atomic_numbers": np.array([8, 1])}, "malformed record"),
        ({"conformations": np.ones((3, 9), np.float32)}, "malformed record"),
        ({"atomic_numbers": np.array([8.5, 1, 1])}, "malformed record"),
        ({"dft_total_energy": np.full((3, 2), -76.0)}, "malformed record"),
        ({"dft_total_gradient": np.ones((2, 3, 3))}, "malformed record"),
    ],
)
def test_malformed_molecule_is_rejected(changes, reason, tmp_path):
    write_spice(tmp_path / "spice.hdf5", **changes)
    entries = read(tmp_path)
    assert {entry.reason for entry in entries} == {reason}
    assert all(isinstance(entry, Rejected) for entry in entries)


def test_file_of_something_else_is_an_error_that_names_it(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["x"] = np.ones(3)
    with pytest.raises(DataError, match=r"a\.h5 holds no molecules"):
        read(tmp_path)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_group("a")["loop"] = file["/"]
    with pytest.raises(DataError, match="reached twice"):
        read(tmp_path)


@pytest.mark.parametrize("key", ["", "none"])
def test_unit_of_forces_alone_must_be_known_too(key, tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        group = file.create_group("water")
        places, energies, forces = values()
        group["atomic_numbers"], group["positions"], group["forces"] = np.array([8, 1, 1]), places, forces
        if key:
            group["energy"] = energies
    with pytest.raises(DataError, match=r"does not state the unit of forces: say source\.force_unit"):
        read(tmp_path / "a.h5", energy_key=key)
    assert len(read(tmp_path / "a.h5", energy_key=key, force_unit="eV/Ang")) == 3
