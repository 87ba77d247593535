"""Mean errors of many structures: sums by name, so that micro-batches and ranks add up exactly."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from scaling.training.losses import TERMS, Errors


@dataclass(frozen=True)
class Metric:
    """An error of each structure, (G,), the labels it needs, and whether structures weigh alike in its mean, or atoms.

    The mean is that of structures which have all of the labels.
    """

    of: Callable[[Errors], Tensor]
    labels: tuple[str, ...]
    per: str = "structure"


METRICS: dict[str, Metric] = {
    "energy_mae_ev_per_atom": Metric(lambda e: e.energy_G, ("energy",)),
    "force_mae_ev_per_ang": Metric(lambda e: e.force_G, ("forces",), per="atom"),
    "energy_mae_ev": Metric(lambda e: e.total_energy_G, ("energy",)),
    "force_cosine": Metric(lambda e: e.cosine_G, ("forces",), per="atom"),
    "efwt": Metric(lambda e: e.is_within_G, ("energy", "forces")),
}


def _summed() -> dict[str, Metric]:
    """All that is averaged: the metrics, and the norms of which the loss is made."""
    assert not METRICS.keys() & TERMS.keys(), "a term of the loss has the name of a metric"
    return METRICS | {field: Metric(term.norm, (term.label,)) for field, term in TERMS.items()}


@dataclass(frozen=True)
class Sums:
    """Sums over structures: of themselves, of their atoms, of each metric, and of the weights of each metric's mean.

    `vector` (K,) float64 holds them all.

    Sums of parts add up to those of the whole, so one reduction over the ranks is enough.
    """

    vector: Tensor

    @classmethod
    def zero(cls) -> "Sums":
        """Of no structure."""
        return cls(torch.zeros(2 + 2 * len(_summed()), dtype=torch.float64))

    @classmethod
    def of(cls, errors: Errors) -> "Sums":
        """Of a batch, on its device."""
        atoms_G = errors.num_atoms_G.double()
        rows = [torch.ones_like(atoms_G), atoms_G]
        weights = {"structure": rows[0], "atom": atoms_G}
        for metric in _summed().values():
            value_G = metric.of(errors).detach().double()
            value_G = value_G * atoms_G if metric.per == "atom" else value_G
            rows += [errors.only(value_G, *metric.labels), errors.only(weights[metric.per], *metric.labels)]
        return cls(torch.stack(rows).sum(dim=1))

    def __add__(self, other: "Sums") -> "Sums":
        return Sums(self.vector + other.vector.to(self.vector.device))

    def __mul__(self, weight: float) -> "Sums":
        return Sums(self.vector * weight)

    def named(self) -> dict[str, float]:
        """Each sum by its name."""
        names = (name for metric in _summed() for name in (metric, f"{metric} of"))
        return dict(zip(("structures", "atoms", *names), self.vector.tolist(), strict=True))


@dataclass(frozen=True)
class Means:
    """Mean errors of a set of structures.

    metrics: by the names of METRICS. norms: mean over structures of each term of the loss, by field. None where no
    structure has the labels.
    """

    num_structures: int
    metrics: dict[str, float | None]
    norms: dict[str, float | None]

    @classmethod
    def of(cls, sums: Sums) -> "Means":
        """From added-up sums."""
        found = sums.named()
        means = {name: found[name] / weight if (weight := found[f"{name} of"]) else None for name in _summed()}
        return cls(
            int(found["structures"]), {name: means[name] for name in METRICS}, {field: means[field] for field in TERMS}
        )

    def __getitem__(self, metric: str) -> float | None:
        return self.metrics[metric]
