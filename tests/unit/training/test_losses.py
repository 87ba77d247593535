"""The loss is a list of entries: coefficient * norm / scale of each field."""

from dataclasses import dataclass

import pytest
import torch

from scaling.config import BudgetConfig, TrainConfig
from scaling.data.baseline import Baseline
from scaling.training import losses
from scaling.training.losses import Errors, Loss, Term
from scaling.training.metrics import Means, Sums
from tests.unit.training.runs import losses as losses_of
from tests.unit.training.runs import trained

BASELINE = Baseline(torch.zeros(1, 3).numpy(), energy_mae_ev_per_atom=0.5, force_mae_ev_per_ang=2.0, mean_degree=20.0)


def errors() -> Errors:
    """Two structures, of two atoms and of one: errors of 0.25 and 0.01 eV/atom, 0.5 and 0.02 / 3 eV/angstrom."""
    return Errors.of(
        torch.tensor([1.5, -3.0]),
        torch.tensor([[2.0, 0, 0], [2, 2, 0], [0, 0, 0.02]]),
        true_energy_G=torch.tensor([1.0, -3.01]),
        true_forces_N3=torch.tensor([[1.0, 0, 0], [0, 2, 0], [0, 0, 0]]),
        graph_N=torch.tensor([0, 0, 1]),
        num_atoms_G=torch.tensor([2, 1]),
    )


def test_loss_of_structures_is_the_one_computed_by_hand():
    loss = Loss.of(TrainConfig(energy_weight=0.1, force_weight=3.0), BASELINE)
    expected = [0.1 * 0.25 / 0.5 + 3 * 0.5 / 2, 0.1 * 0.01 / 0.5 + 3 * (0.02 / 3) / 2]
    assert loss.per_structure(errors()).tolist() == pytest.approx(expected, rel=1e-5)
    assert loss.mean(Means.of(Sums.of(errors())).norms) == pytest.approx(sum(expected) / 2, rel=1e-5)
    assert loss.composition_only == pytest.approx(3.1)


def test_quantity_without_spread_keeps_its_unit():
    flat = Baseline(BASELINE.reference_ev, energy_mae_ev_per_atom=0.0, force_mae_ev_per_ang=2.0, mean_degree=20.0)
    loss = Loss.of(TrainConfig(), flat)
    assert loss.scale("energy") == 1.0
    assert loss.scale("force") == 2.0


def mean_square(found: Errors) -> torch.Tensor:
    error_N = (found.forces_N3 - found.true_forces_N3).square().sum(dim=1)
    return found.sum_atoms(error_N) / found.num_atoms_G


@dataclass(frozen=True)
class WithSquares(TrainConfig):
    """A recipe with the coefficient of a term of its own."""

    squares_weight: float = 0.5


@pytest.fixture
def squares(monkeypatch):
    """A term of mean squares of forces."""
    monkeypatch.setitem(losses.TERMS, "squares", Term(mean_square, lambda baseline: 4.0))


def test_new_term_is_one_entry(squares):
    loss = Loss.of(WithSquares(energy_weight=0.0, force_weight=1.0), BASELINE)
    expected = [0.5 / 2 + 0.5 * (1 + 4) / 2 / 4, (0.02 / 3) / 2 + 0.5 * 0.02**2 / 4]
    assert loss.per_structure(errors()).tolist() == pytest.approx(expected, rel=1e-5)
    assert loss.mean(Means.of(Sums.of(errors())).norms) == pytest.approx(sum(expected) / 2, rel=1e-5)


def test_run_learns_from_a_new_term_and_is_judged_by_it(tiny_data, tmp_path, squares):
    def losses_at(weight: float) -> list[float]:
        train = WithSquares(BudgetConfig("steps", 4), batch_size=9, validate_every=4, squares_weight=weight)
        return losses_of(trained(tiny_data, tmp_path / str(weight), train=train))

    with_term = losses_at(2.0)
    without = losses_at(0.0)
    assert with_term != pytest.approx(without, rel=0.01)
    del losses.TERMS["squares"]
    assert without == losses_at(1.0), "the control: a coefficient of zero is no term"
