"""How far predictions are from labels, structure by structure: what losses and metrics are made of."""

from dataclasses import dataclass

import torch
from torch import Tensor

#: A structure is "within thresholds" (EFwT) if its total energy and all its force components are nearer than these.
EFWT_ENERGY_EV = 0.02
EFWT_FORCE_EV_PER_ANG = 0.03
#: A force smaller than this, eV/angstrom, has no direction.
ZERO_FORCE = 1e-8


@dataclass(frozen=True)
class Errors:
    """Errors of a batch of G structures, N atoms.

    energy_G: |dE| / N, eV/atom. force_G: the structure's mean of |dF| over atoms and components, eV/angstrom.
    forces_N3, true_forces_N3, graph_N: what they were made of, for other norms of the same errors.
    """

    energy_G: Tensor
    force_G: Tensor
    num_atoms_G: Tensor
    forces_N3: Tensor
    true_forces_N3: Tensor
    graph_N: Tensor

    @classmethod
    def of(
        cls,
        energy_G: Tensor,
        forces_N3: Tensor,
        *,
        true_energy_G: Tensor,
        true_forces_N3: Tensor,
        graph_N: Tensor,
        num_atoms_G: Tensor,
    ) -> "Errors":
        """Compare predictions with labels."""
        error_N = (forces_N3 - true_forces_N3).abs().mean(dim=1)
        force_G = error_N.new_zeros(len(energy_G)).index_add(0, graph_N, error_N) / num_atoms_G
        per_atom_G = (energy_G - true_energy_G).abs() / num_atoms_G
        return cls(per_atom_G, force_G, num_atoms_G, forces_N3, true_forces_N3, graph_N)

    @property
    def total_energy_G(self) -> Tensor:
        """|dE| of the whole structure, eV."""
        return self.energy_G.detach().double() * self.num_atoms_G

    @property
    def cosine_G(self) -> Tensor:
        """The structure's mean over atoms of the cosine between predicted and true force.

        An atom counts 0 where either is zero: the direction of such a force is not defined.
        Source: force cosine of OC20's S2EF task, fairchem `evaluator.cosine_similarity`, which counts the same.
        """
        predicted_N3, true_N3 = self.forces_N3.detach().double(), self.true_forces_N3.double()
        cosine_N = torch.cosine_similarity(predicted_N3, true_N3, dim=1, eps=ZERO_FORCE)
        return self.sum_atoms(cosine_N) / self.num_atoms_G

    @property
    def is_within_G(self) -> Tensor:
        """1 where the total energy is within EFWT_ENERGY_EV and every force component within EFWT_FORCE_EV_PER_ANG.

        Source: EFwT of OC20's S2EF task (Chanussot et al., ACS Catal. 11, 6059 (2021)), fairchem
        `evaluator.energy_forces_within_threshold`: by components, not by norms; both bounds exclusive.
        """
        error_N = (self.forces_N3.detach() - self.true_forces_N3).abs().amax(dim=1)
        num_beyond_G = self.sum_atoms((~(error_N < EFWT_FORCE_EV_PER_ANG)).double())
        return ((self.total_energy_G < EFWT_ENERGY_EV) & (num_beyond_G == 0)).double()

    def sum_atoms(self, values_N: Tensor) -> Tensor:
        """(G,) sums over each structure's atoms."""
        return values_N.new_zeros(len(self.energy_G)).index_add(0, self.graph_N, values_N)
