"""The loss and the errors of predictions: sums over structures, so that ranks and micro-batches add up exactly."""

import json
import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from scaling.config import TrainConfig
from scaling.data.baseline import Baseline

#: A structure is "within thresholds" (EFwT) if its total energy and all its force components are nearer than these.
EFWT_ENERGY_EV = 0.02
EFWT_FORCE_EV_PER_ANG = 0.03
#: A force smaller than this, eV/angstrom, has no direction.
ZERO_FORCE = 1e-8
#: Length of `Errors.sums`.
NUM_SUMS = 8


@dataclass(frozen=True)
class LossScale:
    """The loss of a structure: w_E |dE| / (N s_E) + w_F mean|dF| / s_F.

    s_E (eV/atom) and s_F (eV/angstrom) are the mean errors of the composition-only model, so that a loss of w_E + w_F
    is what composition alone gives. Training uses the scales of the run's own training structures; tests use those of
    all training structures of the data set, the same for every run of a study.
    """

    energy_weight: float
    force_weight: float
    energy_scale: float
    force_scale: float

    @classmethod
    def of(cls, train: TrainConfig, baseline: Baseline) -> "LossScale":
        """The scales that a baseline gives; a quantity without spread keeps its unit."""
        return cls(
            train.energy_weight,
            train.force_weight,
            baseline.energy_mae_ev_per_atom or 1.0,
            baseline.force_mae_ev_per_ang or 1.0,
        )

    def per_structure(self, errors: "Errors") -> Tensor:
        """(G,) losses."""
        energy_G = errors.energy_G / self.energy_scale
        return self.energy_weight * energy_G + self.force_weight * errors.force_G / self.force_scale

    def loss(self, energy_mae_ev_per_atom: float, mean_structure_force_mae: float) -> float:
        """The mean loss of structures with these mean errors."""
        return (
            self.energy_weight * energy_mae_ev_per_atom / self.energy_scale
            + self.force_weight * mean_structure_force_mae / self.force_scale
        )


@dataclass(frozen=True)
class Errors:
    """Errors of a batch of G structures, N atoms.

    energy_G: |dE| / N, eV/atom. force_G: the structure's mean of |dF| over atoms and components, eV/angstrom.
    forces_N3, true_forces_N3, graph_N: what they were made of, for what only tests ask.
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
        return self._structure_sums(cosine_N) / self.num_atoms_G

    @property
    def is_within_G(self) -> Tensor:
        """1 where the total energy is within EFWT_ENERGY_EV and every force component within EFWT_FORCE_EV_PER_ANG.

        Source: EFwT of OC20's S2EF task (Chanussot et al., ACS Catal. 11, 6059 (2021)), fairchem
        `evaluator.energy_forces_within_threshold`: by components, not by norms; both bounds exclusive.
        """
        error_N = (self.forces_N3.detach() - self.true_forces_N3).abs().amax(dim=1)
        num_beyond_G = self._structure_sums((~(error_N < EFWT_FORCE_EV_PER_ANG)).double())
        return ((self.total_energy_G < EFWT_ENERGY_EV) & (num_beyond_G == 0)).double()

    def _structure_sums(self, values_N: Tensor) -> Tensor:
        return values_N.new_zeros(len(self.energy_G)).index_add(0, self.graph_N, values_N)

    def sums(self) -> Tensor:
        """(NUM_SUMS,) float64: structures, atoms, and the sums from which `Means` are made."""
        atoms_G, energy_G, force_G = self.num_atoms_G.double(), self.energy_G.detach(), self.force_G.detach()
        rows = [torch.ones_like(atoms_G), atoms_G, energy_G.double(), force_G.double(), force_G * atoms_G]
        rows += [self.total_energy_G, self.cosine_G * atoms_G, self.is_within_G]
        return torch.stack(rows).sum(dim=1)


@dataclass(frozen=True)
class Means:
    """Mean errors of a set of structures. structure_force_mae weighs structures alike, force_mae weighs atoms alike.

    energy_mae_ev: of total energies. force_cosine: over atoms. efwt: share of structures; see `Errors.is_within_G`.
    """

    num_structures: int
    energy_mae_ev_per_atom: float
    structure_force_mae_ev_per_ang: float
    force_mae_ev_per_ang: float
    energy_mae_ev: float
    force_cosine: float
    efwt: float

    @classmethod
    def of(cls, sums: Tensor) -> "Means":
        """From added-up `Errors.sums`."""
        num, atoms, energy, force, atom_force, total, cosine, within = sums.tolist()
        per_structure = energy / num, force / num
        return cls(int(num), *per_structure, atom_force / atoms, total / num, cosine / atoms, within / num)

    def loss(self, scale: LossScale) -> float:
        """The set's mean loss."""
        return scale.loss(self.energy_mae_ev_per_atom, self.structure_force_mae_ev_per_ang)

    def columns(self, prefix: str) -> dict[str, float]:
        """What a run reports besides the fixed columns: the S2EF metrics of OC20."""
        return {f"{prefix}_{name}": getattr(self, name) for name in ("energy_mae_ev", "force_cosine", "efwt")}


class MetricsLog:
    """metrics.jsonl: one JSON object a line; on resumption cut back to where the checkpoint was."""

    def __init__(self, path: Path, *, keep_bytes: int, enabled: bool) -> None:
        self._file = None
        if enabled:
            self._file = path.open("ab")
            self._file.truncate(keep_bytes)
            self._file.seek(0, os.SEEK_END)

    def write(self, **values: Any) -> None:
        """Append one line; a number that is none becomes null."""
        if self._file is not None:
            values = {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in values.items()}
            self._file.write((json.dumps(values, allow_nan=False) + "\n").encode())
            self._file.flush()

    def num_bytes(self) -> int:
        """Length so far, all of it on the disk."""
        if self._file is None:
            return 0
        os.fsync(self._file.fileno())
        return self._file.tell()

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()
