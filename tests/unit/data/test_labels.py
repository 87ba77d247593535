"""Energy, forces, stress, charge and spin: each is stored where a structure has it, and is not there where it has not.

former/emt was prepared by the version in which every structure had an energy and forces (manifest format 3).
"""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest

from scaling.config import DataConfig
from scaling.data.baseline import Baseline
from scaling.data.manifest import FORMER_FORMAT, read_manifest
from scaling.data.preparation.pipeline import prepare, verify
from scaling.data.preparation.plausible import all_electron_ev, plausible_unit
from scaling.data.shards import ShardSet
from scaling.data.sources.emt import Emt
from scaling.data.sources.mixed import Mixed
from scaling.data.split import choose
from scaling.errors import ConfigError, DataError
from scaling.structure import LABELS, OPTIONAL

FORMER = Path(__file__).with_name("former") / "emt"
STRESS = np.array([[0.1, 0.01, 0.02], [0.01, 0.2, 0.03], [0.02, 0.03, -0.3]]) / 30


def with_labels(structure, *names, **values):
    """The structure with these of OPTIONAL alone, and electrons that fit its charge and spin."""
    numbers = np.full(len(structure.numbers), 28)
    whole = replace(structure, numbers=numbers, stress=STRESS * structure.energy, charge=-2, spin=5, **values)
    return replace(whole, **{name: None for name in OPTIONAL if name not in names})


@pytest.fixture
def partial(make_structure):
    """Structures with all kinds of labels, none alike."""
    kinds = [("energy",), ("forces",), ("stress",), ("energy", "forces"), OPTIONAL, ("energy", "charge"), LABELS]
    return [with_labels(make_structure(seed), *kinds[seed % len(kinds)]) for seed in range(21)]


def drawers(path):
    with h5py.File(path / "structures-00000.h5") as file:
        return set(file)


@pytest.mark.parametrize("max_atoms_per_shard", [12, 10_000])
def test_every_structure_gives_back_the_labels_it_had_and_no_others(max_atoms_per_shard, partial, prepared):
    shards = prepared(partial, max_atoms_per_shard=max_atoms_per_shard)
    assert (len(shards.manifest.shards) > 3) == (max_atoms_per_shard == 12)
    for index, entry in enumerate(partial):
        stored = shards.read(index)
        for name in OPTIONAL:
            expected, found = getattr(entry, name), getattr(stored, name)
            assert shards.has(name)[index] == (expected is not None) == (found is not None), name
            if expected is not None:
                dtype = np.float32 if name in ("forces", "stress") else np.float64
                np.testing.assert_array_equal(found, np.asarray(expected, dtype=dtype), err_msg=name)
    counts = {name: sum(getattr(entry, name) is not None for entry in partial) for name in OPTIONAL}
    assert shards.manifest.labels == counts
    assert np.isnan(shards.energy).sum() == len(partial) - counts["energy"]
    assert verify(shards.path) == shards.manifest == read_manifest(shards.path)


def test_digest_does_not_depend_on_sharding_and_does_on_every_label(partial, prepared):
    digest = prepared(partial, "whole").manifest.digest
    assert prepared(partial, "cut", max_atoms_per_shard=5).manifest.digest == digest
    changed = {
        "stress": replace(partial[4], stress=partial[4].stress * 2),
        "charge": replace(partial[4], charge=0),
        "spin": replace(partial[4], spin=3),
        "no energy": replace(partial[4], energy=None),
        "no forces": replace(partial[4], forces=None),
    }
    for name, other in changed.items():
        assert prepared([*partial[:4], other, *partial[5:]], name).manifest.digest != digest, name


def test_what_nobody_has_takes_no_place_and_no_part_in_the_digest(make_structure, prepared):
    full = prepared([make_structure(seed) for seed in range(5)], "full")
    assert drawers(full.path) & set(OPTIONAL) == {"energy", "forces"}
    energies = prepared([replace(make_structure(seed), forces=None) for seed in range(5)], "energies")
    assert drawers(energies.path) & set(OPTIONAL) == {"energy"}
    assert energies.manifest.statistics.force_norm_ev_per_ang is None
    assert energies.manifest.statistics.elements["Cu"].force_rms_ev_per_ang is None
    assert energies.manifest.statistics.energy_ev_per_atom == full.manifest.statistics.energy_ev_per_atom
    assert energies.manifest.digest != full.manifest.digest


def test_statistics_are_those_of_the_labels_that_are_there(make_structure, prepared):
    pressed = replace(make_structure(0), stress=-np.eye(3) * 0.1, energy=None)
    statistics = prepared([pressed, replace(make_structure(1), forces=None)]).manifest.statistics
    assert statistics.pressure_gpa.mean == pytest.approx(16.02, abs=0.01), "0.1 eV/angstrom^3 of compression"
    other = make_structure(1)
    assert statistics.energy_ev_per_atom.mean == other.energy / len(other.numbers)
    assert statistics.force_component_rms_ev_per_ang == pytest.approx(np.sqrt((pressed.forces**2).mean()), rel=1e-6)


