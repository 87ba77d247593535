"""Errors of predictions, structure by structure, and the loss that is made of them: a list of entries.

An entry is a field, a norm of its errors and a coefficient, in units of what composition alone leaves.

To add a term: an entry of TERMS, and its coefficient `<field>_weight` among the fields of `scaling.config.TrainConfig`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

import torch
from torch import Tensor

from scaling.config import TrainConfig
from scaling.data import Baseline

#: A structure is "within thresholds" (EFwT) if its total energy and all its force components are nearer than these.
EFWT_ENERGY_EV = 0.02
EFWT_FORCE_EV_PER_ANG = 0.03
#: A force smaller than this, eV/angstrom, has no direction.
ZERO_FORCE = 1e-8


@dataclass(frozen=True)
class Errors:
    """Errors of a batch of G structures, N atoms.

    energy_G: |dE| / N, eV/atom. force_G: the structure's mean of |dF| over atoms and components, eV/angstrom.
    forces_N3, true_forces_N3, graph_N: what they were made of, for other norms of the same errors. labelled: (G,) bool
    by label, "energy" and "forces": which structures have it; a label that is left out is there for all. Errors of the
    others are no errors, whatever they say here.
    """

    energy_G: Tensor
    force_G: Tensor
    num_atoms_G: Tensor
    forces_N3: Tensor
    true_forces_N3: Tensor
    graph_N: Tensor
    labelled: Mapping[str, Tensor] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        energy_G: Tensor,
        forces_N3: Tensor | None,
        *,
        true_energy_G: Tensor,
        true_forces_N3: Tensor,
        graph_N: Tensor,
        num_atoms_G: Tensor,
        labelled: Mapping[str, Tensor] | None = None,
    ) -> "Errors":
        """Compare predictions with labels; forces_N3 None: not predicted, where no structure has them."""
        if forces_N3 is None:
            forces_N3 = torch.zeros_like(true_forces_N3)
        error_N = (forces_N3 - true_forces_N3).abs().mean(dim=1)
        force_G = error_N.new_zeros(len(energy_G)).index_add(0, graph_N, error_N) / num_atoms_G
        per_atom_G = (energy_G - true_energy_G).abs() / num_atoms_G
        return cls(per_atom_G, force_G, num_atoms_G, forces_N3, true_forces_N3, graph_N, labelled or {})

    def only(self, values_G: Tensor, *labels: str) -> Tensor:
        """(G,) the same values, and 0 for structures that lack one of the labels."""
        for label in labels:
            if label in self.labelled:
                values_G = torch.where(self.labelled[label], values_G, 0.0)
        return values_G

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


@dataclass(frozen=True)
class Term:
    """A kind of error. norm: of each structure, (G,). scale: its mean with the composition-only model; None: unknown.

    label: that it is an error of; structures without it do not count.
    """

    norm: Callable[[Errors], Tensor]
    scale: Callable[[Baseline], float | None]
    label: str = "forces"


TERMS: dict[str, Term] = {
    "energy": Term(lambda e: e.energy_G, lambda baseline: baseline.energy_mae_ev_per_atom, label="energy"),
    "force": Term(lambda e: e.force_G, lambda baseline: baseline.force_mae_ev_per_ang),
}


@dataclass(frozen=True)
class Entry:
    """One term of a run's loss, coefficient * norm / scale.

    scale: 1, the quantity's unit, where it has no spread or nobody has its label; the latter says is_known.
    """

    field: str
    norm: Callable[[Errors], Tensor]
    coefficient: float
    scale: float
    label: str
    is_known: bool


@dataclass(frozen=True)
class Loss:
    """The loss of a structure: w_E |dE| / (N s_E) + w_F mean|dF| / s_F, or what TERMS hold besides.

    Of many structures each term is the mean over those that have its label, whatever the others have: a label that few
    have weighs as much as one that all have.

    s_E (eV/atom) and s_F (eV/angstrom) are the mean errors of the composition-only model, so that a loss of w_E + w_F
    is what composition alone gives. Training uses the scales of the run's own training structures; tests use those of
    all training structures of the data set, the same for every run of a study.
    """

    entries: tuple[Entry, ...]

    @classmethod
    def of(cls, train: TrainConfig, baseline: Baseline) -> "Loss":
        """The loss with a run's coefficients and a baseline's scales."""
        entries = []
        for name, term in TERMS.items():
            scale = term.scale(baseline)
            coefficient = getattr(train, f"{name}_weight")
            entries.append(Entry(name, term.norm, coefficient, scale or 1.0, term.label, scale is not None))
        return cls(tuple(entries))

    def per_structure(self, errors: Errors, upweight: Mapping[str, float] = MappingProxyType({})) -> Tensor:
        """(G,) losses, differentiable.

        Args:
            upweight: by label, one over the share of the structures, batches of which these are, that have it; 1 where
                it is left out. With it the mean over all of them is the sum of each term's mean over the structures
                that have its label, and the mean over a random batch is that on average.
        """
        first, *others = (
            entry.coefficient
            * (errors.only(entry.norm(errors), entry.label) / entry.scale)
            * upweight.get(entry.label, 1.0)
            for entry in self.entries
        )
        return sum(others, start=first)

    def mean(self, norms: Mapping[str, float | None]) -> float:
        """The mean loss of structures with these mean norms, by field; None where nobody has the label.

        Raises:
            TypeError: if a term that counts is None.
        """
        counted = [entry for entry in self.entries if entry.coefficient]
        return sum(entry.coefficient * norms[entry.field] / entry.scale for entry in counted)  # type: ignore[operator]

    @property
    def composition_only(self) -> float:
        """The loss of the composition-only model on the structures that gave the scales."""
        return sum(entry.coefficient for entry in self.entries)

    def scale(self, field: str) -> float | None:
        """The unit of a field's norm; None where nobody has its label."""
        return next(entry.scale if entry.is_known else None for entry in self.entries if entry.field == field)
