"""Numbers that follow from a law, with intervals; and how a budget is best divided among the law's axes.

Legend of shapes: R refits (the best fit first), J axes that share the budget, A axes of the form, Q budgets.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from analysis.fit import Law
from analysis.forms import Form
from analysis.terms import FloatArray, Power, SumOfTerms
from analysis.uncertainty import interval
from scaling.errors import ConfigError

REACH = 1e9
"""Sizes are sought within this factor of the sampled ones; an answer at its end means: farther than any study goes."""
SMALLEST_EXPONENT = 1e-9
GRID, ZOOM, ROUNDS = 257, 33, 5
LARGEST_GRADIENT = 4_000_000  # numbers; a form returns derivatives with the loss, asked for or not


@dataclass(frozen=True)
class Derived:
    """Numbers (any shape) derived from a law and their 95 % interval (2, ...), None without a bootstrap."""

    value: FloatArray
    ci95: FloatArray | None

    @staticmethod
    def of(samples: FloatArray) -> "Derived":
        """From the number at the best fit and at each bootstrap refit, (R, ...).

        The interval is the refits' percentiles.
        """
        return Derived(samples[0], interval(samples[1:]) if len(samples) > 1 else None)


def all_theta(law: Law) -> FloatArray:
    """(R, P) the best fit and, below it, the bootstrap refits."""
    best = law.optimum.theta[None]
    return best if law.samples is None else np.concatenate([best, law.samples.theta])


def predict_each(law: Law, theta: FloatArray, logs: Mapping[str, FloatArray]) -> FloatArray:
    """Loss (R, Q) of each refit at its own log sizes, an (R, Q) or broadcastable array for each axis of the form."""
    rows = np.broadcast_arrays(*[np.atleast_2d(logs[axis]) for axis in law.form.axes])
    centred = np.stack(rows) - law.optimum.centre[:, None, None]
    if centred.shape[1] == 1:
        rows_at_once = max(1, LARGEST_GRADIENT // (theta.shape[1] * centred.shape[2]))
        parts = [theta[first : first + rows_at_once] for first in range(0, len(theta), rows_at_once)]
        return np.concatenate([law.form.evaluate(part, centred[:, 0])[0] for part in parts]) * law.optimum.scale
    each = [law.form.evaluate(theta[[i]], centred[:, i])[0][0] for i in range(len(theta))]
    return np.stack(each) * law.optimum.scale


def slope_along(law: Law, theta: FloatArray, axis: str, logs: Mapping[str, FloatArray]) -> FloatArray:
    """d log L / d log axis (R, Q) at log sizes as `predict_each` takes them, by a central difference."""
    step = 1e-4
    up, down = ({**logs, axis: logs[axis] + sign * step} for sign in (1, -1))
    slope: FloatArray = np.log(predict_each(law, theta, up) / predict_each(law, theta, down)) / (2 * step)
    return slope


def allocate(
    law: Law, theta: FloatArray, weights: Mapping[str, float], log_budget: FloatArray, fixed: Mapping[str, float]
) -> dict[str, FloatArray]:
    """Log sizes (R, Q) of least loss with sum over axes of weight * log size = log_budget (Q,).

    Args:
        weights: the axes that share the budget: {"N": 1, "D": 1} for C / k = N D, {"width": 2, "depth": 1} for
            N / k = width^2 depth.
        fixed: sizes of the form's other axes.
    Raises:
        ConfigError: if a budget is out of all proportion to the runs.
    """
    _require_within_reach(law, weights, log_budget)
    if terms := _power_terms(law.form, tuple(weights)):
        logs = closed_form(law, theta, terms, weights, log_budget)
        return _within_reach(law, logs, weights, log_budget)
    return search(law, theta, weights, log_budget, fixed)


def closed_form(
    law: Law, theta: FloatArray, terms: Mapping[str, Power], weights: Mapping[str, float], log_budget: FloatArray
) -> dict[str, FloatArray]:
    """The optimum where each axis has a power term of its own: the multiplier of the budget solves a linear equation.

    With loss E + sum_j exp(a_j - e_j x_j) and sum_j w_j x_j = s, stationarity is e_j exp(a_j - e_j x_j) = m w_j, so
    x_j = (a_j + log(e_j / w_j) - log m) / e_j.
    Source: for N and D with weight 1 this is Hoffmann et al. 2022, arXiv:2203.15556, eq. 4.
    """
    names = [parameter.name for parameter in law.form.parameters]
    centre = dict(zip(law.form.axes, law.optimum.centre, strict=True))
    exponents, heights = {}, {}
    for axis, term in terms.items():
        exponents[axis] = np.maximum(theta[:, [names.index(term.exponent)]], SMALLEST_EXPONENT)
        heights[axis] = theta[:, [names.index(term.coefficient)]] + np.log(exponents[axis] / weights[axis])
    total = log_budget - sum(weights[axis] * centre[axis] for axis in terms)
    at_zero = sum(weights[axis] * heights[axis] / exponents[axis] for axis in terms)
    multiplier = (at_zero - total) / sum(weights[axis] / exponents[axis] for axis in terms)
    return {axis: (heights[axis] - multiplier) / exponents[axis] + centre[axis] for axis in terms}


def search(
    law: Law, theta: FloatArray, weights: Mapping[str, float], log_budget: FloatArray, fixed: Mapping[str, float]
) -> dict[str, FloatArray]:
    """The optimum of any form over two axes: the best of a grid along the line of equal budget, then finer grids.

    Accurate to about 1e-6 in log size: a minimum is flat, so rounding of the loss hides it below that.
    """
    first, second = weights
    low, high = _line(law, weights, log_budget)
    best: FloatArray = np.empty((len(theta), len(log_budget)))
    for row in range(len(theta)):
        left, right = low, high
        for count in (GRID, *[ZOOM] * ROUNDS):
            line = np.linspace(left, right, count)
            logs = {
                first: line.ravel()[None],
                second: ((log_budget - weights[first] * line) / weights[second]).ravel()[None],
                **{axis: np.log(np.array([[size]])) for axis, size in fixed.items()},
            }
            loss = predict_each(law, theta[[row]], logs)[0].reshape(line.shape)
            place = line[loss.argmin(0), np.arange(len(log_budget))]
            step = (right - left) / (count - 1)
            left, right = np.maximum(place - step, low), np.minimum(place + step, high)
        best[row] = place
    return {first: best, second: (log_budget - weights[first] * best) / weights[second]}


def _power_terms(form: Form, axes: tuple[str, ...]) -> dict[str, Power]:
    """The power term of each axis, empty unless each has exactly one and no other term reads it."""
    terms = form.terms if isinstance(form, SumOfTerms) else ()
    of_axis = {axis: [term for term in terms if axis in term.axes] for axis in axes}
    found = {axis: own[0] for axis, own in of_axis.items() if len(own) == 1 and isinstance(own[0], Power)}
    return {axis: term for axis, term in found.items() if isinstance(term, Power)} if len(found) == len(axes) else {}


def _ends(law: Law, axis: str) -> tuple[float, float]:
    logs = np.log(law.table.axis(axis))
    return float(logs.min() - np.log(REACH)), float(logs.max() + np.log(REACH))


def _line(law: Law, weights: Mapping[str, float], log_budget: FloatArray) -> tuple[FloatArray, FloatArray]:
    """(Q,) ends of the first axis on the line of equal budget, both axes within reach."""
    first, second = weights
    (low, high), (other_low, other_high) = _ends(law, first), _ends(law, second)
    left = np.maximum(low, (log_budget - weights[second] * other_high) / weights[first])
    return left, np.minimum(high, (log_budget - weights[second] * other_low) / weights[first])


def _within_reach(
    law: Law, logs: dict[str, FloatArray], weights: Mapping[str, float], log_budget: FloatArray
) -> dict[str, FloatArray]:
    if len(weights) != 2:
        return {axis: np.clip(values, *_ends(law, axis)) for axis, values in logs.items()}
    first, second = weights
    own = np.clip(logs[first], *_line(law, weights, log_budget))
    return {first: own, second: (log_budget - weights[first] * own) / weights[second]}


def _require_within_reach(law: Law, weights: Mapping[str, float], log_budget: FloatArray) -> None:
    ends = {axis: _ends(law, axis) for axis in weights}
    low, high = (sum(weights[axis] * ends[axis][side] for axis in weights) for side in (0, 1))
    if not ((log_budget > low) & (log_budget < high)).all():
        raise ConfigError(
            f"a budget lies more than a factor {REACH:g} in every size beyond the runs of {law.table.source}; give "
            "budgets in the unit of the table's own columns, nearer to them"
        )
