"""Whether energies and forces belong together: between neighbouring structures, dE = -dx . F must not be far off.

It finds forces of the wrong sign, energies per atom taken for totals, and units mixed up, without knowing the source.
"""

import numpy as np

from scaling.data.manifest import Consistency
from scaling.data.neighbors import completed_cell
from scaling.structure import FloatArray, Structure

#: Displacements of an atom between neighbours, angstrom: below, nothing is measured; above, F is not nearly linear.
MIN_MOVE_ANG, MAX_MOVE_ANG = 1e-4, 0.5
MIN_PAIRS = 20
MIN_AGREEMENT = 0.8
MAX_DEVIATION = 0.25


def sums(pairs: FloatArray) -> FloatArray:
    """(4,) what `measure` needs of pairs (P, 2), each dE and -dx . (F + F') / 2 in eV; may be added up.

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


def warning(found: Consistency) -> str:
    """What is probably wrong with the labels, or ""."""
    if found.num_pairs < MIN_PAIRS or found.slope is None or found.agreement is None:
        return ""
    if abs(found.agreement) < MIN_AGREEMENT or abs(found.slope - 1) <= MAX_DEVIATION:
        return ""
    words = (
        f"between {found.num_pairs} pairs of neighbouring structures energies change by {found.slope:.3g} times what "
        f"the forces say (agreement of signs {found.agreement:.2f}): "
    )
    if found.slope < 0:
        return words + "the forces probably are gradients, +dE/dx"
    return words + "energies and forces probably have other units, or energies are per atom and not of the cell"


def work(before: Structure, after: Structure) -> tuple[float, float] | None:
    """Change of energy between two structures, and minus displacement times mean force; None if no neighbours.

    Neighbours have the same group, atoms in the same order and cell, and atoms moved by at most MAX_MOVE_ANG.
    """
    if (before.group, before.holdout) != (after.group, after.holdout) or len(before.numbers) != len(after.numbers):
        return None
    if not (np.array_equal(before.numbers, after.numbers) and np.array_equal(before.pbc, after.pbc)):
        return None
    periodic = np.asarray(after.pbc, dtype=bool)
    if not np.allclose(np.asarray(before.cell)[periodic], np.asarray(after.cell)[periodic], rtol=0, atol=1e-6):
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
