"""AFbT and ADwT by hand, and by networks whose worth is known: the oracle itself, and the oracle made worse."""

import numpy as np
import pytest
from ase import Atoms

from scaling.data.sources.emt import make_variants
from scaling.structure import Structure
from scaling.use.evaluation import (
    DISTANCE_THRESHOLDS,
    FORCE_THRESHOLDS,
    atoms_of,
    below,
    estimate,
    is2rs,
    mean_distance,
)
from scaling.use.oracle import ORACLES


@pytest.fixture(scope="module")
def starts():
    made = [(k, s) for k in (0, 1, 3, 4) for s in make_variants(7, k) if isinstance(s, Structure)]
    return [atoms_of(s) for _, s in made], np.array([k for k, _ in made])


@pytest.fixture(scope="module")
def emt():
    return ORACLES["emt"]()


def made_worse(emt, error):
    """EMT with an error of each atom's force, none of the whole structure's, that depends on its number alone."""

    def force_field(systems):
        energies, forces = emt(systems)
        wrong = [np.random.default_rng(0).normal(size=(len(atoms), 3)) * error for atoms in systems]
        return energies, forces + np.concatenate([each - each.mean(axis=0) for each in wrong])

    return force_field


def test_thresholds_are_those_of_oc20():
    assert (FORCE_THRESHOLDS[[0, -1]] == [0.01, 0.399]).all()
    assert (DISTANCE_THRESHOLDS[[0, -1]] == [0.01, 0.499]).all()
    assert np.allclose(FORCE_THRESHOLDS, np.arange(0.01, 0.4, 0.001)[:390])
    assert np.allclose(DISTANCE_THRESHOLDS, np.arange(0.01, 0.5, 0.001))


def test_share_of_thresholds_is_that_counted_by_hand():
    found = below(np.array([0.0, 0.0095, 0.0105, 0.2, 0.3985, 0.4, np.inf]), FORCE_THRESHOLDS)
    assert found == pytest.approx([1, 1, 389 / 390, 199 / 390, 1 / 390, 0, 0])


def test_distance_is_to_the_nearest_image():
    one = Atoms("Cu2", [[0.1, 0, 0], [0, 0, 1]], cell=[4, 4, 4], pbc=[True, True, False])
    other = Atoms("Cu2", [[3.9, 4, 0], [0, 0, 1.4]], cell=[4, 4, 4], pbc=[True, True, False])
    assert mean_distance(one, other) == pytest.approx((0.2 + 0.4) / 2)
    one.pbc = other.pbc = False
    assert mean_distance(one, other) == pytest.approx((np.hypot(3.8, 4) + 0.4) / 2)


def test_oracle_as_network_is_perfect_and_worse_ones_are_worse(starts, emt):
    systems, groups = starts
    perfect = is2rs(systems, groups, emt, emt)
    assert perfect.converged == len(systems) == perfect.num_targets
    assert perfect.afbt.value == 1.0
    assert perfect.adwt.value == 1.0
    found = [is2rs(systems, groups, made_worse(emt, error), emt) for error in (0.05, 0.2)]
    assert 1.0 > found[0].afbt.value > found[1].afbt.value
    assert 1.0 > found[0].adwt.value > found[1].adwt.value
    assert perfect.start_afbt.value < found[0].afbt.value, "relaxing by a fair network is better than nothing"
    assert found[0].start_adwt == perfect.start_adwt


def test_failed_relaxations_count_as_wrong(starts, emt):
    systems, groups = starts

    def no_forces(batch):
        energies, forces = emt(batch)
        return energies * np.nan, forces

    found = is2rs(systems, groups, no_forces, emt)
    assert found.failed == len(systems)
    assert found.afbt.value == 0
    assert found.adwt.value == 0
    assert found.start_adwt.value > 0


def test_without_an_oracle_there_is_no_judgement(starts, emt):
    systems, groups = starts
    found = is2rs(systems, groups, emt, None)
    assert found.converged == len(systems)
    assert found.afbt is None
    assert found.adwt is None


def test_error_of_a_mean_takes_groups_for_independent():
    values = np.array([1.0, 2.0, 3.0, 4.0])
    alone = estimate(values, np.arange(4))
    assert alone.value == 2.5
    assert alone.se == pytest.approx(values.std(ddof=1) / 2)
    copies = estimate(np.repeat(values, 5), np.repeat(np.arange(4), 5))
    assert copies.se == pytest.approx(alone.se)
    assert estimate(np.repeat(values, 5), np.arange(20)).se < 0.6 * alone.se, "copies taken for independent mislead"
    assert estimate(values, np.zeros(4)).se is None


def test_error_of_a_mean_covers_the_truth():
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(40), 5)
    sizes = rng.integers(2, 9, 200)
    inside = 0
    for _ in range(400):
        found = estimate(rng.normal(size=40)[groups] + rng.normal(size=200), groups, weights=sizes)
        inside += abs(found.value) < 1.96 * found.se
    assert 0.90 < inside / 400 < 0.98  # 0.95 +- 0.011, less what few groups cost


def test_share_without_spread_has_an_error_all_the_same():
    assert estimate(np.zeros(50), np.arange(50), is_share=True).se == pytest.approx(0.0257, abs=1e-4)
    assert estimate(np.ones(50), np.arange(50), is_share=True).se == pytest.approx(0.0257, abs=1e-4)
    assert estimate(np.zeros(50), np.arange(50)).se == 0
