"""Whether labels belong together: between neighbouring structures dE = -dx . F + V stress : strain.

The strain is that of the cell, dx what atoms move beside it. Forces are checked where the cell stays, stress where it
changes: against the part of dE that forces do not explain.

It finds forces and stress of the wrong sign, energies per atom taken for totals, and units mixed up, without knowing
the source.
"""

import numpy as np

from scaling.data.manifest import Consistency, Manifest
from scaling.data.neighbors import completed_cell
from scaling.structure import FloatArray, Structure

#: Displacements of an atom between neighbours, angstrom: below, nothing is measured; above, F is not nearly linear.
MIN_MOVE_ANG, MAX_MOVE_ANG = 1e-4, 0.5
#: Strains between neighbours whose cells differ.
MIN_STRAIN, MAX_STRAIN = 1e-5, 0.05
#: How far atoms may be from where the strain takes them if there are no forces that say what that costs, angstrom.
MAX_OFF_ANG = 1e-3
#: What the work of strain must be to be seen: a share of the work of forces on each atom, and many times the error.
MIN_SEEN, MIN_OVER_ERROR = 0.02, 10.0
#: By what share stiffness changes with strain (a Grueneisen parameter of 2 makes it 12, of which the rule of trapezoids
#: takes a quarter) and with displacement (3 per angstrom in a Morse bond, a twelfth): what its error of third order is.
SOFTENING_BY_STRAIN, SOFTENING_PER_ANG = 12.0 / 4, 3.0 / 12
MIN_PAIRS = 20
MIN_AGREEMENT = 0.8
MAX_DEVIATION = 0.25


def sums(pairs: FloatArray) -> FloatArray:
    """(4,) what `measure` needs of pairs (P, 2), each dE and what the labels say of it in eV; may be added up.

    A pair counts by its direction and not its length, so that one jump of the energy among thousands changes nothing.
    """
    pairs = pairs[(pairs != 0).all(axis=1)]
    change, by_forces = (pairs / np.abs(pairs).max(axis=1, keepdims=True)).T if len(pairs) else pairs.T
    squares = change**2 + by_forces**2
    of_changes, of_forces = (float((part**2 / squares).sum()) for part in (change, by_forces))
    return np.array([len(pairs), np.sign(change * by_forces).sum(), of_changes, of_forces])


def measure(total: FloatArray) -> Consistency:
    """From added-up `sums`."""
    count, signs, of_changes, of_forces = total.tolist()
    if not of_forces > 0:
        return Consistency(int(count), None, None)
    slope = float(np.sqrt(of_changes / of_forces)) * (1.0 if signs >= 0 else -1.0)
    return Consistency(int(count), slope, signs / count)


def warnings(manifest: Manifest) -> list[str]:
    """What is probably wrong with the labels."""
    found = {"forces": manifest.consistency, "stress": manifest.stress_consistency}
    return [words for label, consistency in found.items() if (words := warning(consistency, label))]


def warning(found: Consistency, label: str = "forces") -> str:
    """What is probably wrong with energies and this label, or ""."""
    if found.num_pairs < MIN_PAIRS or found.slope is None or found.agreement is None:
        return ""
    if abs(found.agreement) < MIN_AGREEMENT or abs(found.slope - 1) <= MAX_DEVIATION:
        return ""
    words = (
        f"between {found.num_pairs} pairs of neighbouring structures energies change by {found.slope:.3g} times what "
        f"the {label} {'say' if label == 'forces' else 'says'} (agreement of signs {found.agreement:.2f}): "
    )
    if found.slope > 0:
        return words + f"energies and {label} probably have other units, or energies are per atom and not of the cell"
    if label == "forces":
        return words + "the forces probably are gradients, +dE/dx"
    return words + "the stress probably has the opposite sign (positive under pressure), or is a virial"


