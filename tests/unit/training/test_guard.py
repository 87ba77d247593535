"""What is noticed of a training that goes wrong, and in which words."""

import math

import pytest

from scaling.errors import RunError
from scaling.training.guard import MEMORY, SPIKE, LossHistory, check_gradient, check_loss


def history(losses) -> LossHistory:
    kept = LossHistory()
    for loss in losses:
        kept = kept.after(loss)
    return kept


def test_usual_loss_is_the_mean_of_the_last_steps():
    assert history([1.0, 2.0, 3.0]).usual == pytest.approx(2.0)
    assert history([5.0] * 300 + [1.0] * 300).usual == pytest.approx(1.0, abs=0.02)


def test_spike_stands_out_from_a_settled_loss_alone():
    settled = history([1.0] * MEMORY)
    assert settled.is_spike(1.01 * SPIKE)
    assert not settled.is_spike(0.99 * SPIKE)
    assert not history([1.0] * (MEMORY - 1)).is_spike(100.0), "too early to tell"


def test_one_spike_does_not_hide_the_next():
    assert history([1.0] * MEMORY + [1e6]).is_spike(2 * SPIKE)


@pytest.mark.parametrize("loss", [math.nan, math.inf, 2e4])
def test_divergence_names_step_and_structures(loss):
    with pytest.raises(RunError, match=r"diverged at step 7: the loss is .* on structures \[3, 5\]; lower optim\.lr"):
        check_loss(loss, composition_only=1.0, step=7, structures=[3, 5])
    check_loss(9e3, composition_only=1.0, step=7, structures=[3, 5])


@pytest.mark.parametrize("norm", [math.nan, math.inf, 0.0])
def test_gradient_that_is_not_finite_or_has_vanished_names_step_and_structures(norm):
    with pytest.raises(RunError, match=r"diverged at step 7: the gradient norm is .* on structures \[3\]"):
        check_gradient(norm, step=7, structures=[3])
    check_gradient(1e-3, step=7, structures=[3])
