"""Whether a generated arrangement of atoms is worth a label: none of them may sit in another's core."""

import numpy as np
from ase import Atoms
from ase.data import covalent_radii

from scaling.data.neighbors import neighbor_list
from scaling.structure import FloatArray

MIN_DISTANCE_RATIO = 0.6
"""Pairs nearer than this share of the sum of their covalent radii are too close."""


def contact_problem(atoms: Atoms) -> str:
    """What is too close, or "" if nothing is."""
    radii = covalent_radii[atoms.numbers]
    cutoff_ang = 2 * MIN_DISTANCE_RATIO * float(radii.max())
    (source, centre), shifts = neighbor_list(atoms.positions, atoms.cell, atoms.pbc, cutoff_ang)
    vectors: FloatArray = atoms.positions[source] + shifts @ np.asarray(atoms.cell) - atoms.positions[centre]
    distances = np.linalg.norm(vectors, axis=1)
    ratio = distances / (radii[source] + radii[centre])
    if not len(ratio) or ratio.min() >= MIN_DISTANCE_RATIO:
        return ""
    worst = ratio.argmin()
    pair = f"{atoms.symbols[source[worst]]}-{atoms.symbols[centre[worst]]}"
    return f"{pair} at {distances[worst]:.2f} angstrom"
