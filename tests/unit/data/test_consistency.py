"""Labels that do not belong together are noticed without knowing the source."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.calculators.emt import EMT

from scaling.data.manifest import Consistency
from scaling.data.preparation.consistency import measure, sums, warning, work
from scaling.structure import Structure


def trajectory(num_frames: int = 60) -> list[Structure]:
    """A walk of rattled copper, labelled by EMT."""
    rng = np.random.default_rng(0)
    atoms: Atoms = bulk("Cu", cubic=True)
    frames = []
    for frame in range(num_frames):
        atoms.positions += rng.normal(0, 0.02, atoms.positions.shape)
        atoms.calc = EMT()
        wrapped = atoms.copy()
        wrapped.wrap()
        frames.append(
            Structure(
                numbers=atoms.numbers.copy(),
                positions=wrapped.positions,
                cell=np.array(atoms.cell),
                pbc=np.ones(3, bool),
                energy=float(atoms.get_potential_energy()),
                forces=atoms.get_forces().copy(),
                group="walk",
                record=f"walk#{frame}",
            )
        )
    return frames


def found(frames: list[Structure]) -> Consistency:
    pairs = [work(*pair) for pair in itertools.pairwise(frames)]
    return measure(sums(np.array([pair for pair in pairs if pair]).reshape(-1, 2)))


def test_right_labels_have_slope_one_and_no_warning():
    check = found(trajectory())
    assert check.num_pairs == 59
    assert check.slope == pytest.approx(1.0, abs=0.02)
    assert check.agreement > 0.9
    assert warning(check) == ""


@pytest.mark.parametrize(
    ("spoil", "slope", "words"),
    [
        (lambda s: replace(s, forces=-s.forces), -1.0, "gradients"),
        (lambda s: replace(s, energy=s.energy / len(s.numbers)), 0.25, "per atom"),
        (lambda s: replace(s, forces=s.forces * 27.211), 1 / 27.211, "other units"),
        (lambda s: replace(s, energy=s.energy * 23.06), 23.06, "other units"),
    ],
)
def test_wrong_labels_are_named(spoil, slope, words):
    check = found([spoil(frame) for frame in trajectory()])
    assert check.slope == pytest.approx(slope, rel=0.03)
    assert words in warning(check)


def test_energies_that_say_nothing_are_not_accused():
    rng = np.random.default_rng(0)
    check = found([replace(frame, energy=rng.normal()) for frame in trajectory()])
    assert abs(check.agreement) < 0.5
    assert warning(check) == ""


def test_one_jump_of_the_energy_hides_nothing():
    frames = [replace(frame, forces=-frame.forces) for frame in trajectory()]
    frames[30] = replace(frames[30], energy=frames[30].energy + 30.0)
    assert "gradients" in warning(found(frames))


def test_forces_too_small_for_their_squares_do_no_harm():
    tiny = found([replace(frame, forces=frame.forces * 1e-170) for frame in trajectory()])
    assert tiny.num_pairs == 59
    assert found([replace(frame, forces=frame.forces * 0) for frame in trajectory()]).slope is None


def test_only_neighbours_of_one_group_and_cell_are_compared():
    first, second = trajectory(2)
    assert work(first, second) is not None
    assert work(first, replace(second, group="other")) is None
    assert work(first, replace(second, cell=second.cell * 1.01)) is None
    assert work(first, replace(second, numbers=second.numbers[::-1] + 1)) is None
    assert work(first, replace(second, positions=second.positions + np.eye(4, 3) * 0.8)) is None
    assert work(first, first) is None, "nothing moved"


def test_slope_is_kept_by_the_preparation(prepared):
    right = prepared(trajectory(), "right").manifest.consistency
    wrong = prepared([replace(frame, forces=-frame.forces) for frame in trajectory()], "wrong").manifest.consistency
    assert right.slope == pytest.approx(1.0, abs=0.02)
    assert wrong.slope == pytest.approx(-1.0, abs=0.02)
