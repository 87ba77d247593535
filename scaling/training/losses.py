"""The loss: a list of entries (field, norm, coefficient), each in units of what composition alone leaves.

To add a term: an entry of TERMS, and its coefficient `<field>_weight` among the fields of `scaling.config.TrainConfig`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from torch import Tensor

from scaling.config import TrainConfig
from scaling.data.baseline import Baseline
from scaling.training.errors import Errors


@dataclass(frozen=True)
class Term:
    """A kind of error. norm: of each structure, (G,). scale: its mean with the composition-only model."""

    norm: Callable[[Errors], Tensor]
    scale: Callable[[Baseline], float]


TERMS: dict[str, Term] = {
    "energy": Term(lambda e: e.energy_G, lambda baseline: baseline.energy_mae_ev_per_atom),
    "force": Term(lambda e: e.force_G, lambda baseline: baseline.force_mae_ev_per_ang),
}


@dataclass(frozen=True)
class Entry:
    """One term of a run's loss, coefficient * norm / scale; a quantity without spread keeps its unit as the scale."""

    field: str
    norm: Callable[[Errors], Tensor]
    coefficient: float
    scale: float


@dataclass(frozen=True)
class Loss:
    """The loss of a structure: w_E |dE| / (N s_E) + w_F mean|dF| / s_F, or what TERMS hold besides.

    s_E (eV/atom) and s_F (eV/angstrom) are the mean errors of the composition-only model, so that a loss of w_E + w_F
    is what composition alone gives. Training uses the scales of the run's own training structures; tests use those of
    all training structures of the data set, the same for every run of a study.
    """

    entries: tuple[Entry, ...]

    @classmethod
    def of(cls, train: TrainConfig, baseline: Baseline) -> "Loss":
        """The loss with a run's coefficients and a baseline's scales."""
        return cls(
            tuple(
                Entry(field, term.norm, getattr(train, f"{field}_weight"), term.scale(baseline) or 1.0)
                for field, term in TERMS.items()
            )
        )

    def per_structure(self, errors: Errors) -> Tensor:
        """(G,) losses, differentiable."""
        first, *others = (entry.coefficient * (entry.norm(errors) / entry.scale) for entry in self.entries)
        return sum(others, start=first)

    def mean(self, norms: Mapping[str, float]) -> float:
        """The mean loss of structures with these mean norms, by field."""
        return sum(entry.coefficient * norms[entry.field] / entry.scale for entry in self.entries)

    @property
    def composition_only(self) -> float:
        """The loss of the composition-only model on the structures that gave the scales."""
        return sum(entry.coefficient for entry in self.entries)

    def scale(self, field: str) -> float:
        """The unit of a field's norm."""
        return next(entry.scale for entry in self.entries if entry.field == field)
