"""The generator: the same structures anywhere, labelled by ASE's own EMT, worth learning from."""

import itertools

import numpy as np
import pytest
from ase import Atoms
from ase.calculators.emt import EMT

from scaling.data.manifest import Rejected
from scaling.data.sources.emt import MAX_ATOMS, VARIANTS_PER_BASE, Emt, make_bases
from scaling.data.validation import Accepted, Bounds, validate
from scaling.errors import ConfigError
from scaling.structure import Structure


@pytest.fixture(scope="module")
def entries():
    return list(Emt(num_structures=400, num_processes=1).records())


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


def test_structures_do_not_depend_on_the_number_of_processes(entries):
    parallel = list(Emt(num_structures=200, num_processes=3).records())
    assert sum(isinstance(entry, Structure) for entry in parallel) == 200
    assert all(map(_same, parallel, entries))


def test_smaller_set_is_the_beginning_of_a_larger_one(entries):
    small = list(Emt(num_structures=50, num_processes=1).records())
    assert all(map(_same, small, entries))
    assert sum(isinstance(entry, Structure) for entry in small) == 50


def test_another_seed_makes_other_structures(structures):
    other = next(entry for made in make_bases(1, range(2)) for entry in made if isinstance(entry, Structure))
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


@pytest.mark.parametrize("setting", [{"num_structures": 0}, {"seed": -1}, {"num_processes": -1}])
def test_senseless_settings_are_refused(setting):
    with pytest.raises(ConfigError, match=rf"source\.{next(iter(setting))}="):
        Emt(**setting)
