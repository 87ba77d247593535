"""The best parameters for one table: many starts, one winner, and whether it can be trusted."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from analysis.arrays import FloatArray
from analysis.fitting.descent import minimize
from analysis.fitting.objective import (
    LITERATURE_DELTA,
    SMALL_TABLE,
    Objective,
    Problem,
    choose_objective,
    delta_for_residuals,
    make_problem,
)
from analysis.forms import Form
from analysis.tables import RunTable, distinct_sizes
from scaling.errors import DataError

NUM_STARTS = 12
SMALL_GRADIENT = 1e-5
"""Relative projected gradient (cosine between residuals and a column of the Jacobian) of a minimum."""
SAME_OBJECTIVE = 1e-6
"""Relative difference below which two starts ended in the same minimum."""
EXACT_FIT = 1e-18
"""Objective a run below which the runs lie on the law."""


@dataclass(frozen=True)
class Optimum:
    """The minimum over all starts.

    Attributes:
        theta: (P,) in centred, scaled units.
        centre: (A,) subtracted means of the log axes.
        scale: the loss's geometric mean.
        value: sum of the objective.
        starts: number of starts.
        starts_agreeing: how many of them ended in this minimum.
        gradient: relative projected gradient at theta.
        converged: the gradient is small (or the fit exact), a second descent from beside theta ends no lower, and at
            least two starts ended in this minimum.
        at_bound: names of parameters that lie on the edge of their box.
        condition_number: of J^T J, the columns of J scaled to unit length.
        candidates: (1 + S, P) theta and the start values, from which refits may begin.
    """

    problem: Problem
    objective: Objective
    theta: FloatArray
    centre: FloatArray
    scale: float
    value: float
    starts: int
    starts_agreeing: int
    gradient: float
    converged: bool
    at_bound: tuple[str, ...]
    condition_number: float
    candidates: FloatArray


def find_optimum(table: RunTable, form: Form, objective: str, delta: float | None) -> Optimum:
    """Fit `form` to the table from NUM_STARTS starts.

    Args:
        objective: huber, lad or least_squares.
        delta: Huber's delta in log loss; None as for `settle_objective`.
    Raises:
        ConfigError: on an unknown objective or a delta that is not positive.
        DataError: if the runs are too few, or all of one size along an axis of the form.
    """
    choose_objective(objective, delta)
    require_enough(table, form)
    problem, centre, scale = make_problem(table, form)
    candidates = starts_of(problem)
    chosen = settle_objective(objective, delta, [problem])
    starts = spread(candidates, NUM_STARTS)
    counts = np.ones((len(starts), len(table)))
    ends = minimize(problem, chosen, counts, starts)
    best = int(ends.objective.argmin())
    theta, value, gradient = ends.theta[best], float(ends.objective[best]), float(ends.gradient[best])
    agreeing = int((ends.objective <= value * (1 + SAME_OBJECTIVE) + 1e-20).sum())
    again = minimize(problem, chosen, counts[:1], theta[None] + 1e-3)
    no_better = float(again.objective[0]) >= value * (1 - SAME_OBJECTIVE) - 1e-20
    small = gradient < SMALL_GRADIENT or value < EXACT_FIT * len(table)
    return Optimum(
        problem=problem,
        objective=chosen,
        theta=theta,
        centre=centre,
        scale=scale,
        value=value,
        starts=len(starts),
        starts_agreeing=agreeing,
        gradient=gradient,
        converged=small and no_better and agreeing >= 2,
        at_bound=names_at_bound(problem, theta[None])[0],
        condition_number=_condition_number(problem, theta[None]),
        candidates=np.concatenate([theta[None], candidates]),
    )


def settle_objective(name: str, delta: float | None, problems: Sequence[Problem]) -> Objective:
    """The objective called `name`, the same for all problems, which are of the same runs.

    Huber's delta, if it is None, is the literature's 1e-3 for SMALL_TABLE runs or more. For fewer it follows from the
    scatter about the form that fits best, after a first fit close to least absolute deviations: that shows the scatter
    whatever a few runs do.

    Raises:
        ConfigError: on an unknown objective or a delta that is not positive.
    """
    chosen = choose_objective(name, delta)
    if name != "huber" or delta is not None or len(problems[0].log_loss) >= SMALL_TABLE:
        return chosen
    first, deltas = Objective("huber", LITERATURE_DELTA), []
    for problem in problems:
        starts = spread(starts_of(problem), NUM_STARTS)
        ends = minimize(problem, first, np.ones((len(starts), len(problem.log_loss))), starts)
        residual = problem.residuals(ends.theta[[int(ends.objective.argmin())]])[0][0]
        deltas.append(delta_for_residuals(residual, len(problem.form.parameters)))
    return Objective("huber", min(deltas))


def starts_of(problem: Problem) -> FloatArray:
    """(S, P) start values of a problem's form for its runs, best first."""
    return problem.form.starts(problem.logs, np.exp(problem.log_loss), np.ones(len(problem.log_loss)))


def spread(candidates: FloatArray, count: int) -> FloatArray:
    """The best starts and, from the rest, evenly spread ones: the near valley and the far corners."""
    near, rest = candidates[: count // 2], candidates[count // 2 :]
    far = rest[np.linspace(0, len(rest) - 1, count - len(near)).astype(int)]
    return np.concatenate([near, far])


def require_enough(table: RunTable, form: Form) -> None:
    """Raise DataError if the table cannot determine the form, naming what is missing."""
    needed = len(form.parameters) + 1
    if len(table) < needed:
        first = f"; the first: {table.excluded[0].run}: {table.excluded[0].reason}" if table.excluded else ""
        raise DataError(
            f"form {form.name} has {len(form.parameters)} parameters and needs at least {needed} runs; {len(table)} of "
            f"{table.source} can be fitted ({len(table.excluded)} excluded{first})"
        )
    if len(distinct_sizes(table.loss)) < 2:
        raise DataError(
            f"all {len(table)} runs have the same {table.columns['loss']}, {table.loss[0]:g}: they determine no "
            f"parameter of form {form.name}"
        )
    for axis in form.axes:
        sizes = distinct_sizes(table.axis(axis))
        if len(sizes) < 2:
            vary = [name for name in form.axes if len(distinct_sizes(table.axis(name))) > 1]
            alone = f". Fit along {vary[0]} alone: --form power_floor --axis {vary[0]}" if vary else ""
            raise DataError(
                f"form {form.name} needs at least two sizes of {table.columns[axis]}; all {len(table)} runs have "
                f"{sizes[0]:g}{alone}"
            )


def bound_mask(problem: Problem, theta: FloatArray) -> np.ndarray:
    """(R, P) whether a parameter lies on its bound: it is the box that stopped it, not the data."""
    margin = 1e-6
    with np.errstate(invalid="ignore"):
        mask: np.ndarray = (theta <= problem.lower + margin) | (theta >= problem.upper - margin)
    return mask


def names_at_bound(problem: Problem, theta: FloatArray) -> list[tuple[str, ...]]:
    """For each theta the names of the parameters on their bounds."""
    names = [parameter.name for parameter in problem.form.parameters]
    return [tuple(n for n, hit in zip(names, row, strict=True) if hit) for row in bound_mask(problem, theta)]


def _condition_number(problem: Problem, theta: FloatArray) -> float:
    jacobian = problem.residuals(theta)[1][0]
    length = np.linalg.norm(jacobian, axis=1, keepdims=True)
    return float(np.linalg.cond(jacobian / np.maximum(length, 1e-300)) ** 2)
