"""M4: a law whose loss is bounded below and above, so that it can begin flat, fall as a power, and end flat.

(L - E) / (E0 - L)^a = A x^-alpha has one solution L between floor E and ceiling E0; a = 0 is a power with a floor.
"""

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from scipy.special import expit, log_expit

from analysis.arrays import FloatArray
from analysis.forms.terms import CUSTOMARY, EXPONENT_BOUNDS, LOG_COEFFICIENT_BOUNDS, SMALLEST_START, Parameter

NEWTON_STEPS = 60
SMALLEST_STEP = 1e-7  # Newton's error after a step is of the order of the step's square
LARGEST_T = 700.0


@dataclass(frozen=True)
class M4:
    """theta's columns: E, log(E0 - E), a, log A, alpha."""

    name: str
    axis: str
    source: str

    uncentred = ()

    @property
    def axes(self) -> tuple[str, ...]:
        return (self.axis,)

    @cached_property
    def _names(self) -> tuple[str, str]:
        customary = CUSTOMARY.get(self.axis, CUSTOMARY["N"])
        return customary["coefficient"], customary["exponent"]

    @property
    def formula(self) -> str:
        coefficient, exponent = self._names
        return f"the solution of (L - E) / (E0 - L)^a = {coefficient} / {self.axis}^{exponent}"

    @cached_property
    def parameters(self) -> tuple[Parameter, ...]:
        coefficient, exponent = self._names
        return (
            Parameter("E", "floor", 0.0, np.inf),
            Parameter("E0", "shape", -5.0, 8.0),
            Parameter("a", "shape", 0.0, 10.0),
            Parameter(coefficient, "coefficient", *LOG_COEFFICIENT_BOUNDS, self.axes),
            Parameter(exponent, "exponent", *EXPONENT_BOUNDS, self.axes),
        )

    def along(self, axis: str) -> "M4":
        return replace(self, axis=axis)

    def evaluate(self, theta: FloatArray, logs: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Loss (R, M) and its derivatives (R, P, M); the share (L - E) / (E0 - E) = expit(t) is found by Newton."""
        floor, log_span, power, log_coefficient, exponent = (theta[:, i, None] for i in range(5))
        x = logs[0]
        right = log_coefficient - exponent * x + (power - 1.0) * log_span
        t = _solve(right, power)
        span, share = np.exp(log_span), expit(t)
        slope = expit(-t) + power * share  # of log expit(t) - a log expit(-t)
        by_t = span * share * expit(-t) / slope  # dL / d right
        gradient = np.stack(
            [
                np.ones_like(t),
                span * share + by_t * (power - 1.0),
                by_t * (log_span + log_expit(-t)),
                by_t,
                -by_t * x,
            ],
            1,
        )
        return floor + span * share, gradient

    def starts(self, logs: FloatArray, loss: FloatArray, weights: FloatArray) -> FloatArray:
        """On a grid of floor, ceiling and a: the line through log((L - E) / (E0 - L)^a) against log x."""
        x, low, high = logs[0], loss.min(), loss.max()
        floors = low * np.array([0.0, 0.5, 0.8, 0.95, 0.99])
        spans = high * np.array([1.02, 1.1, 1.5, 4.0, 20.0])
        powers = np.array([0.0, 0.3, 1.0, 2.0, 4.0])
        grid = np.stack(np.meshgrid(floors, spans, powers, indexing="ij"), -1).reshape(-1, 3)
        floor, ceiling, power = (grid[:, i, None] for i in range(3))
        left = np.log(np.maximum(loss - floor, SMALLEST_START)) - power * np.log(ceiling - loss)
        share = weights / weights.sum()
        middle = x @ share
        spread = np.maximum((x - middle) ** 2 @ share, 1e-12)
        exponent = np.clip(-(left * (x - middle)) @ share / spread, 0.01, EXPONENT_BOUNDS[1])
        offset = np.clip(left @ share + exponent * middle, -29.0, 29.0)
        theta = np.column_stack([grid[:, 0], np.log(grid[:, 1] - grid[:, 0]), grid[:, 2], offset, exponent])
        error = np.log(self.evaluate(theta, logs)[0]) - np.log(loss)
        return np.asarray(theta[np.argsort(error**2 @ weights, kind="stable")])

    def public(self, theta: FloatArray, centre: FloatArray, scale: float) -> FloatArray:
        values = theta.copy()
        values[:, 0] = scale * theta[:, 0]
        values[:, 1] = scale * (theta[:, 0] + np.exp(theta[:, 1]))
        values[:, 3] = scale ** (1 - theta[:, 2]) * np.exp(theta[:, 3] + theta[:, 4] * centre[0])
        return values


def _solve(right: FloatArray, power: FloatArray) -> FloatArray:
    """t (R, M) with log expit(t) - power log expit(-t) = right; the left side rises with slopes between 1 and power.

    Newton's steps are kept within a bracket. Where power is 0 and right positive there is no solution: t is then large,
    which puts the loss at the ceiling.
    """
    low, high = np.full_like(right, -LARGEST_T), np.full_like(right, LARGEST_T)
    t = np.clip(np.where(right < 0, right, right / np.maximum(power, 0.1)), -LARGEST_T, LARGEST_T)
    for _ in range(NEWTON_STEPS):
        # One exponential and one logarithm give log expit(t), log expit(-t) and expit(-t) alike.
        small = np.exp(-np.abs(t))
        log_sum, share = np.log1p(small), 1.0 / (1.0 + small)
        share = np.where(t > 0, small * share, share)  # expit(-t)
        error = np.minimum(t, 0.0) - log_sum + power * (np.maximum(t, 0.0) + log_sum) - right
        low, high = np.where(error <= 0, t, low), np.where(error >= 0, t, high)
        after = t - error / np.maximum(share + power * (1.0 - share), 1e-12)
        after = np.where((after < low) | (after > high), 0.5 * (low + high), after)
        moved = float(np.abs(after - t).max(initial=0.0))
        t = after
        if moved < SMALLEST_STEP:
            break
    return np.asarray(t)