def test_directory_of_the_former_format_reads_verifies_and_keeps_its_digest(tmp_path):
    shutil.copytree(FORMER, tmp_path / "emt")
    assert json.loads((FORMER / "manifest.json").read_text())["format"] == FORMER_FORMAT
    shards = ShardSet(tmp_path / "emt")
    assert verify(shards.path).labels == {"energy": 6, "forces": 6, "stress": 0, "charge": 0, "spin": 0}
    stored = shards.read(3)
    assert stored.energy == shards.energy[3]
    assert stored.forces.any()
    assert (stored.stress, stored.charge, stored.spin) == (None, None, None)
    assert [bool(shards.has(name).all()) for name in OPTIONAL] == [True, True, False, False, False]
    again = prepare(Emt(num_structures=6), tmp_path / "emt", progress=False)
    assert again.already, "nobody has to prepare it again"
    new = prepare(Emt(num_structures=6), tmp_path / "new", progress=False).manifest
    assert new.digest == shards.manifest.digest, "studies find their data by it"
    assert prepare(Emt(num_structures=5), tmp_path / "other", progress=False).manifest.digest != new.digest


def test_damage_of_a_directory_of_the_former_format_is_found(tmp_path):
    shutil.copytree(FORMER, tmp_path / "emt")
    path = tmp_path / "emt" / "index.npy"
    content = bytearray(path.read_bytes())
    content[-40] ^= 1
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"index\.npy"):
        verify(tmp_path / "emt")


def test_former_and_partial_sets_are_mixed(partial, prepared, tmp_path):
    other = prepared(partial, "partial")
    mixed = Mixed(paths=[str(FORMER), str(other.path)])
    manifest = prepare(mixed, tmp_path / "mixed", progress=False).manifest
    shards = ShardSet(tmp_path / "mixed")
    assert manifest.labels == {
        name: other.manifest.labels[name] + 6 * (name in ("energy", "forces")) for name in OPTIONAL
    }
    for index in range(len(other)):
        for name in OPTIONAL:
            np.testing.assert_array_equal(getattr(shards.read(6 + index), name), getattr(other.read(index), name))


def asking(*labels):
    return {label: f"train.{'energy' if label == 'energy' else 'force'}_weight=1.0" for label in labels}


def chosen(shards, *labels, **data):
    settings = {"val_share": 0.2, "test_share": 0.2, **data}
    return choose(DataConfig(path=str(shards.path), **settings), shards, asking(*labels))


def alike(make_structure, seed, **changes):
    """A structure of copper in a group of its own."""
    structure = make_structure(seed)
    return replace(structure, numbers=np.full(len(structure.numbers), 29), group=f"g{seed}", **changes)


def test_loss_that_asks_for_what_nobody_has_is_refused_with_the_way_out(make_structure, prepared):
    energies = prepared([alike(make_structure, seed, forces=None) for seed in range(40)], "energies")
    with pytest.raises(
        ConfigError,
        match=r"train\.force_weight=1\.0 asks for forces, which no training structure of .* has "
        r"\(they have energy\); set train\.force_weight=0$",
    ):
        chosen(energies, "energy", "forces")
    forces = prepared([alike(make_structure, seed, energy=None) for seed in range(40)], "forces")
    with pytest.raises(ConfigError, match=r"train\.energy_weight=1\.0 asks for energy.*set train\.energy_weight=0$"):
        chosen(forces, "energy", "forces")
    for shards, label in ((energies, "energy"), (forces, "forces")):
        parts, train = chosen(shards, label)
        assert len(train) + len(parts.val) + len(parts.test) == 40


def test_structures_without_a_label_that_counts_are_neither_trained_nor_judged_on(make_structure, prepared):
    kinds = [{"energy": None}, {"forces": None}, {}]
    shards = prepared([alike(make_structure, seed, **kinds[seed % 3]) for seed in range(90)])
    for labels, num in ((("energy",), 60), (("forces",), 60), (("energy", "forces"), 90)):
        parts, train = chosen(shards, *labels)
        used = np.concatenate([train, parts.val, parts.test])
        assert len(used) == num
        assert all(np.logical_or.reduce([shards.has(label)[used] for label in labels]))


def test_reference_energies_come_from_structures_with_energies(make_structure, prepared):
    full = [alike(make_structure, seed) for seed in range(30)]
    extra = [alike(make_structure, seed, energy=None) for seed in range(30, 45)]
    some, whole = prepared([*full, *extra], "some"), prepared(full, "whole")
    found = Baseline.fit(some, np.arange(45), some.num_edges)
    expected = Baseline.fit(whole, np.arange(30), whole.num_edges)
    np.testing.assert_array_equal(found.reference_ev, expected.reference_ev)
    assert found.energy_mae_ev_per_atom == expected.energy_mae_ev_per_atom
    assert found.force_mae_ev_per_ang != expected.force_mae_ev_per_ang, "all 45 have forces"
    none = prepared([replace(entry, energy=None) for entry in full], "none")
    assert Baseline.fit(none, np.arange(30), none.num_edges).energy_mae_ev_per_atom is None


@pytest.mark.parametrize(("z", "energy"), [(1, -0.5), (6, -37.8), (8, -75.1), (29, -1640.0), (79, -17866.0)])
def test_all_electron_energies_are_known_within_a_tenth(z, energy):
    assert all_electron_ev(np.array([z]))[0] / 27.2114 == pytest.approx(energy, rel=0.1)


def test_unit_that_would_make_an_energy_plausible_is_named():
    ethanol, hartree = np.array([6, 6, 8, 1, 1, 1, 1, 1, 1]), -154.8
    for factor, words in ((627.5, "kcal/mol and not eV"), (2625.5, "kJ/mol"), (27.2114**2, "eV and not Hartree")):
        assert words in plausible_unit(hartree * factor, ethanol, 1e3)
    assert "raise bounds.max_energy_ev_per_atom" in plausible_unit(hartree * 27.2114, ethanol, 100.0)
    assert plausible_unit(-1e30, ethanol, 1e3) == "no usual unit makes it plausible"
