"""The generator: the same structures anywhere, labelled by ASE's own EMT, worth learning from."""

import itertools

import numpy as np
import pytest
from ase import Atoms
from ase.calculators.emt import EMT

from scaling.data.manifest import Rejected
from scaling.data.preparation.pipeline import prepare
from scaling.data.preparation.validation import Accepted, Bounds, validate
from scaling.data.shards import ShardSet
from scaling.data.sources.emt import MAX_ATOMS, VARIANTS_PER_BASE, Emt
from scaling.errors import ConfigError
from scaling.structure import Structure


@pytest.fixture(scope="module")
def entries():
    return first_entries(Emt(), 400)


def first_entries(source, num_structures):
    found, count = [], 0
    for task in source.tasks():
        for entry in source.read(task):
            found.append(entry)
            count += isinstance(entry, Structure)
            if count == num_structures:
                return found
    raise AssertionError("tasks have no end")


@pytest.fixture(scope="module")
def structures(entries):
    return [entry for entry in entries if isinstance(entry, Structure)]


def _same(first, second):
    if isinstance(first, Rejected) or isinstance(second, Rejected):
        return first == second
    return first.record == second.record and all(
        np.array_equal(getattr(first, name), getattr(second, name))
        for name in ("numbers", "positions", "cell", "pbc", "energy", "forces", "group")
    )


def test_labels_are_those_of_plain_ase(structures):
    for structure in structures[:60]:
        atoms = Atoms(structure.numbers, structure.positions, cell=structure.cell, pbc=structure.pbc, calculator=EMT())
        assert structure.energy == pytest.approx(atoms.get_potential_energy(), abs=1e-10)
        np.testing.assert_allclose(structure.forces, atoms.get_forces(), atol=1e-10)


def test_prepared_set_does_not_depend_on_the_number_of_processes(tmp_path):
    one = prepare(Emt(num_structures=200), tmp_path / "one", num_processes=1, progress=False)
    three = prepare(Emt(num_structures=200), tmp_path / "three", num_processes=3, progress=False)
    other = prepare(Emt(num_structures=200, seed=1), tmp_path / "other", num_processes=3, progress=False)
    assert three.manifest == one.manifest
    assert other.manifest.digest != one.manifest.digest


def test_smaller_set_is_the_beginning_of_a_larger_one(tmp_path):
    for name, count in (("small", 50), ("large", 90)):
        prepare(Emt(num_structures=count), tmp_path / name, progress=False)
    small, large = ShardSet(tmp_path / "small"), ShardSet(tmp_path / "large")
    assert (len(small), len(large)) == (50, 90)
    assert small.energy.tolist() == large.energy[:50].tolist()


def test_another_seed_makes_other_structures(structures):
    other = next(entry for entry in first_entries(Emt(seed=1), 1) if isinstance(entry, Structure))
    assert not any(_same(other, structure) for structure in structures)


def test_all_pass_validation_and_few_are_thrown_away(entries, structures):
    assert all(isinstance(validate(structure, Bounds()), Accepted) for structure in structures)
    assert len(structures) == 400
    assert (len(entries) - len(structures)) / len(entries) < 0.2
    assert {entry.reason for entry in entries if isinstance(entry, Rejected)} <= {
        "generated forces too large",
        "generated atoms too close",
    }


def test_structures_are_small_varied_and_off_equilibrium(structures):
    assert {len(structure.numbers) for structure in structures} == set(range(4, MAX_ATOMS + 1))
    assert {z for structure in structures for z in structure.numbers} == {1, 6, 7, 8, 13, 28, 29, 46, 47, 78, 79}
    assert {tuple(structure.pbc) for structure in structures} == {(True, True, True), (True, True, False)}
    norms = np.linalg.norm(np.concatenate([structure.forces for structure in structures]), axis=1)
    low, high = np.percentile(norms, [5, 90])
    assert low < 0.3
    assert high > 4.0


def test_variants_of_a_base_share_their_group_and_composition(structures):
    for _, variants in itertools.groupby(structures, key=lambda structure: structure.group):
        variants = list(variants)
        assert len(variants) <= VARIANTS_PER_BASE
        assert len({tuple(variant.numbers) for variant in variants}) == 1
    assert len({structure.group for structure in structures}) >= 400 / VARIANTS_PER_BASE


@pytest.mark.parametrize("setting", [{"num_structures": 0}, {"seed": -1}])
def test_senseless_settings_are_refused(setting):
    with pytest.raises(ConfigError, match=rf"source\.{next(iter(setting))}="):
        Emt(**setting)
