"""How good a trained network is at what it is for: OC20's tasks S2EF and IS2RS, on structures it never saw.

S2EF, structure to energy and forces: errors on the labels of the test set. IS2RS, initial structure to relaxed
structure: the network relaxes structures, and what labelled the data says how near to rest they really are (AFbT), and
how near to where its own relaxation of the same start ends (ADwT).

Source: Chanussot et al., "Open Catalyst 2020 (OC20) Dataset and Community Challenges", ACS Catal. 11, 6059 (2021),
section 3; fairchem `evaluator.py` for what is strict, and for thresholds as `numpy.arange` has them, without the last.
Other than in OC20 all atoms are free, and all count.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from ase import Atoms
from ase.geometry import find_mic
from tqdm import tqdm

from scaling.data import ShardSet, StoredStructure
from scaling.errors import DataError
from scaling.structure import FloatArray, IntArray, Structure
from scaling.training import METRICS, Errors
from scaling.use.calculator import TrainedPotential
from scaling.use.relaxation import CONVERGED, FAILED, SHOWN_AFTER_S, UNCONVERGED, ForceField, Relaxation, relax

#: eV/angstrom, of the largest force of a structure.
FORCE_THRESHOLDS = np.arange(10, 400) / 1000
#: Angstrom, of the mean distance of a structure's atoms.
DISTANCE_THRESHOLDS = np.arange(10, 500) / 1000
#: Relaxations end when no force is larger, eV/angstrom, or after this many steps.
FMAX = 0.01
MAX_STEPS = 300
STRUCTURES_AT_ONCE = 1024
#: An oracle that differs by more from the stored forces on average, eV/angstrom, is not what labelled them.
ORACLE_TOLERANCE = 1e-3


@dataclass(frozen=True)
class Estimate:
    """A mean over structures and its standard error; None if all structures are of one group."""

    value: float
    se: float | None


@dataclass(frozen=True)
class S2EF:
    """Errors on the labels of num_structures structures of num_groups groups; see `scaling.training.losses`.

    energy_mae_ev: of total energies. force_cosine: 1 is best. efwt: share of structures within 0.02 eV and
    0.03 eV/angstrom. Each over the structures that have the labels it needs, None where none has.
    """

    num_structures: int
    num_groups: int
    energy_mae_ev: Estimate | None
    energy_mae_ev_per_atom: Estimate | None
    force_mae_ev_per_ang: Estimate | None
    force_cosine: Estimate | None
    efwt: Estimate | None


@dataclass(frozen=True)
class IS2RS:
    """Relaxations of num_structures structures of num_groups groups.

    converged, unconverged, failed: how the network's relaxations ended (scaling/use/relaxation.py); mean_steps: theirs.
    afbt: mean over FORCE_THRESHOLDS of the share of structures whose largest force, by the oracle, is below; failed
    ones count as above all of them. adwt: mean over DISTANCE_THRESHOLDS of the share of structures whose atoms are
    nearer on average to the oracle's relaxation of the same start; of those num_targets that the oracle could relax.
    start_*: of the structures that were to be relaxed. oracle_afbt: of the oracle's own relaxations.
    Without an oracle all of these are None.
    """

    num_structures: int
    num_groups: int
    converged: int
    unconverged: int
    failed: int
    mean_steps: float
    num_targets: int | None = None
    afbt: Estimate | None = None
    adwt: Estimate | None = None
    start_afbt: Estimate | None = None
    start_adwt: Estimate | None = None
    oracle_afbt: Estimate | None = None


def s2ef(potential: TrainedPotential, shards: ShardSet, structures: IntArray, *, show: bool = False) -> S2EF:
    """Compare a network's energies and forces with the labels of these structures; show: a progress bar."""
    chunks = np.array_split(structures, -(-len(structures) // STRUCTURES_AT_ONCE))
    bar = tqdm(chunks, "the network predicts", delay=SHOWN_AFTER_S, leave=False, disable=not show)
    found = [_errors(potential, shards, chunk) for chunk in bar]
    num_atoms, groups = shards.num_atoms[structures].astype(np.float64), shards.group[structures]

    def mean(name: str, *, is_share: bool = False) -> Estimate | None:
        there = np.logical_and.reduce([shards.has(label)[structures] for label in METRICS[name].labels])
        if not there.any():
            return None
        weights = num_atoms[there] if METRICS[name].per == "atom" else None
        values = np.concatenate([each[name] for each in found])[there]
        return estimate(values, groups[there], weights=weights, is_share=is_share)

    return S2EF(
        num_structures=len(structures),
        num_groups=len(np.unique(groups)),
        energy_mae_ev=mean("energy_mae_ev"),
        energy_mae_ev_per_atom=mean("energy_mae_ev_per_atom"),
        force_mae_ev_per_ang=mean("force_mae_ev_per_ang"),
        force_cosine=mean("force_cosine"),
        efwt=mean("efwt", is_share=True),
    )


def _errors(potential: TrainedPotential, shards: ShardSet, structures: IntArray) -> dict[str, FloatArray]:
    """(S,) of each metric: its value for each structure; of no meaning where a label it needs is not there."""
    stored = [shards.read(int(index)) for index in structures]
    energy_G, forces_N3 = potential([atoms_of(s) for s in stored])
    reference = np.array(potential.constants.reference_ev)[shards.source[structures]]
    true_energy_G = shards.energy[structures] - (shards.composition(structures) * reference).sum(axis=1)
    true_forces = [np.zeros((len(s.numbers), 3)) if s.forces is None else s.forces for s in stored]
    num_atoms_G = torch.tensor([len(s.numbers) for s in stored])
    errors = Errors.of(
        torch.from_numpy(energy_G),
        torch.from_numpy(forces_N3),
        true_energy_G=torch.from_numpy(true_energy_G),
        true_forces_N3=torch.from_numpy(np.concatenate(true_forces).astype(np.float64)),
        graph_N=torch.repeat_interleave(torch.arange(len(stored)), num_atoms_G),
        num_atoms_G=num_atoms_G,
    )
    return {name: metric.of(errors).double().numpy() for name, metric in METRICS.items()}


def is2rs(
    starts: Sequence[Atoms], groups: IntArray, potential: ForceField, oracle: ForceField | None, *, show: bool = False
) -> IS2RS:
    """Relax structures with a network, and judge where they went by the oracle.

    Args:
        starts: what to relax. groups: (S,) those of one group are not independent. show: progress bars.
    """
    found = relax(starts, potential, fmax=FMAX, max_steps=MAX_STEPS, title="the network relaxes" if show else "")
    states = [each.state for each in found]
    relaxed = IS2RS(
        num_structures=len(starts),
        num_groups=len(np.unique(groups)),
        converged=states.count(CONVERGED),
        unconverged=states.count(UNCONVERGED),
        failed=states.count(FAILED),
        mean_steps=float(np.mean([each.steps for each in found])),
    )
    if oracle is None:
        return relaxed
    targets = relax(starts, oracle, fmax=FMAX, max_steps=MAX_STEPS, title="the oracle relaxes" if show else "")
    has_target = np.array([target.state == CONVERGED for target in targets])

    def afbt(systems: Sequence[Atoms], failed: Sequence[bool]) -> Estimate:
        largest = np.where(failed, np.inf, _largest_forces(systems, oracle))
        return estimate(below(largest, FORCE_THRESHOLDS), groups, is_share=True)

    def adwt(systems: Sequence[Atoms], failed: Sequence[bool]) -> Estimate | None:
        if not has_target.any():
            return None
        pairs = zip(systems, targets, strict=True)
        distances = np.where(failed, np.inf, [mean_distance(each, target.atoms) for each, target in pairs])
        scores = below(distances[has_target], DISTANCE_THRESHOLDS)
        return estimate(scores, groups[has_target], is_share=True)

    never, ends = [False] * len(starts), [each.atoms for each in found]
    failed = [state == FAILED for state in states]
    return replace(
        relaxed,
        num_targets=int(has_target.sum()),
        afbt=afbt(ends, failed),
        adwt=adwt(ends, failed),
        start_afbt=afbt(starts, never),
        start_adwt=adwt(starts, never),
        oracle_afbt=_own_afbt(targets, groups),
    )


def _own_afbt(targets: Sequence[Relaxation], groups: IntArray) -> Estimate:
    largest = np.array([np.inf if target.state == FAILED else target.largest_force for target in targets])
    return estimate(below(largest, FORCE_THRESHOLDS), groups, is_share=True)


def require_same_labels(oracle: ForceField, shards: ShardSet, structures: IntArray) -> None:
    """Refuse an oracle that does not give the stored labels again, e.g. as another version of its program.

    Raises:
        DataError: with their mean deviation.
    """
    stored = [shards.read(int(index)) for index in structures]
    labelled = [(s, s.forces) for s in stored if s.forces is not None]
    if not labelled:
        return
    _, forces = oracle([atoms_of(s) for s, _ in labelled])
    deviation = float(np.abs(forces - np.concatenate([known for _, known in labelled])).mean())
    if not deviation <= ORACLE_TOLERANCE:
        raise DataError(
            f"{shards.manifest.source.name} as installed here differs from the forces in {shards.path} by "
            f"{deviation:.2g} eV/angstrom on average: "
            "prepare the data and train with one version of it, or judge without relaxations (--relax 0)"
        )


def atoms_of(stored: StoredStructure | Structure) -> Atoms:
    """A structure without its labels."""
    return Atoms(stored.numbers, stored.positions, cell=stored.cell, pbc=stored.pbc)


def below(values: FloatArray, thresholds: FloatArray) -> FloatArray:
    """(S,) share of thresholds that each value is below."""
    return (values[:, None] < thresholds).mean(axis=1)


def mean_distance(one: Atoms, other: Atoms) -> float:
    """Mean over atoms of the distance to the nearest periodic image of the same atom, angstrom; nothing is aligned.

    Source: fairchem `evaluator.average_distance_within_threshold`.
    """
    return float(find_mic(one.positions - other.positions, one.cell, one.pbc)[1].mean())


def estimate(
    values: FloatArray, groups: IntArray, *, weights: FloatArray | None = None, is_share: bool = False
) -> Estimate:
    """The weighted mean, with a standard error that takes groups, not structures, for independent.

    Where shares have no spread (all 0 or all 1) their error is that of Agresti and Coull (Am. Stat. 52, 119 (1998))
    for as many groups, since it is not zero either.

    Args:
        values, groups, weights: (S,) of structures; weights None: all alike. is_share: values lie in [0, 1].
    """
    weights = np.ones(len(values)) if weights is None else weights
    mean = float(np.average(values, weights=weights))
    names, group_of = np.unique(groups, return_inverse=True)
    num = len(names)
    if num < 2:
        return Estimate(mean, None)
    if is_share and np.ptp(values) == 0 and mean in (0.0, 1.0):
        share = (mean * num + 2) / (num + 4)
        return Estimate(mean, float(np.sqrt(share * (1 - share) / (num + 4))))
    residuals = np.bincount(group_of, (values - mean) * weights)
    return Estimate(mean, float(np.sqrt((residuals**2).sum() * num / (num - 1)) / weights.sum()))


def _largest_forces(systems: Sequence[Atoms], oracle: ForceField) -> FloatArray:
    """(S,) eV/angstrom, by norm; infinite where the oracle finds none."""
    _, forces = oracle(systems)
    first = np.cumsum([0, *(len(atoms) for atoms in systems)])[:-1]
    largest = np.maximum.reduceat(np.linalg.norm(forces, axis=1), first)
    return np.where(np.isfinite(largest), largest, np.inf)
