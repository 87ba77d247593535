"""IsoFLOP analysis: a parabola through the runs of each budget, and how far this grid of runs misleads it.

Legend of shapes: R thetas, P parameters, G budgets, m runs of one budget.
"""

from dataclasses import dataclass, replace

import numpy as np

from analysis.arrays import FloatArray
from analysis.compute.allocation import Derived, allocate, predict_each
from analysis.compute.cost import Cost, measure_cost
from analysis.compute.optimal import WEIGHTS, repetitions
from analysis.fitting import Law
from analysis.tables import RunTable, distinct_sizes
from analysis.texts import size_text

GAP = 1.15
"""A step in C by more than this factor, in ascending order, begins another budget."""
MAX_SPREAD = 1.5
"""Runs whose FLOPs spread over more than this factor share no budget."""
MIN_SIZES = 4
"""A parabola goes exactly through three sizes; the fourth is the first that can object."""
MIN_BUDGETS = 3
DRAWS = 4000


@dataclass(frozen=True)
class Parabola:
    """Loss against log N of the runs of one budget.

    Attributes:
        budget: geometric mean of the runs' FLOPs.
        rows: (m,) which runs of the table.
        coefficients: (3,) of loss = c0 + c1 x + c2 x^2 with x = log(N / N_mean), N_mean the geometric mean.
        centre: log N_mean.
        num_params: N at the minimum.
        loss: at the minimum.
    """

    budget: float
    rows: np.ndarray
    coefficients: FloatArray
    centre: float
    num_params: Derived
    loss: float


@dataclass(frozen=True)
class LeftOut:
    """A budget without an optimum of its own, and why."""

    budget: float
    count: int
    reason: str


@dataclass(frozen=True)
class IsoFlop:
    """Approach 2 of Hoffmann et al. 2022 (sec. 3.2), and its bias on this very grid of runs.

    Attributes:
        exponent: a of N* ~ C^a through the parabolas' minima; None with fewer than MIN_BUDGETS of them.
        on_surface: what the same recipe gives on noiseless losses of the fitted surface at the same N and D.
        surface: the surface's true exponent over the same budgets.
        bias: on_surface - surface.
        size_bias: at the largest budget that has a minimum, the recipe's N* on the surface over the surface's own.
    """

    law: Law
    cost: Cost
    parabolas: tuple[Parabola, ...]
    left_out: tuple[LeftOut, ...]
    exponent: Derived | None = None
    on_surface: Derived | None = None
    surface: Derived | None = None
    bias: Derived | None = None
    size_bias: Derived | None = None


def isoflop(law: Law, *, flops_per_nd: float | None = None, seed: int = 0) -> IsoFlop:
    """Group the runs by budget, find each budget's best N by a parabola, and join them by a power law.

    The intervals of the minima and of the exponent are those of the parabolas' least-squares coefficients under
    normal scatter (Student's t; for the exponent with the freedom of all budgets); those of the bias are the
    law's.
    Source: Hoffmann et al. 2022, arXiv:2203.15556, sec. 3.2; its bias: arXiv:2603.22339.

    Raises:
        ConfigError: if flops_per_nd is not positive.
    """
    generator = np.random.default_rng(seed)
    cost = measure_cost(law.table, law.form.axes, flops_per_nd=flops_per_nd)
    parabolas, left_out, scatters = [], [], []
    for rows in group_budgets(cost.flops_of_runs):
        budget = float(np.exp(np.log(cost.flops_of_runs[rows]).mean()))
        found = _fit_budget(law.table, rows, budget, generator)
        if isinstance(found, LeftOut):
            left_out.append(found)
        else:
            parabolas.append(found[0])
            scatters.append(found[1])
    alone = IsoFlop(law, cost, tuple(parabolas), tuple(left_out))
    if len(parabolas) < MIN_BUDGETS or cost.problem:
        return alone
    log_budgets = np.log([parabola.budget for parabola in parabolas])
    # Together the budgets know the scatter better than each alone.
    freedom = sum(scatter.freedom for scatter in scatters)
    draws = [_draw_minima(scatter, freedom, generator) for scatter in scatters]
    centres = np.array([parabola.centre for parabola in parabolas])
    exponent = Derived.of_draws(_slope(log_budgets, np.stack(draws, 1) + centres))

    def beside(theta: FloatArray) -> FloatArray:
        """(R, 4) the recipe's exponent, the surface's own, the difference, that of log N* at the largest budget."""
        recipe, true = _on_surface(law, cost, parabolas, theta)
        a, own = _slope(log_budgets, recipe), _slope(log_budgets, true)
        return np.stack([a, own, a - own, recipe[:, -1] - true[:, -1]], 1)

    four = Derived.of(law, lambda theta, which: beside(theta)[np.arange(len(theta)), which], 4)
    return replace(
        alone,
        exponent=exponent,
        on_surface=four.at(0),
        surface=four.at(1),
        bias=four.at(2),
        size_bias=four.at(3).map(np.exp),
    )


def _fit_budget(
    table: RunTable, rows: np.ndarray, budget: float, generator: np.random.Generator
) -> "tuple[Parabola, _Scatter] | LeftOut":
    """The parabola through the runs of one budget, or the reason for which it has no optimum of its own."""
    if reason := _unfit(table, rows):
        return LeftOut(budget, len(rows), reason)
    coefficients, covariance = _parabola(table.num_params[rows], table.loss[rows])
    if reason := _no_minimum(table.num_params[rows], coefficients):
        return LeftOut(budget, len(rows), reason)
    log_n = np.log(table.num_params[rows])
    scatter = _Scatter(coefficients, covariance, len(rows) - 3, log_n - log_n.mean())
    minimum = np.exp(_draw_minima(scatter, scatter.freedom, generator) + log_n.mean())
    lowest = float(coefficients[0] - coefficients[1] ** 2 / (4 * coefficients[2]))
    return Parabola(budget, rows, coefficients, float(log_n.mean()), Derived.of_draws(minimum), lowest), scatter


