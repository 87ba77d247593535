"""What composition alone predicts: reference energies per element, and the size of what is left to learn."""

from dataclasses import dataclass

import numpy as np

from scaling.data.shards import ShardSet
from scaling.errors import DataError
from scaling.structure import FloatArray, IntArray

#: Structures whose forces are read to measure a typical force; more would not change it visibly.
MAX_FORCE_SAMPLE = 4096

#: Singular values below this share of the largest are rounding of the folded factors, and not of the compositions,
#: which are ratios of small whole numbers.
RANK_TOLERANCE = 1e-9


@dataclass(frozen=True)
class Baseline:
    """The composition-only model of a set of structures: energy = sum of references, forces = 0.

    reference_ev: (num_parts, num_elements), of each part of a mixed set its own (levels of theory differ by constants
    per atom), in the order of the manifest's elements. energy_mae_ev_per_atom: mean |E - E_ref| / N.
    force_mae_ev_per_ang: mean |F| over atoms and components. mean_degree: mean number of neighbours of an atom. Each of
    the labels that are there: of structures without it nothing is taken, and None stands where no structure has it.
    """

    reference_ev: FloatArray
    energy_mae_ev_per_atom: float | None
    force_mae_ev_per_ang: float | None
    mean_degree: float

    @classmethod
    def fit(cls, shards: ShardSet, structures: IntArray, num_edges: IntArray) -> "Baseline":
        """Least squares over the given structures, ascending; num_edges: (len,) edges of each.

        Elements that the structures lack get the energy 0; `split.choose` guards against judging on them.

        Raises:
            DataError: if there is nothing to learn (no spread of energies and no forces but zero).
        """
        if not num_edges.any():
            raise DataError(
                f"{shards.path}: no training structure has a pair within data.cutoff_ang; raise the cut-off"
            )
        with_energy = structures[shards.has("energy")[structures]]
        reference = _least_squares(shards, with_energy)
        errors = 0.0
        for some, counts in shards.compositions(with_energy):
            of_composition = (counts * reference[shards.source[some]]).sum(axis=1)
            errors += float(np.abs((shards.energy[some] - of_composition) / counts.sum(axis=1)).sum())
        num_atoms = int(shards.num_atoms[structures].sum(dtype=np.int64))
        result = cls(
            reference_ev=reference,
            energy_mae_ev_per_atom=errors / len(with_energy) if len(with_energy) else None,
            force_mae_ev_per_ang=_force_mae(shards, structures[shards.has("forces")[structures]]),
            mean_degree=float(num_edges.sum(dtype=np.int64) / num_atoms),
        )
        if not result.force_mae_ev_per_ang and (result.energy_mae_ev_per_atom or 0.0) < 1e-12:
            raise DataError(
                f"{shards.path}: all {len(structures)} training structures have no forces but zero and no spread of "
                "energies"
            )
        return result


def _force_mae(shards: ShardSet, structures: IntArray) -> float | None:
    """Mean |F| over atoms and components of a sample of the structures, all of which have forces."""
    if not len(structures):
        return None
    sample = structures[:: -(-len(structures) // MAX_FORCE_SAMPLE)]
    forces = [stored for i in sample if (stored := shards.read(int(i)).forces) is not None]
    return float(np.abs(np.concatenate(forces), dtype=np.float64).mean())


def _least_squares(shards: ShardSet, structures: IntArray) -> FloatArray:
    """(num_parts, num_elements) energies that fit E / N best; of least norm where the structures leave a choice.

    The rows of a shard are folded into a triangular factor (QR), so that memory does not grow with the set and
    nothing is squared.
    """
    num_parts, num_elements = len(shards.manifest.parts), len(shards.manifest.elements)
    reference = np.zeros((num_parts, num_elements))
    factors = [np.zeros((0, num_elements + 1)) for _ in range(num_parts)]
    for some, counts in shards.compositions(structures):
        sizes = counts.sum(axis=1)
        rows = np.column_stack([counts / sizes[:, None], shards.energy[some] / sizes])
        source = shards.source[some]
        for part in np.unique(source):
            factors[part] = np.linalg.qr(np.concatenate([factors[part], rows[source == part]]), mode="r")
    for part, factor in enumerate(factors):
        if len(factor):
            reference[part] = np.linalg.lstsq(factor[:, :-1], factor[:, -1], rcond=RANK_TOLERANCE)[0]
    return reference
