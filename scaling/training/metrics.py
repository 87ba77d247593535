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
    """Absolute errors of a batch of G structures: energy_G eV/atom; force_G the structure's mean, eV/angstrom."""

    energy_G: Tensor
    force_G: Tensor
    num_atoms_G: Tensor

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
        return cls((energy_G - true_energy_G).abs() / num_atoms_G, force_G, num_atoms_G)

    def sums(self) -> Tensor:
        """(5,) float64: structures, atoms, and the sums from which `Means` are made."""
        atoms_G, energy_G, force_G = self.num_atoms_G.double(), self.energy_G.detach(), self.force_G.detach()
        rows = [torch.ones_like(atoms_G), atoms_G, energy_G.double(), force_G.double(), force_G * atoms_G]
        return torch.stack(rows).sum(dim=1)


@dataclass(frozen=True)
class Means:
    """Mean errors of a set of structures. structure_force_mae weighs structures alike, force_mae weighs atoms alike."""

    num_structures: int
    energy_mae_ev_per_atom: float
    structure_force_mae_ev_per_ang: float
    force_mae_ev_per_ang: float

    @classmethod
    def of(cls, sums: Tensor) -> "Means":
        """From added-up `Errors.sums`."""
        structures, atoms, energy, force, atom_force = sums.tolist()
        return cls(int(structures), energy / structures, force / structures, atom_force / atoms)

    def loss(self, scale: LossScale) -> float:
        """The set's mean loss."""
        return scale.loss(self.energy_mae_ev_per_atom, self.structure_force_mae_ev_per_ang)


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
