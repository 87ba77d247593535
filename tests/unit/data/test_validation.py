"""What is fit to learn from, and what counts as the same structure."""

import time
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scaling.data.manifest import Rejected
from scaling.data.preparation.validation import GEOMETRY_ROUNDING_ANG, Accepted, Bounds, validate
from scaling.errors import ConfigError
from scaling.structure import FIELDS, Structure

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
        ({"energy": None, "forces": None}, "no label"),
        ({"energy": None, "forces": np.full((2, 3), np.nan)}, "not finite"),
        ({"stress": np.full((3, 3), np.nan)}, "not finite"),
        ({"stress": np.zeros(6)}, "broken stress"),
        ({"stress": np.array([[0, 0.1, 0], [0, 0, 0], [0, 0, 0]])}, "stress is not symmetric"),
        ({"stress": np.diag([-50.0, 10, 10])}, "stress out of bounds"),
        ({"stress": np.diag([0.0, 0.0, 1.5])}, "stress out of bounds"),
        ({"stress": np.eye(3) * 0.1, "pbc": np.zeros(3, bool)}, "stress without a periodic direction"),
        ({"charge": 0.5}, "charge out of bounds"),
        ({"charge": float("nan")}, "charge out of bounds"),
        ({"charge": 77}, "charge out of bounds"),
        ({"charge": 10**6}, "charge out of bounds"),
        ({"spin": 0}, "spin out of bounds"),
        ({"spin": 1.5}, "spin out of bounds"),
        ({"charge": 0, "spin": 2}, "charge and spin disagree"),
        ({"charge": -1, "spin": 3}, "charge and spin disagree"),
    ],
)
def test_unsound_structure_is_rejected_with_its_record_and_reason(changes, reason):
    outcome = validate(replace(PAIR, **changes), Bounds())
    assert isinstance(outcome, Rejected)
    assert (outcome.record, outcome.reason) == ("pair.json#7", reason)


@pytest.mark.parametrize(
    "changes",
    [
        {"energy": None},
        {"forces": None},
        {"energy": None, "forces": None, "stress": np.eye(3) * 0.01},
        {"stress": np.array([[0.1, 1e-6, 0], [0, 0, 0], [0, 0, 0]])},
        {"stress": np.eye(3) * -0.99},
        {"charge": 0, "spin": 1},  # 29 + 47 electrons
        {"charge": 0, "spin": 3},
        {"charge": 1, "spin": 2},
        {"charge": np.int64(-1), "spin": 4.0},
        {"spin": 2},  # of how many electrons, nobody says
        {"charge": 3},
    ],
)
def test_labels_that_can_be_right_are_accepted(changes):
    outcome = validate(replace(PAIR, **changes), Bounds())
    assert isinstance(outcome, Accepted)
    for name in ("energy", "forces", "stress", "charge", "spin"):
        field, value = FIELDS[name], outcome.row[name]
        given = getattr(replace(PAIR, **changes), name)
        rows = value if field.per == "atom" else value[None]
        assert field.is_there(rows).all() == (given is not None)
        if given is not None:
            np.testing.assert_array_equal(value, np.asarray(given, dtype=field.dtype))


def test_energy_beyond_its_bound_says_what_unit_would_be_plausible():
    silver = replace(PAIR, energy=-1640.0 * 627.5 - 5195.0 * 627.5)
    outcome = validate(silver, Bounds())
    assert outcome.reason == "energy out of bounds"
    assert "if it is in kcal/mol and not eV" in outcome.detail


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
    # Jitter within the tick, which is not centred; what lies between two ticks may fall to either.
    first, second = (
        (place + rng.uniform(-0.35, 0.35, (2, 3))) / ticks,
        (place + rng.uniform(-0.35, 0.35, (2, 3))) / ticks,
    )
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


def test_atoms_in_one_place_are_rejected_before_their_pairs_are_listed():
    many = replace(
        PAIR,
        numbers=np.full(100_000, 29),
        positions=np.zeros((100_000, 3)),
        forces=np.zeros((100_000, 3)),
        pbc=np.zeros(3, dtype=bool),
    )
    begin = time.monotonic()
    assert validate(many, Bounds()).reason == "atoms too close"
    assert validate(replace(many, pbc=np.ones(3, dtype=bool)), Bounds()).reason == "atoms too close"
    assert time.monotonic() - begin < 20, "ten thousand million pairs would take hours, and all memory"
    grid = np.stack(np.meshgrid(*[np.arange(58)] * 3), axis=-1).reshape(-1, 3) * 0.55
    dense = replace(many, numbers=np.full(len(grid), 29), positions=grid, forces=np.zeros_like(grid))
    assert validate(dense, Bounds()).reason == "too many neighbours"
    assert validate(replace(dense, numbers=np.full(10**6, 29)), Bounds()).reason == "too many atoms"


def test_copies_of_a_perfect_crystal_are_one_geometry_in_any_images():
    rng = np.random.default_rng(0)
    for size in (1.0, 1.37, 2.0):
        cell = np.eye(3) * 3.61 * size * 2
        sites = np.array([[i, j, k] for i in (0, 0.5) for j in (0, 0.5) for k in (0, 0.5)]) @ cell
        crystal = replace(
            PAIR,
            numbers=np.full(8, 29),
            positions=sites,
            forces=np.zeros((8, 3)),
            cell=cell,
            pbc=np.ones(3, dtype=bool),
        )
        first = validate(crystal, Bounds(cutoff_ang=8.0)).geometry
        for _ in range(20):
            moved = replace(crystal, positions=sites + rng.integers(-2, 3, (8, 3)) @ cell)
            assert validate(moved, Bounds(cutoff_ang=8.0)).geometry == first


def test_stress_of_nought_without_a_periodic_direction_is_not_there(make_structure):
    found = validate(make_structure(0, stress=np.zeros((3, 3)), pbc=np.zeros(3, bool)), Bounds())
    assert np.isnan(found.row["stress"]).all()
    kept = validate(make_structure(0, stress=np.zeros((3, 3))), Bounds())
    assert not kept.row["stress"].any(), "the control: of a crystal it is a stress"


def test_stress_out_of_bounds_says_what_it_would_be_in_kilobar(make_structure):
    found = validate(make_structure(0, stress=np.eye(3) * 80.0), Bounds())
    assert "80 eV/angstrom^3; if it is in kB it is 0.0499 eV/angstrom^3" in found.detail
    assert "source.stress_unit" in found.detail
    assert "source.stress_key=none" in found.detail
