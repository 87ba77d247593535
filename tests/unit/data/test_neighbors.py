"""The neighbour list against brute force over images, in every mix of periodic directions."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scaling.data.neighbors import cell_heights, completed_cell, neighbor_list
from scaling.errors import DataError


def brute_force(positions, cell, pbc, cutoff_ang, images=8):
    """All (neighbour, centre, shift) within the cutoff by visiting every image."""
    found = set()
    for shift in itertools.product(*(range(-images, images + 1) if periodic else (0,) for periodic in pbc)):
        vectors = positions[:, None] + np.array(shift) @ cell - positions[None, :]
        for source, centre in np.argwhere(np.linalg.norm(vectors, axis=-1) < cutoff_ang).tolist():
            if source != centre or shift != (0, 0, 0):
                found.add((source, centre, *shift))
    return found


@pytest.mark.parametrize("pbc", list(itertools.product([False, True], repeat=3)))
@settings(max_examples=settings().max_examples // 2)
@given(seed=st.integers(0, 2**32 - 1), num_atoms=st.integers(1, 6), zero_rows=st.booleans())
def test_matches_brute_force_in_cells_smaller_than_the_cutoff(pbc, seed, num_atoms, zero_rows):
    rng = np.random.default_rng(seed)
    cell = np.diag(rng.uniform(1.5, 6.0, 3)) + rng.uniform(-0.4, 0.4, (3, 3))
    positions = rng.uniform(-1.5, 2.5, (num_atoms, 3)) @ cell
    if zero_rows:
        cell[~np.array(pbc)] = 0.0
    edge_index, shifts = neighbor_list(positions, cell, pbc, 4.0)
    found = [(*pair, *shift) for pair, shift in zip(edge_index.T.tolist(), shifts.tolist(), strict=True)]
    assert len(set(found)) == len(found)
    assert set(found) == brute_force(positions, cell, pbc, 4.0)


def test_edges_are_sorted_by_centre_and_come_in_both_directions():
    rng = np.random.default_rng(0)
    cell = np.eye(3) * 4.0
    edge_index, shifts = neighbor_list(rng.uniform(0, 4, (8, 3)), cell, [True, True, False], 3.5)
    assert edge_index.dtype == np.int64
    assert shifts.dtype == np.int32
    assert (np.diff(edge_index[1]) >= 0).all()
    forward = {(*pair, *shift) for pair, shift in zip(edge_index.T.tolist(), shifts.tolist(), strict=True)}
    assert forward == {(i, j, -a, -b, -c) for j, i, a, b, c in forward}


def test_edge_vectors_follow_the_stated_convention():
    positions = np.array([[0.1, 0.0, 0.0], [3.8, 0.0, 0.0]])
    cell = np.diag([4.0, 9.0, 9.0])
    edge_index, shifts = neighbor_list(positions, cell, True * np.ones(3), 1.0)
    vectors = positions[edge_index[0]] + shifts @ cell - positions[edge_index[1]]
    assert edge_index.tolist() == [[1, 0], [0, 1]]
    np.testing.assert_allclose(vectors, [[-0.3, 0, 0], [0.3, 0, 0]], atol=1e-12)


def test_single_atom_sees_its_own_images():
    edge_index, shifts = neighbor_list(np.zeros((1, 3)), np.eye(3) * 4.0, [True] * 3, 4.5)
    assert edge_index.tolist() == [[0] * 6, [0] * 6]
    assert sorted(np.abs(shifts).sum(1)) == [1] * 6


def test_slab_ignores_its_vacuum_vector():
    positions = np.array([[0.0, 0, 0], [0, 0, 2.0]])
    with_vacuum = neighbor_list(positions, np.diag([3.0, 3.0, 2.5]), [True, True, False], 4.0)
    without = neighbor_list(positions, np.diag([3.0, 3.0, 0.0]), [True, True, False], 4.0)
    assert {*map(tuple, with_vacuum[0].T)} == {*map(tuple, without[0].T)}
    assert with_vacuum[0].shape == without[0].shape


def test_no_atoms_give_no_edges():
    edge_index, shifts = neighbor_list(np.zeros((0, 3)), np.eye(3), [True] * 3, 5.0)
    assert edge_index.shape == (2, 0)
    assert shifts.shape == (0, 3)


@pytest.mark.parametrize("cell", [np.zeros((3, 3)), np.diag([4.0, 4.0, 0.0]), np.ones((3, 3)), np.eye(3) * 0.01])
def test_cell_without_volume_is_refused(cell):
    with pytest.raises(DataError, match="angstrom high"):
        neighbor_list(np.zeros((1, 3)), cell, [True] * 3, 5.0)


def test_values_that_are_not_finite_are_refused():
    with pytest.raises(DataError, match="not finite"):
        neighbor_list([[np.nan, 0, 0]], np.eye(3), [True, False, False], 5.0)


@pytest.mark.parametrize("pbc", list(itertools.product([False, True], repeat=3)))
def test_completed_cell_keeps_periodic_rows_and_has_unit_height_elsewhere(pbc):
    cell = np.array([[3.0, 1.0, 0.5], [0.2, 4.0, 0.1], [0.3, -0.5, 5.0]])
    box = completed_cell(cell, pbc)
    periodic = np.array(pbc)
    np.testing.assert_array_equal(box[periodic], cell[periodic])
    np.testing.assert_allclose(cell_heights(box)[~periodic], 1.0)
