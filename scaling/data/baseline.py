"""What composition alone predicts: reference energies per element, and the size of what is left to learn."""

from dataclasses import dataclass

import numpy as np

from scaling.data.shards import ShardSet
from scaling.errors import DataError
from scaling.structure import FloatArray, IntArray

#: Structures whose forces are read to measure a typical force; more would not change it visibly.
MAX_FORCE_SAMPLE = 4096


@dataclass(frozen=True)
class Baseline:
    """The composition-only model of a set of structures: energy = sum of references, forces = 0.

    reference_ev: (num_elements,) in the order of the manifest's elements. energy_mae_ev_per_atom: mean |E - E_ref| / N.
    force_mae_ev_per_ang: mean |F| over atoms and components. mean_degree: mean number of neighbours of an atom.
    """

    reference_ev: FloatArray
    energy_mae_ev_per_atom: float
    force_mae_ev_per_ang: float
    mean_degree: float

    @classmethod
    def fit(cls, shards: ShardSet, structures: IntArray, num_edges: IntArray) -> "Baseline":
        """Least squares over the given structures; num_edges: (len,) edges of each.

        Elements that the structures lack get the energy 0; `split.choose` guards against judging on them.

        Raises:
            DataError: if there is nothing to learn (no spread of energies and no forces).
        """
        counts = shards.composition(structures).astype(np.float64)
        energy = shards.energy[structures]
        num_atoms = counts.sum(axis=1)
        reference = np.linalg.lstsq(counts / num_atoms[:, None], energy / num_atoms, rcond=None)[0]
        sample = structures[:: -(-len(structures) // MAX_FORCE_SAMPLE)]
        forces = np.concatenate([shards.read(int(i)).forces for i in sample])
        result = cls(
            reference_ev=reference,
            energy_mae_ev_per_atom=float(np.abs((energy - counts @ reference) / num_atoms).mean()),
            force_mae_ev_per_ang=float(np.abs(forces, dtype=np.float64).mean()),
            mean_degree=float(num_edges.sum() / num_atoms.sum()),
        )
        if result.force_mae_ev_per_ang == 0 and result.energy_mae_ev_per_atom < 1e-12:
            raise DataError(
                f"{shards.path}: all {len(structures)} training structures have zero forces and no spread of energies"
            )
        return result
