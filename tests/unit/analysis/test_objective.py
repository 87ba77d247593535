"""Huber's function is that of its paper, with the delta that it is given; no published table is needed for that."""

import numpy as np
import pytest

from analysis.fitting.objective import choose_objective

RESIDUALS = np.array([0.0, 1e-4, -1e-3, 2e-3, -0.5])


@pytest.mark.parametrize("delta", [1e-3, 0.1])
def test_cost_is_quadratic_within_delta_and_linear_beyond(delta):
    objective = choose_objective("huber", delta)
    size = np.abs(RESIDUALS)
    expected = np.where(size <= delta, RESIDUALS**2 / 2, delta * (size - delta / 2))
    np.testing.assert_allclose(objective.rho(RESIDUALS), expected, rtol=1e-12)


def test_literatures_delta_is_a_thousandth():
    """Hoffmann et al. 2022, sec. 3.3."""
    assert choose_objective("huber").delta == 1e-3


def test_weight_is_what_the_slope_of_the_cost_is_of_a_parabolas():
    objective = choose_objective("huber", 1e-3)
    step = 1e-9
    slope = (objective.rho(RESIDUALS[1:] + step) - objective.rho(RESIDUALS[1:] - step)) / (2 * step)
    np.testing.assert_allclose(objective.weight(RESIDUALS[1:]), slope / RESIDUALS[1:], rtol=1e-4)
