"""Budgets become steps, and the learning rate rises, stays and falls."""

from itertools import pairwise

import pytest

from scaling.config import BudgetConfig
from scaling.errors import ConfigError
from scaling.optim.config import AdamWConfig
from scaling.optim.schedule import learning_rate, num_steps


@pytest.mark.parametrize(
    ("unit", "amount", "steps"),
    [("steps", 7, 7), ("samples", 65, 3), ("epochs", 2, 7), ("flops", 3.2e6, 100), ("samples", 1, 1)],
)
def test_budget_in_any_unit_becomes_whole_steps(unit, amount, steps):
    assert num_steps(BudgetConfig(unit, amount), batch_size=32, train_structures=100, flops_per_structure=1e3) == steps


def test_absurd_budget_is_refused():
    with pytest.raises(ConfigError, match=r"train\.budget\.amount"):
        num_steps(BudgetConfig("flops", 1e30), batch_size=32, train_structures=100, flops_per_structure=1.0)


def test_learning_rate_warms_up_stays_and_decays_to_almost_nothing():
    optim = AdamWConfig(warmup_share=0.1, decay_share=0.4)
    rates = [learning_rate(step, 100, peak=1.0, optim=optim) for step in range(100)]
    assert rates[:10] == pytest.approx([0.1 * (k + 1) for k in range(10)])
    assert rates[10:60] == [1.0] * 50
    assert all(a > b for a, b in pairwise(rates[60:]))
    assert rates[-1] == pytest.approx(1 / 40)
