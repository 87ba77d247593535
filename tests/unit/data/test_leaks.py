"""Planted near-duplicates are found, all of them; what only looks alike is not."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from scaling.data.preparation.leaks import TOLERANCE_ANG, SplitConfig, find_leaks, leaks_of_splits
from scaling.structure import Structure


def crystal(seed: int, **changes) -> Structure:
    """Sixteen atoms of two elements on a strained, rattled bcc lattice."""
    rng = np.random.default_rng(seed)
    corners = np.array([[i, j, k] for i in (0, 1) for j in (0, 1) for k in (0, 1)], dtype=float)
    cell = 6.4 * (np.eye(3) + rng.uniform(-0.03, 0.03, (3, 3)))
    fractional = np.concatenate([corners, corners + 0.5]) / 2
    positions = fractional @ cell + rng.normal(0, 0.12, (16, 3))
    numbers = rng.permutation([42] * 8 + [74] * 8)
    values = {"energy": float(seed), "forces": rng.normal(size=(16, 3)), "pbc": np.ones(3, bool)}
    structure = Structure(
        numbers=numbers, positions=positions, cell=cell, group=f"g{seed}", record=f"made#{seed}", **values
    )
    return replace(structure, **changes)


def disguised(structure: Structure, rng: np.random.Generator, rattle_ang: float) -> Structure:
    """The same structure rattled, turned, shifted, its atoms in another order and other images."""
    turn = Rotation.random(rng=rng).as_matrix()
    cell = structure.cell @ turn
    positions = structure.positions + rng.normal(0, rattle_ang, structure.positions.shape)
    positions = positions @ turn + rng.normal(size=3) + rng.integers(-1, 2, structure.positions.shape) @ cell
    order = rng.permutation(len(positions))
    return replace(
        structure,
        numbers=structure.numbers[order],
        positions=positions[order],
        cell=cell,
        group=f"{structure.group} again",
        record=f"{structure.record} again",
    )


@pytest.mark.parametrize("rattle_ang", [0.0, 0.005, 0.01])
def test_every_planted_near_duplicate_is_found(rattle_ang, prepared):
    rng = np.random.default_rng(0)
    originals = [crystal(seed) for seed in range(100)]
    planted = [disguised(structure, rng, rattle_ang) for structure in originals]
    shards = prepared([*originals, *planted])
    assert len(shards) == 200, "none is an exact duplicate"
    found = find_leaks(shards, np.arange(100), np.arange(100, 200))
    assert {(judged, train) for judged, train, _ in found.pairs} == {(100 + k, k) for k in range(100)}
    assert found.share == 1.0
    assert all(distance < TOLERANCE_ANG for _, _, distance in found.pairs)


def test_other_structures_of_the_same_formula_are_none(prepared):
    rng = np.random.default_rng(0)
    originals = [crystal(seed) for seed in range(100)]
    others = [crystal(seed) for seed in range(1000, 1050)]
    rattled = [disguised(structure, rng, 0.1) for structure in originals[:50]]
    shards = prepared([*originals, *others, *rattled])
    assert not find_leaks(shards, np.arange(100), np.arange(100, 200)).pairs


def test_atoms_of_other_elements_on_the_same_places_are_another_structure(prepared):
    one = crystal(0)
    swapped = replace(one, numbers=np.where(one.numbers == 42, 74, 42), group="other")
    shards = prepared([one, swapped])
    assert shards.formula[0] == shards.formula[1]
    assert not find_leaks(shards, np.array([0]), np.array([1])).pairs


def test_split_by_frame_leaks_a_trajectory_where_a_split_by_group_does_not(prepared):
    rng = np.random.default_rng(1)
    frames = [
        replace(start, positions=start.positions + rng.normal(0, 0.004, (16, 3)), record=f"{seed}#{frame}")
        for seed in range(30)
        for start in [crystal(seed)]
        for frame in range(10)
    ]
    found = leaks_of_splits(prepared(frames), SplitConfig())
    assert found["by frame, test"].share > 0.9
    assert found["by group, test"].share == found["by group, val"].share == 0.0
    assert found["by group, test"].num_judged > 10