def work(before: Structure, after: Structure) -> tuple[float, float] | None:
    """Change of energy between two structures, and minus displacement times mean force; None if no neighbours.

    Neighbours have the same group, atoms in the same order and cell, and atoms moved by at most MAX_MOVE_ANG.
    """
    if not _is_next(before, after):
        return None
    periodic = np.asarray(after.pbc, dtype=bool)
    if not np.allclose(np.asarray(before.cell)[periodic], np.asarray(after.cell)[periodic], rtol=0, atol=1e-6):
        return None
    if before.energy is None or after.energy is None or before.forces is None or after.forces is None:
        return None
    move = np.asarray(after.positions) - np.asarray(before.positions)
    if periodic.any():
        box = completed_cell(after.cell, periodic)
        turns = np.rint(move @ np.linalg.inv(box)) * periodic
        move = move - turns @ box
    largest = np.abs(move).max()
    if not MIN_MOVE_ANG <= largest <= MAX_MOVE_ANG:
        return None
    by_forces = float(((np.asarray(before.forces) + np.asarray(after.forces)) / 2 * move).sum())
    return float(after.energy - before.energy), -by_forces


def work_of_stress(before: Structure, after: Structure) -> tuple[float, float] | None:
    """Change of energy that forces do not explain, and volume times mean stress : strain; None if no neighbours.

    Neighbours have the same group and atoms in the same order, in cells that differ by a strain of at most MAX_STRAIN,
    periodic in all directions. Atoms may have moved by MAX_MOVE_ANG beside the strain, or by MAX_OFF_ANG where forces
    are missing; the strain's work must be large enough to be seen beside that of the forces. Strain and volume are
    taken at the mean cell, stress and forces at their mean, so that the error is of third order.
    """
    if before.energy is None or after.energy is None or before.stress is None or after.stress is None:
        return None
    if not (_is_next(before, after) and np.asarray(after.pbc, dtype=bool).all()):
        return None
    cells = np.array([before.cell, after.cell], dtype=np.float64)
    mean = cells.mean(axis=0)
    gradient = np.linalg.solve(mean, cells[1] - cells[0])
    if not MIN_STRAIN <= np.abs(gradient).max() <= MAX_STRAIN:
        return None
    fractional = [np.asarray(s.positions) @ np.linalg.inv(c) for s, c in zip((before, after), cells, strict=True)]
    move = fractional[1] - fractional[0]
    move = (move - np.rint(move)) @ mean
    found = _work_beside_strain(before, after, move, float(np.abs(gradient).max()))
    if found is None:
        return None
    by_forces, unseen = found
    stress = (np.asarray(before.stress) + np.asarray(after.stress)) / 2
    strain = (gradient + gradient.T) / 2
    left = float(after.energy - before.energy) - by_forces
    by_stress = float(abs(np.linalg.det(mean)) * (stress * strain).sum())
    return (left, by_stress) if max(abs(left), abs(by_stress)) >= unseen else None


def _work_beside_strain(
    before: Structure, after: Structure, move: FloatArray, strain: float
) -> tuple[float, float] | None:
    """Work of forces, eV, on atoms that have moved by (N, 3) angstrom beside a strain, and below which the strain's own
    work is not seen beside it; None if they have moved too far."""
    farthest = float(np.abs(move).max())
    if before.forces is None or after.forces is None:
        return (0.0, 0.0) if farthest <= MAX_OFF_ANG else None
    if farthest > MAX_MOVE_ANG:
        return None
    first, second = np.asarray(before.forces, dtype=np.float64), np.asarray(after.forces, dtype=np.float64)
    work_N = -((first + second) / 2 * move).sum(axis=1)
    softening = SOFTENING_BY_STRAIN * strain + SOFTENING_PER_ANG * farthest
    error = softening * np.abs(((second - first) * move).sum(axis=1)).sum()
    return float(work_N.sum()), float(MIN_SEEN * np.abs(work_N).sum() + MIN_OVER_ERROR * error)


def _is_next(before: Structure, after: Structure) -> bool:
    """Whether two structures have the same group, held-out set and atoms in the same order."""
    if (before.group, before.holdout) != (after.group, after.holdout) or len(before.numbers) != len(after.numbers):
        return False
    return np.array_equal(before.numbers, after.numbers) and np.array_equal(before.pbc, after.pbc)
