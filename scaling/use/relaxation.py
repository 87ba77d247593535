"""Many structures relaxed at once: one call of the forces a step for all that are not done yet, cells fixed.

Each structure goes its own way, by the L-BFGS of ASE without line search: what happens to one never depends on the
others. Those that are done leave the batch.

Source: Liu, Nocedal, Math. Program. 45, 503 (1989), with the constants of ase.optimize.LBFGS; other than there, a pair
of steps between which the curvature is not positive is left out of the Hessian (the cautious update of Li, Fukushima,
SIAM J. Optim. 11, 1054 (2001)), so that every step goes along the forces; ASE's own goes astray on adsorbates there.

Shape suffixes: N atoms of the structures in the batch, G structures in the batch, 3 Cartesian.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator
from numpy.typing import NDArray
from tqdm import tqdm

from scaling.errors import DataError
from scaling.structure import FloatArray

#: Energies (G,) eV and forces (N, 3) eV/angstrom of structures, one after another; NaN where there are none.
ForceField = Callable[[Sequence[Atoms]], tuple[FloatArray, FloatArray]]

CONVERGED, UNCONVERGED, FAILED = "converged", "unconverged", "failed"
#: As in ase.optimize.LBFGS: first curvature (eV/angstrom^2), longest step of an atom (angstrom), steps remembered.
INITIAL_CURVATURE = 70.0
MAX_STEP_ANG = 0.2
MEMORY = 100
#: A structure of which an atom has moved farther has flown apart.
MAX_DISPLACEMENT_ANG = 10.0
SHOWN_AFTER_S = 3.0


@dataclass(frozen=True)
class Relaxation:
    """Where a structure went: atoms; energy_ev and largest_force (eV/angstrom, norm) there, NaN if there are none.

    state: converged; unconverged, if the steps did not suffice; failed, if a force was not finite or an atom moved by
    more than MAX_DISPLACEMENT_ANG. steps: taken.
    """

    atoms: Atoms
    energy_ev: float
    largest_force: float
    state: str
    steps: int


def relax(
    systems: Sequence[Atoms], force_field: ForceField, *, fmax: float, max_steps: int, title: str = ""
) -> list[Relaxation]:
    """Move the atoms of each structure until none feels more than fmax.

    Args:
        systems: structures, each of one atom or more; not changed. Constraints are not regarded.
        force_field: asked once a step, for all structures that are not done.
        fmax: eV/angstrom, of the norm. max_steps: at most, for each structure. title: of a progress bar.
    Returns:
        One for each structure, in order.
    Raises:
        DataError: if a structure has no atoms.
    """
    if empty := [index for index, atoms in enumerate(systems) if not len(atoms)]:
        raise DataError(f"structure {empty[0]} of {len(systems)} has no atoms to relax")
    done: dict[int, Relaxation] = {}
    numbers = np.arange(len(systems))
    active = [Atoms(a.numbers, a.positions, cell=a.cell, pbc=a.pbc) for a in systems]
    batch = _Batch(np.array([len(a) for a in active], dtype=np.int64))
    with tqdm(
        total=len(systems), desc=title, unit="structure", delay=SHOWN_AFTER_S, leave=False, disable=not title
    ) as bar:
        for step in range(max_steps + 1):
            if not active:
                break
            energy_G, forces_N3 = force_field(active)
            largest_G = np.sqrt(batch.largest(_squared(forces_N3)))
            start_N3 = np.concatenate([systems[number].positions for number in numbers])
            x_N3 = np.concatenate([atoms.positions for atoms in active])
            moved_G = np.sqrt(batch.largest(_squared(x_N3 - start_N3)))
            failed_G = ~(np.isfinite(energy_G) & np.isfinite(largest_G) & (moved_G <= MAX_DISPLACEMENT_ANG))
            converged_G = ~failed_G & (largest_G < fmax)
            leaves_G = failed_G | converged_G | (step == max_steps)
            for k in np.flatnonzero(leaves_G):
                state = FAILED if failed_G[k] else CONVERGED if converged_G[k] else UNCONVERGED
                found = Relaxation(active[k], float(energy_G[k]), float(largest_G[k]), state, step)
                done[int(numbers[k])] = found
            bar.update(int(leaves_G.sum()))
            keep_N = batch.keep(~leaves_G)
            numbers = numbers[~leaves_G]
            active = [atoms for atoms, leaves in zip(active, leaves_G, strict=True) if not leaves]
            if active:
                moved_N3 = x_N3[keep_N] + batch.step(x_N3[keep_N], forces_N3[keep_N])
                for atoms, positions in zip(active, np.split(moved_N3, batch.first[1:]), strict=True):
                    atoms.positions = positions
    return [done[number] for number in range(len(systems))]


def by_calculator(calculator: Calculator) -> ForceField:
    """The force field of an ASE calculator, which takes one structure at a time."""

    def force_field(systems: Sequence[Atoms]) -> tuple[FloatArray, FloatArray]:
        energies, forces = [], []
        for atoms in systems:
            energies.append(calculator.get_potential_energy(atoms))  # type: ignore[no-untyped-call]
            forces.append(calculator.get_forces(atoms))  # type: ignore[no-untyped-call]
        return np.array(energies), np.concatenate(forces)

    return force_field


class _Batch:
    """What L-BFGS remembers of the structures in the batch, atoms one after another.

    first: (G,) where each structure begins. pairs: of the last steps, the differences of positions (N, 3) and of
    gradients (N, 3), and 1 / curvature (G,), 0 where a pair does not count.
    """

    def __init__(self, num_atoms: NDArray[np.int64]) -> None:
        self.num_atoms = num_atoms
        self.pairs: list[tuple[FloatArray, FloatArray, FloatArray]] = []
        self.last: tuple[FloatArray, FloatArray] | None = None

    @property
    def first(self) -> NDArray[np.int64]:
        return np.cumsum(self.num_atoms) - self.num_atoms

    def largest(self, values_N: FloatArray) -> FloatArray:
        """(G,) the largest value of each structure."""
        return np.maximum.reduceat(values_N, self.first)

    def keep(self, stays_G: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Forget the other structures; returns (N,) which atoms stay."""
        stays_N = np.repeat(stays_G, self.num_atoms)
        if not stays_G.all():
            self.num_atoms = self.num_atoms[stays_G]
            self.pairs = [(s[stays_N], y[stays_N], rho[stays_G]) for s, y, rho in self.pairs]
            if self.last is not None:
                self.last = self.last[0][stays_N], self.last[1][stays_N]
        return stays_N

    def step(self, x_N3: FloatArray, forces_N3: FloatArray) -> FloatArray:
        """(N, 3) by how much the atoms are to move. Source: Liu, Nocedal, 1989, section 2 (two-loop recursion)."""
        if self.last is not None:
            s_N3, y_N3 = x_N3 - self.last[0], self.last[1] - forces_N3
            curvature_G = self._dot(s_N3, y_N3)
            counts_G = curvature_G > 0
            rho_G = np.divide(1.0, curvature_G, out=np.zeros_like(curvature_G), where=counts_G)
            self.pairs = [*self.pairs, (s_N3, y_N3, rho_G)][-MEMORY:]
        self.last = x_N3, forces_N3
        step_N3 = forces_N3
        weights = []
        for s_N3, y_N3, rho_G in reversed(self.pairs):
            weights.append(rho_G * self._dot(s_N3, step_N3))
            step_N3 = step_N3 - self._to_atoms(weights[-1]) * y_N3
        step_N3 = step_N3 / INITIAL_CURVATURE
        for (s_N3, y_N3, rho_G), weight_G in zip(self.pairs, reversed(weights), strict=True):
            step_N3 = step_N3 + self._to_atoms(weight_G - rho_G * self._dot(y_N3, step_N3)) * s_N3
        longest_G = np.sqrt(self.largest(_squared(step_N3)))
        return step_N3 * self._to_atoms(MAX_STEP_ANG / np.maximum(longest_G, MAX_STEP_ANG))

    def _dot(self, a_N3: FloatArray, b_N3: FloatArray) -> FloatArray:
        return np.add.reduceat((a_N3 * b_N3).sum(axis=1), self.first)

    def _to_atoms(self, values_G: FloatArray) -> FloatArray:
        return np.repeat(values_G, self.num_atoms)[:, None]


def _squared(vectors_N3: FloatArray) -> FloatArray:
    return (vectors_N3**2).sum(axis=1)
