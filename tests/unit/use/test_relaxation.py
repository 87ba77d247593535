"""Many structures relaxed at once, against ASE's own optimiser one at a time."""

import numpy as np
import pytest
from ase import Atoms
from ase.calculators.lj import LennardJones
from ase.optimize import LBFGS

from scaling.data.sources.emt import METALS, FastNeighborsEMT, make_variants
from scaling.errors import DataError
from scaling.structure import Structure
from scaling.use.evaluation import atoms_of
from scaling.use.oracle import ORACLES
from scaling.use.relaxation import CONVERGED, FAILED, UNCONVERGED, by_calculator, relax

FMAX = 0.01


@pytest.fixture(scope="module")
def systems() -> list[Atoms]:
    """Alloys, slabs and adsorbates of several sizes, out of their minima."""
    made = [each for number in (0, 1, 4, 5) for each in make_variants(7, number) if isinstance(each, Structure)]
    return [atoms_of(s) for s in made]


@pytest.fixture(scope="module")
def emt():
    return ORACLES["emt"]()


def by_ase(atoms) -> LBFGS:
    own = atoms.copy()
    own.calc = FastNeighborsEMT()
    optimizer = LBFGS(own, logfile=None)
    optimizer.run(fmax=FMAX, steps=300)
    return optimizer


def test_ends_where_ase_ends_after_as_many_steps(systems, emt):
    alloys = [atoms for atoms in systems if set(atoms.symbols) <= set(METALS)]
    assert len(alloys) > 5
    for atoms, found in zip(alloys, relax(alloys, emt, fmax=FMAX, max_steps=300), strict=True):
        optimizer = by_ase(atoms)
        own = optimizer.atoms
        assert found.state == CONVERGED
        assert found.steps == optimizer.nsteps < 300
        # sums in another order, over some dozens of steps
        assert np.abs(found.atoms.positions - own.positions).max() < 1e-9
        assert found.energy_ev == pytest.approx(own.get_potential_energy(), abs=1e-9)
        assert found.largest_force == pytest.approx(np.linalg.norm(own.get_forces(), axis=1).max(), abs=1e-7)
        assert np.abs(found.atoms.positions - atoms.positions).max() > 0.02, "it did move"


def test_relaxes_adsorbates_on_which_ase_takes_wrong_turns(emt):
    made = [each for number in (2, 5) for each in make_variants(7, number) if isinstance(each, Structure)]
    adsorbed = [atoms for atoms in map(atoms_of, made) if not set(atoms.symbols) <= set(METALS)]
    stuck = 0
    for atoms, found in zip(adsorbed, relax(adsorbed, emt, fmax=FMAX, max_steps=300), strict=True):
        optimizer = by_ase(atoms)
        is_stuck = optimizer.nsteps == 300
        stuck += is_stuck
        assert found.state == CONVERGED
        assert found.energy_ev < optimizer.atoms.get_potential_energy() + (0 if is_stuck else 1e-3)
    assert stuck, "else the cautious update is not needed"


def test_batch_gives_the_same_bits_as_one_at_a_time(systems, emt):
    together = relax(systems, emt, fmax=FMAX, max_steps=300)
    assert len({each.steps for each in together}) > 3, "they leave the batch at different steps"
    for atoms, found in zip(systems, together, strict=True):
        (alone,) = relax([atoms], emt, fmax=FMAX, max_steps=300)
        assert (alone.atoms.positions == found.atoms.positions).all()
        assert (alone.energy_ev, alone.steps, alone.state) == (found.energy_ev, found.steps, found.state)


def test_forces_are_asked_for_once_a_step_and_only_of_those_that_are_not_done(systems, emt):
    asked = []

    def counting(batch):
        asked.append(len(batch))
        return emt(batch)

    found = relax(systems, counting, fmax=FMAX, max_steps=300)
    steps = np.array([each.steps for each in found])
    assert asked == [(steps >= step).sum() for step in range(steps.max() + 1)]


def test_too_few_steps_are_reported(systems, emt):
    found = relax(systems, emt, fmax=FMAX, max_steps=3)
    assert {each.state for each in found} == {UNCONVERGED}
    assert all(each.steps == 3 and each.largest_force > FMAX for each in found)


def test_structure_that_flies_apart_or_has_no_force_fails_and_leaves_the_others_alone(systems, emt):
    def spoiled(batch):
        energies, forces = emt(batch)
        first = 0
        for k, atoms in enumerate(batch):
            if len(atoms) == 3:
                forces[first] += 100.0
            if len(atoms) == 2:
                forces[first, 0] = np.nan
                energies[k] = np.nan
            first += len(atoms)
        return energies, forces

    apart = Atoms("Cu3", [[0, 0, 0], [2.5, 0, 0], [0, 2.5, 0]])
    unknown = Atoms("Cu2", [[0, 0, 0], [2.5, 0, 0]])
    found = relax([apart, systems[0], unknown, systems[1]], spoiled, fmax=FMAX, max_steps=300)
    assert [each.state for each in found] == [FAILED, CONVERGED, FAILED, CONVERGED]
    undisturbed = relax(systems[:2], emt, fmax=FMAX, max_steps=300)
    assert (found[1].atoms.positions == undisturbed[0].atoms.positions).all()
    assert (found[3].atoms.positions == undisturbed[1].atoms.positions).all()


def test_where_curvature_is_negative_the_way_is_downhill():
    """Beyond its inflection a Lennard-Jones pair pulls ever less, and a quasi-Newton step would go uphill."""
    calculator = LennardJones(epsilon=1.0, sigma=1.0, rc=20.0)  # eV, angstrom; minimum at 2^(1/6)
    pairs = [Atoms("Ar2", [[0, 0, 0], [distance, 0, 0]]) for distance in (1.3, 1.6, 2.0)]
    found = relax(pairs, by_calculator(calculator), fmax=1e-4, max_steps=300)
    assert [each.state for each in found] == [CONVERGED] * 3
    assert [each.atoms.get_distance(0, 1) for each in found] == pytest.approx([2 ** (1 / 6)] * 3, abs=1e-4)


def test_what_is_given_is_not_changed(systems, emt):
    before = [atoms.positions.copy() for atoms in systems]
    relax(systems, emt, fmax=FMAX, max_steps=5)
    assert all((atoms.positions == old).all() for atoms, old in zip(systems, before, strict=True))


def test_structure_without_atoms_is_refused(emt):
    with pytest.raises(DataError, match="structure 1 of 2 has no atoms"):
        relax([Atoms("Cu"), Atoms()], emt, fmax=FMAX, max_steps=1)
