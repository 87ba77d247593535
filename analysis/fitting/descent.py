"""Minimise the objective for many bootstrap replicates at once: Levenberg-Marquardt on reweighted least squares.

Legend of shapes: R replicates, P parameters, M runs, K further residuals.
"""

from collections.abc import Callable
from dataclasses import dataclass, fields

import numpy as np

from analysis.arrays import BoolArray, FloatArray, IntArray
from analysis.fitting.objective import Objective, Problem

Pull = Callable[[FloatArray, IntArray], tuple[FloatArray, FloatArray]]
"""Further residuals (R, K) and their derivatives (R, K, P) for theta (R, P) of the replicates of these numbers (R,)."""

MAX_ITERATIONS = 400
CHUNK_NUMBERS = 400_000  # numbers in one Jacobian, so that it stays in the processor's cache
DONE_DECREASE = 1e-11  # relative decrease of the objective below which a step counts as idle
DONE_STEP = 1e-9  # a refused step shorter than this is within rounding
IDLE_STEPS = 3
LARGEST_DAMPING = 1e9


@dataclass(frozen=True)
class Minimum:
    """Where the descent ended: theta (R, P), the objective (R,), the relative projected gradient (R,)."""

    theta: FloatArray
    objective: FloatArray
    gradient: FloatArray


