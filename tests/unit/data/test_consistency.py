"""Labels that do not belong together are noticed without knowing the source."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.calculators.emt import EMT

from scaling.data.manifest import Consistency
from scaling.data.preparation.consistency import measure, sums, warning, warnings, work, work_of_stress
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


def labelled_by_emt(atoms: Atoms, group: str, frame: int) -> Structure:
    """A structure that is periodic in all directions, with energy, forces and stress."""
    atoms.calc = EMT()
    return Structure(
        numbers=atoms.numbers.copy(),
        positions=atoms.positions.copy(),
        cell=np.array(atoms.cell),
        pbc=np.ones(3, bool),
        energy=float(atoms.get_potential_energy()),
        forces=atoms.get_forces().copy(),
        group=group,
        record=f"{group}#{frame}",
        stress=atoms.get_stress(voigt=False),
    )


def strained(num_frames: int = 30, shear: bool = True) -> list[Structure]:
    """Copper in cells one after another strained at random, with its atoms carried along, labelled by EMT."""
    rng = np.random.default_rng(1)
    first: Atoms = bulk("Cu", cubic=True) * (1, 1, 2)
    first.positions += rng.normal(0, 0.05, first.positions.shape)
    frames = []
    for frame in range(num_frames):
        atoms = first.copy()
        strain = rng.uniform(-0.015, 0.015, (3, 3)) if shear else np.diag(rng.uniform(-0.015, 0.015, 3))
        atoms.set_cell(np.array(atoms.cell) @ (np.eye(3) * 1.02 + strain), scale_atoms=True)
        frames.append(labelled_by_emt(atoms, "strained", frame))
    return frames


def breathing(strain: float, num_frames: int = 60, shake: float = 0.015) -> list[Structure]:
    """Copper whose cell breathes by this strain and whose atoms move by `shake` angstrom in it, labelled by EMT."""
    rng = np.random.default_rng(2)
    first: Atoms = bulk("Cu", cubic=True) * (1, 1, 2)
    first.set_cell(np.array(first.cell) * 1.02, scale_atoms=True)
    frames = []
    for frame in range(num_frames):
        atoms = first.copy()
        size = 1 + strain * np.sin(frame / 3) + rng.uniform(-strain, strain, 3) / 4
        atoms.set_cell(np.array(atoms.cell) @ np.diag(size), scale_atoms=True)
        atoms.positions += rng.normal(0, shake, atoms.positions.shape)
        atoms.wrap()
        frames.append(labelled_by_emt(atoms, "breathing", frame))
    return frames


GPA = 6.241509e-3  # eV/angstrom^3


@pytest.mark.parametrize(
    ("spoil", "slope", "words"),
    [
        (lambda s: s, 1.0, ""),
        (lambda s: replace(s, stress=-s.stress / GPA), -GPA, "opposite sign"),
        (lambda s: replace(s, stress=-s.stress), -1.0, "opposite sign"),
        (lambda s: replace(s, stress=s.stress / GPA), GPA, "other units"),
        (lambda s: replace(s, stress=s.stress * 0.01), 100.0, "other units"),
    ],
)
def test_stress_is_checked_where_atoms_move_in_a_cell_that_breathes(spoil, slope, words):
    check = found_of_stress([spoil(frame) for frame in breathing(0.01)])
    assert check.num_pairs > 40
    assert check.slope == pytest.approx(slope, rel=0.05)
    assert check.agreement * slope > 0.9 * abs(slope)
    assert words in warning(check, "stress")
    assert bool(words) == bool(warning(check, "stress"))


def test_strain_too_small_to_be_seen_beside_the_forces_is_not_judged():
    assert found_of_stress(breathing(0.01, shake=0.1)).num_pairs == 0
    assert found_of_stress(breathing(1e-4)).num_pairs == 0
    assert found_of_stress(breathing(1e-4, shake=0.001)).num_pairs > 40, "the control"


def found_of_stress(frames: list[Structure]) -> Consistency:
    pairs = [work_of_stress(*pair) for pair in itertools.pairwise(frames)]
    return measure(sums(np.array([pair for pair in pairs if pair]).reshape(-1, 2)))


@pytest.mark.parametrize("shear", [True, False])
def test_right_stress_has_slope_one_and_no_warning(shear):
    check = found_of_stress(strained(shear=shear))
    assert check.num_pairs == 29
    assert check.slope == pytest.approx(1.0, abs=0.02)
    assert check.agreement > 0.9
    assert warning(check, "stress") == ""


@pytest.mark.parametrize(
    ("spoil", "slope", "words"),
    [
        (lambda s: replace(s, stress=-s.stress), -1.0, "the stress probably has the opposite sign"),
        (lambda s: replace(s, stress=-s.stress / 6.2415e-4), -6.2415e-4, "opposite sign"),  # VASP's, in kB
        (lambda s: replace(s, stress=s.stress / 6.2415e-3), 6.2415e-3, "energies and stress probably have other units"),
        (lambda s: replace(s, stress=-s.stress * abs(np.linalg.det(s.cell))), -1 / 94, "or is a virial"),
        (lambda s: replace(s, energy=s.energy / len(s.numbers)), 1 / 8, "per atom"),
    ],
)
def test_wrong_stress_is_named(spoil, slope, words):
    check = found_of_stress([spoil(frame) for frame in strained()])
    assert check.slope == pytest.approx(slope, rel=0.08)
    assert words in warning(check, "stress")


def test_only_strained_neighbours_with_stress_are_compared():
    first, second = strained(2)
    assert work_of_stress(first, second) is not None
    assert work_of_stress(first, replace(second, stress=None)) is None
    assert work_of_stress(replace(first, energy=None), second) is None
    assert work_of_stress(first, replace(second, group="other")) is None
    assert work_of_stress(first, replace(second, pbc=np.array([True, True, False]))) is None
    moved = replace(second, positions=second.positions + np.eye(8, 3) * 0.01)
    assert work_of_stress(first, moved) is not None
    assert work_of_stress(first, replace(moved, forces=None)) is None, "nothing says what the move costs"
    assert work_of_stress(first, replace(second, positions=second.positions + np.eye(8, 3) * 0.6)) is None
    assert work_of_stress(first, first) is None, "nothing strained"
    walk = trajectory(2)
    assert work_of_stress(*[replace(s, stress=np.zeros((3, 3))) for s in walk]) is None
    assert work(*walk) is not None
    assert work(walk[0], replace(walk[1], forces=None)) is None
    assert work(replace(walk[0], energy=None), walk[1]) is None


def test_stress_and_forces_are_checked_apart_by_the_preparation(prepared):
    turned = [replace(frame, stress=-frame.stress) for frame in strained()]
    manifest = prepared([*trajectory(), *turned]).manifest
    assert manifest.consistency.slope == pytest.approx(1.0, abs=0.02)
    assert manifest.stress_consistency.slope == pytest.approx(-1.0, abs=0.05)
    (words,) = warnings(manifest)
    assert "what the stress says" in words
    assert warnings(prepared([*trajectory(), *strained()], "right").manifest) == []


def test_slope_is_kept_by_the_preparation(prepared):
    right = prepared(trajectory(), "right").manifest.consistency
    wrong = prepared([replace(frame, forces=-frame.forces) for frame in trajectory()], "wrong").manifest.consistency
    assert right.slope == pytest.approx(1.0, abs=0.02)
    assert wrong.slope == pytest.approx(-1.0, abs=0.02)
