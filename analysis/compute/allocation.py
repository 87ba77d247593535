"""Numbers that follow from a law, with intervals; and how a budget is best divided among the law's axes.

Legend of shapes: R thetas, P parameters, J axes that share the budget, A axes of the form, Q budgets.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from analysis.arrays import FloatArray, IntArray
from analysis.fitting import Law, interval
from analysis.forms import Form, Power, SumOfTerms
from scaling.errors import ConfigError

REACH = 1e9
"""Sizes are sought within this factor of the sampled ones; an answer at its end means: farther than any study goes."""
SMALLEST_EXPONENT = 1e-9
ROUNDS = 60
"""Steps of a root: a straight line takes one."""
SMALLEST_ODDS = 1e-10
"""Log odds, or a log ratio, below which a root is found."""
SLOPE_STEP = 1e-3  # in log size; of a power the differences' error is a factor, and nearly the same along all axes
TINY = 1e-300
TOGETHER = 16  # thetas that are evaluated at once at places of their own
LARGEST_GRADIENT = 4_000_000  # numbers; a form returns derivatives with the loss, asked for or not


Each = Callable[[FloatArray, IntArray], FloatArray]
"""Of each theta (R, P) the quantity of that number (R,): (R,)."""


@dataclass(frozen=True)
class Derived:
    """Numbers (any shape) derived from a law and their 95 % interval (2, ...), None where the law has none.

    The intervals are those of the law's parameters and bands (`analysis.fitting.intervals`): an end that the runs do
    not bound is infinite, or 0 where nothing less is possible.
    """

    value: FloatArray
    ci95: FloatArray | None

    @staticmethod
    def of(law: Law, function: Each, count: int) -> "Derived":
        """Of `count` numbers; give those that are positive and span decades as logarithms, and `map` them back."""
        best = np.repeat(law.optimum.theta[None], count, axis=0)
        value = function(best, np.arange(count))
        if not law.uncertainty.is_known:
            return Derived(value, None)
        found = law.uncertainty.of_each(function, count)
        return Derived(value, np.array([[one.low for one in found], [one.high for one in found]]))

    @staticmethod
    def of_draws(draws: FloatArray) -> "Derived":
        """From the number itself and, below it, draws from its distribution, (1 + draws, ...)."""
        return Derived(draws[0], interval(draws[1:]))

    def map(self, function: Callable[[FloatArray], FloatArray]) -> "Derived":
        """Through a function that only rises or only falls."""
        with np.errstate(over="ignore"):
            ends = None if self.ci95 is None else np.sort(function(self.ci95), axis=0)
            return Derived(np.asarray(function(self.value)), ends)

    def times(self, factor: float) -> "Derived":
        """In another unit."""
        return self.map(lambda value: factor * value)

    def at(self, i: int) -> "Derived":
        """One of the numbers."""
        return Derived(np.asarray(self.value[i]), None if self.ci95 is None else self.ci95[:, i])


def predict_each(law: Law, theta: FloatArray, logs: Mapping[str, FloatArray]) -> FloatArray:
    """Loss (R, Q) of each theta at its own log sizes, an (R, Q) or broadcastable array for each axis of the form."""
    rows = np.broadcast_arrays(*[np.atleast_2d(logs[axis]) for axis in law.form.axes])
    centred = np.stack(rows) - law.optimum.centre[:, None, None]
    num_axes, num_own, num_places = centred.shape
    if num_own == 1:
        rows_at_once = max(1, LARGEST_GRADIENT // (theta.shape[1] * num_places))
        parts = [theta[first : first + rows_at_once] for first in range(0, len(theta), rows_at_once)]
        return np.concatenate([law.form.evaluate(part, centred[:, 0])[0] for part in parts]) * law.optimum.scale
    # A form takes all thetas to the same places; of a few thetas at the places of all of them the diagonal is kept.
    loss = np.empty((len(theta), num_places))
    for first in range(0, len(theta), TOGETHER):
        part = slice(first, first + TOGETHER)
        own = centred[:, part]
        count = own.shape[1]
        each = law.form.evaluate(theta[part], own.reshape(num_axes, -1))[0].reshape(count, count, num_places)
        loss[part] = each[np.arange(count), np.arange(count)]
    return loss * law.optimum.scale


def slopes_along(
    law: Law, theta: FloatArray, axes: Sequence[str], logs: Mapping[str, FloatArray]
) -> dict[str, FloatArray]:
    """d log L / d log axis (R, Q) for each axis, at log sizes as `predict_each` takes them, by central differences."""
    places = dict(zip(logs, np.broadcast_arrays(*[np.atleast_2d(values) for values in logs.values()]), strict=True))
    moves = [{axis: sign * SLOPE_STEP} for axis in axes for sign in (1, -1)]
    moved = {name: np.hstack([values + move.get(name, 0.0) for move in moves]) for name, values in places.items()}
    log_loss = np.split(np.log(predict_each(law, theta, moved)), len(moves), axis=1)
    differences = zip(axes, log_loss[::2], log_loss[1::2], strict=True)
    return {axis: np.asarray((up - down) / (2 * SLOPE_STEP)) for axis, up, down in differences}


def falling_root(function: Callable[[FloatArray], FloatArray], low: FloatArray, high: FloatArray) -> FloatArray:
    """Where a falling function (R, Q) -> (R, Q) is zero between `low` and `high` (R, Q); the nearer end if nowhere.

    A straight line takes one step. Source: the Illinois rule, Dowell and Jarratt 1971, doi:10.1007/BF01934364.
    """
    left, right = low.copy(), high.copy()
    above, below = function(left), function(right)
    start, end = above <= 0, below >= 0
    place, last = left, np.zeros(left.shape)
    for _ in range(ROUNDS):
        share = above / np.where(above - below > 0, above - below, 1.0)
        place = left + np.clip(share, 0.0, 1.0) * (right - left)
        value = function(place)
        if (np.abs(value) < SMALLEST_ODDS)[~(start | end)].all():
            break
        up = value > 0
        # An end that stays twice is weighed by half, or the other one would creep.
        below = np.where(up, np.where(last > 0, below / 2, below), value)
        above = np.where(up, value, np.where(last < 0, above / 2, above))
        left, right, last = np.where(up, place, left), np.where(up, right, place), np.where(up, 1.0, -1.0)
    return np.where(start, low, np.where(end, high, place))


def allocate(
    law: Law, theta: FloatArray, weights: Mapping[str, float], log_budget: FloatArray, fixed: Mapping[str, float]
) -> dict[str, FloatArray]:
    """Log sizes (R, Q) of least loss with sum over axes of weight * log size = log_budget, (Q,) or (R, Q).

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
    """The optimum of any form over two axes: where more of the budget lowers the loss by as much through either.

    The logarithm of the ratio of the two gains is a straight line in log size wherever the axes enter as powers.
    """
    first, second = weights
    others = {axis: np.log(np.array([[size]])) for axis, size in fixed.items()}
    shape = (len(theta), np.atleast_2d(log_budget).shape[1])

    def along(place: FloatArray) -> dict[str, FloatArray]:
        return {first: place, second: (log_budget - weights[first] * place) / weights[second]}

    def odds(place: FloatArray) -> FloatArray:
        slopes = slopes_along(law, theta, (first, second), {**along(place), **others})
        gains = [np.log(np.maximum(-slopes[axis] / weights[axis], TINY)) for axis in (first, second)]
        return np.asarray(gains[0] - gains[1])

    low, high = (np.broadcast_to(end, shape) for end in _line(law, weights, log_budget))
    return along(falling_root(odds, low, high))


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
            f"a budget lies more than a factor {REACH:g} in every size beyond the runs of {law.table.source}: "
            "FLOPs must be in the unit of its own sizes, C = k N D"
        )
