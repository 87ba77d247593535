"""The best parameters for one table: many starts, one winner, and whether it can be trusted."""

from dataclasses import dataclass

import numpy as np

from analysis.fitting.minimize import Problem, minimize
from analysis.fitting.objective import LITERATURE_DELTA, SMALL_TABLE, Objective, choose_objective, delta_for_scatter
from analysis.forms.registry import Form
from analysis.forms.terms import FloatArray
from analysis.tables import RunTable, distinct_sizes
from scaling.errors import DataError

NUM_STARTS = 12
SMALL_GRADIENT = 1e-5
"""Relative projected gradient (cosine between residuals and a column of the Jacobian) of a minimum."""
SAME_OBJECTIVE = 1e-6
"""Relative difference below which two starts ended in the same minimum."""


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
        delta: Huber's delta in log loss; if None the literature's 1e-3 for 100 runs or more, else from the scatter.
    Raises:
        ConfigError: on an unknown objective or a delta that is not positive.
        DataError: if the runs are too few, or all of one size along an axis of the form.
    """
    chosen = choose_objective(objective, delta)
    require_enough(table, form)
    logs = np.log(np.stack([table.axis(axis) for axis in form.axes]))
    centre = np.where([axis in form.uncentred for axis in form.axes], 0.0, logs.mean(1))
    scale = float(np.exp(np.log(table.loss).mean()))
    problem = Problem(form, logs - centre[:, None], np.log(table.loss / scale))
    candidates = form.starts(problem.logs, table.loss / scale, np.ones(len(table)))
    starts = _spread(candidates)
    counts = np.ones((len(starts), len(table)))
    if objective == "huber" and delta is None and len(table) < SMALL_TABLE:
        first = minimize(problem, Objective("huber", LITERATURE_DELTA), counts, starts)
        residual = problem.residuals(first.theta[[int(first.objective.argmin())]])[0][0]
        chosen = Objective("huber", delta_for_scatter(residual, len(form.parameters)))
    ends = minimize(problem, chosen, counts, starts)
    best = int(ends.objective.argmin())
    agreeing = int((ends.objective <= ends.objective[best] * (1 + SAME_OBJECTIVE) + 1e-20).sum())
    again = minimize(problem, chosen, counts[:1], ends.theta[[best]] + 1e-3)
    no_better = float(again.objective[0]) >= ends.objective[best] * (1 - SAME_OBJECTIVE) - 1e-20
    small = float(ends.gradient[best]) < SMALL_GRADIENT or float(ends.objective[best]) < 1e-18 * len(table)
    return Optimum(
        problem,
        chosen,
        ends.theta[best],
        centre,
        scale,
        float(ends.objective[best]),
        len(starts),
        agreeing,
        float(ends.gradient[best]),
        small and no_better and agreeing >= 2,
        names_at_bound(problem, ends.theta[[best]])[0],
        _condition_number(problem, ends.theta[[best]]),
        np.concatenate([ends.theta[[best]], candidates]),
    )


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


def _spread(candidates: FloatArray) -> FloatArray:
    """The best starts and, from the rest, evenly spread ones: the near valley and the far corners."""
    near = candidates[: NUM_STARTS // 2]
    rest = candidates[NUM_STARTS // 2 :]
    far = rest[np.linspace(0, len(rest) - 1, NUM_STARTS - len(near)).astype(int)]
    return np.concatenate([near, far])


def _condition_number(problem: Problem, theta: FloatArray) -> float:
    jacobian = problem.residuals(theta)[1][0]
    length = np.linalg.norm(jacobian, axis=1, keepdims=True)
    return float(np.linalg.cond(jacobian / np.maximum(length, 1e-300)) ** 2)
