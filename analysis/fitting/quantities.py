"""Quantities that a law's parameters determine, with derivatives: predictions, and any function of theta.

Legend of shapes: R rows of a batch, K quantities, Q queried sizes, P parameters, A axes.
"""

import math
from collections.abc import Callable

import numpy as np

from analysis.fitting.optimum import Optimum
from analysis.forms.terms import FloatArray, IntArray

STEP = 1e-5  # of the numerical derivatives
TINY = 1e-300

Quantities = Callable[[FloatArray, IntArray], tuple[FloatArray, FloatArray]]
"""Of each row the quantity of that number (R,): its value (R,) and derivatives (R, P) at theta (R, P), which are in
centred, scaled units. An interval is found fastest for quantities that are nearly linear in theta."""


def predictions(optimum: Optimum, logs: FloatArray) -> Quantities:
    """log of the predicted loss at each of the sizes `logs` (A, Q)."""
    form, log_scale = optimum.problem.form, math.log(optimum.scale)

    def quantities(theta: FloatArray, which: IntArray) -> tuple[FloatArray, FloatArray]:
        loss, slope = form.evaluate(theta, logs)
        rows = np.arange(len(theta))
        chosen = np.maximum(loss[rows, which], TINY)
        return np.log(chosen) + log_scale, slope[rows, :, which] / chosen[:, None]

    return quantities


def numerical(function: Callable[[FloatArray], FloatArray]) -> Quantities:
    """Quantities (R, K) given as a function of theta (R, P), with derivatives by central differences."""
    return numerical_each(lambda theta, which: function(theta)[np.arange(len(theta)), which])


def numerical_each(function: Callable[[FloatArray, IntArray], FloatArray]) -> Quantities:
    """The same for a function that computes of each row the quantity of that number alone: (R,) of (R, P) and (R,)."""

    def quantities(theta: FloatArray, which: IntArray) -> tuple[FloatArray, FloatArray]:
        shifts = STEP * np.concatenate([np.zeros((1, theta.shape[1])), np.eye(theta.shape[1]), -np.eye(theta.shape[1])])
        shifted = (theta[None] + shifts[:, None]).reshape(-1, theta.shape[1])
        values = function(shifted, np.tile(which, len(shifts))).reshape(len(shifts), len(theta))
        up, down = np.split(values[1:], 2)
        return values[0], np.asarray((up - down).T / (2 * STEP))

    return quantities
