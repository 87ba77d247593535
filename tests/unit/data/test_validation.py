"""What is fit to learn from, and what counts as the same structure."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scaling.data.manifest import Rejected
from scaling.data.validation import GEOMETRY_ROUNDING_ANG, Accepted, Bounds, validate
from scaling.errors import ConfigError
from scaling.structure import Structure

PAIR = Structure(
    numbers=np.array([29, 47]),
    positions=np.array([[0.0, 0.0, 0.0], [2.5, 0.1, 0.0]]),
    cell=np.eye(3) * 6.0,
    pbc=np.array([True, True, True]),
    energy=-1.5,
    forces=np.array([[0.1, 0.0, 0.0], [-0.1, 0.0, 0.0]]),
    group="pair",
    record="pair.json#7",
)


def test_sound_structure_is_accepted_with_its_edges():
    outcome = validate(PAIR, Bounds())
    assert isinstance(outcome, Accepted)
    assert outcome.row["num_edges"] == 4  # the pair itself, and across the boundary at 3.5 angstrom


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"forces": np.zeros((3, 3))}, "atom count disagrees with the forces"),
        ({"forces": np.zeros(6)}, "atom count disagrees with the forces"),
        ({"positions": np.zeros((1, 3))}, "atom count disagrees with the positions"),
        ({"numbers": np.array([], int), "positions": np.zeros((0, 3)), "forces": np.zeros((0, 3))}, "no atoms"),
        ({"numbers": np.array([0, 29])}, "unknown element"),
        ({"numbers": np.array([29, 119])}, "unknown element"),
        ({"numbers": np.array([29, 300])}, "unknown element"),
        ({"numbers": np.array([29.0, 47.0])}, "unknown element"),
        ({"energy": float("nan")}, "not finite"),
        ({"forces": np.array([[np.inf, 0, 0], [0, 0, 0]])}, "not finite"),
        ({"positions": np.array([[0.0, 0, 0], [1e39, 0, 0]])}, "not finite"),
        ({"cell": np.diag([6.0, 6.0, 0.0])}, "broken cell"),
        ({"cell": np.ones((3, 3))}, "broken cell"),
        ({"cell": np.diag([6.0, 6.0, np.nan])}, "not finite"),
        ({"cell": np.eye(2)}, "broken cell"),
        ({"positions": np.array([[0.0, 0, 0], [0.3, 0, 0]])}, "atoms too close"),
        ({"positions": np.array([[0.0, 0, 0], [5.8, 0, 0]])}, "atoms too close"),
        ({"forces": np.array([[101.0, 0, 0], [0, 0, 0]])}, "force out of bounds"),
        ({"energy": -1e6}, "energy out of bounds"),
        ({"positions": np.array([[0.0, 0, 0], [9.0, 0, 0]]), "pbc": np.zeros(3, bool)}, "isolated atom"),
    ],
)
def test_unsound_structure_is_rejected_with_its_record_and_reason(changes, reason):
    outcome = validate(replace(PAIR, **changes), Bounds())
    assert isinstance(outcome, Rejected)
    assert (outcome.record, outcome.reason) == ("pair.json#7", reason)


def test_cell_vector_of_a_direction_that_is_not_periodic_does_not_matter():
    for vector in ([0, 0, 0], [0, 0, 0.1], [np.nan, 0, 0]):
        cell = np.array([[6.0, 0, 0], [0, 6, 0], vector])
        outcome = validate(replace(PAIR, cell=cell, pbc=np.array([True, True, False])), Bounds())
        assert isinstance(outcome, Accepted)
        assert not outcome.row["cell"][2].any()


@given(seed=st.integers(0, 2**32 - 1))
def test_order_and_periodic_image_make_no_other_geometry(seed):
    rng = np.random.default_rng(seed)
    cell = np.eye(3) * 6.0 + rng.uniform(-0.3, 0.3, (3, 3))
    ticks = np.rint(np.linalg.norm(cell, axis=1) / GEOMETRY_ROUNDING_ANG)
    place = rng.integers(0, ticks, (1, 3)) * rng.integers(0, 2) + [[0, 0, 0], [2000, 1500, 900]]
    order, images = rng.permutation(2), rng.integers(-2, 3, (2, 3))
    # Jitter of less than half a tick; what lies between two ticks may fall to either.
    first, second = (place + rng.uniform(-0.4, 0.4, (2, 3))) / ticks, (place + rng.uniform(-0.4, 0.4, (2, 3))) / ticks
    structure = replace(PAIR, cell=cell, positions=first @ cell)
    moved = replace(
        PAIR, cell=cell, positions=((second + images) @ cell)[order], numbers=PAIR.numbers[order], energy=5.0
    )
    assert validate(structure, Bounds()).geometry == validate(moved, Bounds()).geometry


@pytest.mark.parametrize(
    "changes",
    [
        {"positions": PAIR.positions + np.array([[0, 0, 0], [0, 0, 0.004]])},
        {"numbers": np.array([47, 29])},
        {"cell": PAIR.cell * 1.01},
        {"pbc": np.array([True, True, False])},
    ],
)
def test_other_positions_species_or_cell_are_another_geometry(changes):
    assert validate(replace(PAIR, **changes), Bounds()).geometry != validate(PAIR, Bounds()).geometry


@pytest.mark.parametrize("changes", [{"cutoff_ang": 0.0}, {"max_force_ev_per_ang": float("nan")}, {"cutoff_ang": 0.4}])
def test_senseless_bounds_are_refused(changes):
    with pytest.raises(ConfigError, match=r"bounds\."):
        Bounds(**changes)