def group_budgets(flops: FloatArray) -> list[np.ndarray]:
    """Rows of the runs of each budget, budgets ascending.

    A gap of more than a factor GAP parts two budgets; what then still spreads over more than MAX_SPREAD is parted at
    its widest gap, and so on.
    """
    order = np.argsort(flops, kind="stable")
    pieces, groups = np.split(order, np.flatnonzero(np.diff(np.log(flops[order])) > np.log(GAP)) + 1)[::-1], []
    while pieces:
        rows = pieces.pop()
        if flops[rows[-1]] <= MAX_SPREAD * flops[rows[0]]:
            groups.append(rows)
        else:
            cut = int(np.diff(np.log(flops[rows])).argmax()) + 1
            pieces += [rows[cut:], rows[:cut]]
    return groups


def _unfit(table: RunTable, rows: np.ndarray) -> str | None:
    sizes = len(distinct_sizes(table.num_params[rows]))
    return f"{sizes} different N, a parabola needs at least {MIN_SIZES}" if sizes < MIN_SIZES else None


def _no_minimum(num_params: FloatArray, coefficients: FloatArray) -> str | None:
    if coefficients[2] <= 0:
        return "the parabola has no minimum"
    log_n = np.log(num_params)
    minimum = float(_minimum(coefficients)[0]) + log_n.mean()
    if not log_n.min() < minimum < log_n.max():
        ends = f"{size_text(num_params.min())} to {size_text(num_params.max())}"
        return f"its minimum lies outside the sampled N, {ends}"
    return None


def _design(num_params: FloatArray) -> FloatArray:
    x = np.log(num_params) - np.log(num_params).mean()
    return np.stack([np.ones_like(x), x, x**2], 1)


def _parabola(num_params: FloatArray, loss: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Least-squares coefficients (3,) and their covariance (3, 3)."""
    design = _design(num_params)
    coefficients = np.asarray(np.linalg.lstsq(design, loss, rcond=None)[0], dtype=np.float64)
    variance = ((design @ coefficients - loss) ** 2).sum() / max(len(loss) - 3, 1)
    covariance: FloatArray = variance * np.linalg.inv(design.T @ design)
    return coefficients, covariance


def _minimum(coefficients: FloatArray) -> FloatArray:
    """(R,) place of the minimum for coefficients (R, 3) or (3,)."""
    rows = np.atleast_2d(coefficients)
    with np.errstate(divide="ignore", invalid="ignore"):  # equal losses have no minimum
        place: FloatArray = -rows[:, 1] / (2 * rows[:, 2])
    return place


@dataclass(frozen=True)
class _Scatter:
    """A parabola's coefficients (3,), their covariance (3, 3), the runs beyond three, and x (m,) of its runs."""

    coefficients: FloatArray
    covariance: FloatArray
    freedom: int
    x: FloatArray


def _draw_minima(scatter: _Scatter, freedom: int, generator: np.random.Generator) -> FloatArray:
    """(1 + DRAWS,) the minimum and those of parabolas drawn around it, held to the sampled range.

    A drawn parabola without a minimum counts as one at the end where it is lower.
    """
    x, left, sizes = scatter.x, *np.linalg.svd(scatter.covariance)[:2]
    spread = generator.normal(size=(DRAWS, 3)) @ (left * np.sqrt(sizes)).T
    drawn = scatter.coefficients + spread / np.sqrt(generator.chisquare(freedom, size=(DRAWS, 1)) / freedom)
    rise = drawn[:, 1] * np.ptp(x) + drawn[:, 2] * (x.max() ** 2 - x.min() ** 2)
    place = np.where(drawn[:, 2] > 0, _minimum(drawn), np.where(rise < 0, x.max(), x.min()))
    return np.concatenate([_minimum(scatter.coefficients), np.clip(place, x.min(), x.max())])


def _slope(x: FloatArray, y: FloatArray) -> FloatArray:
    """(R,) least-squares slopes of y (R, G) on x (G,)."""
    centred = x - x.mean()
    slopes: FloatArray = y @ centred / (centred @ centred)
    return slopes


def _on_surface(law: Law, cost: Cost, parabolas: list[Parabola], theta: FloatArray) -> tuple[FloatArray, FloatArray]:
    """log N* (R, G) by the recipe on noiseless losses of theta (R, P), and theta's own."""
    fixed = repetitions(law, cost)
    recipe = []
    for parabola in parabolas:
        sizes = {axis: np.log(law.table.axis(axis)[parabola.rows])[None] for axis in law.form.axes}
        loss = predict_each(law, theta, sizes)
        coefficients = loss @ np.linalg.pinv(_design(law.table.num_params[parabola.rows])).T
        recipe.append(_minimum(coefficients) + parabola.centre)
    # The surface's budget is the mean N D of these very runs, so that a k that wavers over the runs is no bias.
    own = [np.log(law.table.num_params[p.rows] * law.table.data_size[p.rows]).mean() for p in parabolas]
    minima: FloatArray = np.stack(recipe, 1)
    return minima, allocate(law, theta, WEIGHTS, np.array(own), fixed)["N"]
