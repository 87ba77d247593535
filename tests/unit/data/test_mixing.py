"""Hashes and permutations that are functions of integers alone."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from scaling.data.mixing import keyed, shuffled, uniform


@given(count=st.integers(1, 3000), seed=st.integers(0, 2**63), epoch=st.integers(0, 50))
def test_every_position_goes_to_a_place_of_its_own(count, seed, epoch):
    assert sorted(shuffled(np.arange(count), count, seed, epoch)) == list(range(count))


@given(count=st.integers(10, 10**12), seed=st.integers(0, 1000))
def test_a_few_positions_cost_no_table(count, seed):
    some = np.array([0, count // 2, count - 1])
    places = shuffled(some, count, seed)
    assert len(set(places.tolist())) == 3
    assert ((places >= 0) & (places < count)).all()
    np.testing.assert_array_equal(shuffled(some[1:], count, seed), places[1:])


def test_permutations_look_random():
    count, trials = 20, 4000
    orders = np.stack([shuffled(np.arange(count), count, seed) for seed in range(trials)])
    # Chi-square of where each position goes: 20 x 20 cells, 19 x 19 degrees of freedom.
    table = np.stack([np.bincount(orders[:, k], minlength=count) for k in range(count)])
    chi2 = ((table - trials / count) ** 2 / (trials / count)).sum()
    assert abs(chi2 - 361) < 5 * np.sqrt(2 * 361)
    follows = (np.diff(orders, axis=1) == 1).mean()
    assert abs(follows - 1 / count) < 0.01
    different = (shuffled(np.arange(5000), 5000, 1) != shuffled(np.arange(5000), 5000, 2)).mean()
    assert different > 0.99


def test_hashes_are_those_of_every_machine():
    assert keyed(np.array([0, 1, -5]), 7, 1).tolist() == KNOWN
    places = uniform(np.arange(100_000), 3)
    assert ((places >= 0) & (places < 1)).all()
    assert abs(places.mean() - 0.5) < 0.005


KNOWN = [15598732397942086671, 11310100880861243961, 2442882978953186340]