def minimize(
    problem: Problem,
    objective: Objective,
    counts: FloatArray,
    theta: FloatArray,
    *,
    pull: Pull | None = None,
    enough: float = 0.0,
    iterations: int = MAX_ITERATIONS,
) -> Minimum:
    """Descend from each theta to the minimum nearby, each replicate with its own counts of the runs.

    Args:
        counts: (R, M) how often each run counts in each replicate.
        theta: (R, P) starts, within the bounds.
        pull: residuals half of whose squares are added to the objective, to draw a replicate to where it is wanted.
        enough: decrease of the objective below which a step counts as idle, where less than rounding will do.
        iterations: after this number a replicate is left where it is; its gradient shows how far it came.
    """
    num_replicates, num_parameters = theta.shape
    rows = max(1, CHUNK_NUMBERS // (num_parameters * counts.shape[1]))
    parts, numbers = [], np.arange(num_replicates)
    for first in range(0, num_replicates, rows):
        part = slice(first, first + rows)
        start = np.clip(theta[part], problem.lower, problem.upper)
        for sharper in objective.path():
            end = _descend(_Task(problem, sharper, pull, enough), counts[part], start, numbers[part], iterations)
            start = end.theta
        parts.append(end)
    return Minimum(
        np.concatenate([part.theta for part in parts]),
        np.concatenate([part.objective for part in parts]),
        np.concatenate([part.gradient for part in parts]),
    )


@dataclass(frozen=True)
class _Task:
    """What is minimised, and the decrease that counts as none."""

    problem: Problem
    objective: Objective
    pull: Pull | None
    enough: float

    def at(self, theta: FloatArray, counts: FloatArray, numbers: IntArray) -> "_Place":
        """The objective and its parts at theta (R, P)."""
        residual, jacobian = self.problem.residuals(theta)
        value = np.einsum("rm,rm->r", counts, self.objective.rho(residual))
        pulled, pulled_slope = np.zeros((len(theta), 0)), np.zeros((len(theta), 0, theta.shape[1]))
        if self.pull:
            pulled, pulled_slope = self.pull(theta, numbers)
            value += 0.5 * (pulled**2).sum(1)
        return _Place(theta, value, residual, jacobian, pulled, pulled_slope)


class _Rows:
    """A dataclass of arrays with a row a replicate."""

    def keep(self, mask: BoolArray) -> None:
        """Drop the other rows."""
        for field in fields(self):  # type: ignore[arg-type]
            setattr(self, field.name, getattr(self, field.name)[mask])


@dataclass
class _Place(_Rows):
    """theta (R, P), objective (R,), residuals (R, M) and those of the pull (R, K), with derivatives by theta."""

    theta: FloatArray
    value: FloatArray
    residual: FloatArray
    jacobian: FloatArray
    pulled: FloatArray
    pulled_slope: FloatArray

    def move(self, better: BoolArray, to: "_Place") -> None:
        """Take the rows that are better there."""
        for field in fields(self):
            getattr(self, field.name)[better] = getattr(to, field.name)[better]


@dataclass
class _Control(_Rows):
    """Of each replicate still under way: its place among all, its runs, and what steers its steps."""

    row: IntArray
    counts: FloatArray
    damping: FloatArray
    blend: FloatArray
    idle: IntArray


def _descend(task: _Task, counts: FloatArray, start: FloatArray, numbers: IntArray, iterations: int) -> Minimum:
    """Levenberg-Marquardt for one chunk; replicates that are done leave the batch."""
    count, lower, upper = len(start), task.problem.lower, task.problem.upper
    here = task.at(start.copy(), counts, numbers)
    control = _Control(np.arange(count), counts, np.full(count, 1e-3), np.ones(count), np.zeros(count, dtype=int))
    final = Minimum(here.theta.copy(), here.value.copy(), np.full(count, np.inf))
    for _ in range(iterations):
        step, gradient = _step(task, here, control)
        trial = task.at(np.clip(here.theta + step, lower, upper), control.counts, numbers[control.row])
        better = trial.value < here.value
        decrease = np.where(better, here.value - trial.value, 0.0)
        least = np.maximum(DONE_DECREASE * here.value, task.enough)
        small = np.where(better, decrease <= least, np.abs(step).max(1) < DONE_STEP)
        here.move(better, trial)
        control.idle = np.where(small, control.idle + 1, np.where(better, 0, control.idle))
        control.damping = np.clip(np.where(better, control.damping / 5, control.damping * 4), 1e-12, None)
        control.blend = np.clip(np.where(better, control.blend / 3, control.blend * 10), 1e-6, 1.0)
        done = (control.idle >= IDLE_STEPS) | (control.damping > LARGEST_DAMPING) | (here.value <= 0)
        if done.any():
            _note(final, control.row, done, here, gradient)
            here.keep(~done)
            control.keep(~done)
            gradient = gradient[~done]
        if not len(control.row):
            break
    else:
        _note(final, control.row, np.ones(len(control.row), dtype=bool), here, gradient)
    return final


def _note(final: Minimum, row: IntArray, which: BoolArray, here: _Place, gradient: FloatArray) -> None:
    """Write where these replicates are into the result."""
    final.theta[row[which]], final.objective[row[which]] = here.theta[which], here.value[which]
    final.gradient[row[which]] = gradient[which]


def _step(task: _Task, here: _Place, control: _Control) -> tuple[FloatArray, FloatArray]:
    """The damped step (R, P) and the relative size of the projected gradient (R,).

    Reweighting alone creeps where delta is small against the scatter; Newton's curvature counts only the runs within
    delta. `blend` goes from the first (1) to the second (0) as long as steps succeed.
    """
    counts, jacobian, theta = control.counts, here.jacobian, here.theta
    weight = task.objective.weight(here.residual)
    force = counts * weight * here.residual
    gradient = np.einsum("rpm,rm->rp", jacobian, force)
    stiff = counts * np.where(weight < 1.0, control.blend[:, None] * weight, weight)
    curvature = (jacobian * stiff[:, None]) @ jacobian.transpose(0, 2, 1)
    steady = np.einsum("rpm,rm->rp", jacobian**2, counts * weight)
    if task.pull:
        gradient += np.einsum("rkp,rk->rp", here.pulled_slope, here.pulled)
        curvature += np.einsum("rkp,rkq->rpq", here.pulled_slope, here.pulled_slope)
    free = ~((theta <= task.problem.lower) & (gradient > 0) | (theta >= task.problem.upper) & (gradient < 0))
    relative = np.abs(gradient) / (
        np.sqrt(np.einsum("rpm,rm->rp", jacobian**2, counts)) * _length(counts, force) + 1e-300
    )
    gradient = np.where(free, gradient, 0.0)
    curvature *= free[:, :, None] & free[:, None, :]
    ridge = control.damping[:, None] * steady + 1e-14 * steady.max(1, keepdims=True) + 1e-200
    diagonal = np.arange(theta.shape[1])
    curvature[:, diagonal, diagonal] = np.where(free, curvature[:, diagonal, diagonal] + ridge, 1.0)
    step = np.asarray(-np.linalg.solve(curvature, gradient[:, :, None])[:, :, 0], dtype=np.float64)
    return step, np.where(free, relative, 0.0).max(1)


def _length(counts: FloatArray, force: FloatArray) -> FloatArray:
    """(R, 1) length of the weighted residuals, for a gradient without units."""
    length: FloatArray = np.sqrt(np.einsum("rm,rm->r", force, force / np.maximum(counts, 1.0)))[:, None]
    return length
