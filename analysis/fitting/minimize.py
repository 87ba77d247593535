"""Minimise the objective for many bootstrap replicates at once: Levenberg-Marquardt on reweighted least squares.

Legend of shapes: R replicates, P parameters, A axes, M runs.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from analysis.fitting.objective import Objective
from analysis.forms.registry import Form
from analysis.forms.terms import FloatArray

Pull = Callable[[FloatArray, NDArray[np.intp]], tuple[FloatArray, FloatArray]]
"""Further residuals (R, K) and their derivatives (R, K, P) for theta (R, P) of the replicates of these numbers (R,)."""

MAX_ITERATIONS = 400
CHUNK_NUMBERS = 400_000  # numbers in one Jacobian, so that it stays in the processor's cache
DONE_DECREASE = 1e-11  # relative decrease of the objective below which a step counts as idle
DONE_STEP = 1e-9  # a refused step shorter than this cannot be told from rounding
IDLE_STEPS = 3
LARGEST_DAMPING = 1e9


@dataclass(frozen=True)
class Problem:
    """A form to be fitted to runs: centred logs (A, M) and log of the scaled loss (M,)."""

    form: Form
    logs: FloatArray
    log_loss: FloatArray

    @property
    def lower(self) -> FloatArray:
        """(P,) lower bounds."""
        return np.array([parameter.lower for parameter in self.form.parameters])

    @property
    def upper(self) -> FloatArray:
        """(P,) upper bounds."""
        return np.array([parameter.upper for parameter in self.form.parameters])

    def residuals(self, theta: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Residuals of log loss (R, M), prediction minus observation, and their derivatives (R, P, M)."""
        value, gradient = self.form.evaluate(theta, self.logs)
        value = np.maximum(value, 1e-300)
        gradient /= value[:, None]
        return np.log(value) - self.log_loss, gradient

    def costs(self, theta: FloatArray, objective: Objective) -> FloatArray:
        """Cost of each run (R, M) for each theta."""
        return objective.rho(self.residuals(theta)[0])


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
        iterations: after so many a replicate is left where it is; its gradient tells.
    """
    num_replicates, num_parameters = theta.shape
    rows = max(1, CHUNK_NUMBERS // (num_parameters * counts.shape[1]))
    parts, numbers = [], np.arange(num_replicates)
    for first in range(0, num_replicates, rows):
        part = slice(first, first + rows)
        start = np.clip(theta[part], problem.lower, problem.upper)
        for sharper in objective.path():
            end = _descend(problem, sharper, counts[part], start, numbers[part], pull, enough, iterations)
            start = end.theta
        parts.append(end)
    return Minimum(
        np.concatenate([part.theta for part in parts]),
        np.concatenate([part.objective for part in parts]),
        np.concatenate([part.gradient for part in parts]),
    )


def _descend(
    problem: Problem,
    objective: Objective,
    counts: FloatArray,
    start: FloatArray,
    numbers: NDArray[np.intp],
    pull: Pull | None,
    enough: float,
    iterations: int,
) -> Minimum:
    """Levenberg-Marquardt for one chunk; replicates that are done leave the batch."""
    lower, upper = problem.lower, problem.upper
    theta = start.copy()
    residual, jacobian = problem.residuals(theta)
    value = np.einsum("rm,rm->r", counts, objective.rho(residual))
    pulled = pull(theta, numbers) if pull else None
    if pulled:
        value += 0.5 * (pulled[0] ** 2).sum(1)
    final_theta, final_value, final_gradient = theta.copy(), value.copy(), np.full(len(theta), np.inf)
    rows = np.arange(len(theta))
    damping = np.full(len(theta), 1e-3)
    blend = np.ones(len(theta))
    idle = np.zeros(len(theta), dtype=int)
    for _ in range(iterations):
        step, gradient = _step(objective, counts, theta, residual, jacobian, pulled, damping, blend, lower, upper)
        trial = np.clip(theta + step, lower, upper)
        trial_residual, trial_jacobian = problem.residuals(trial)
        trial_value = np.einsum("rm,rm->r", counts, objective.rho(trial_residual))
        trial_pulled = pull(trial, numbers[rows]) if pull else None
        if trial_pulled:
            trial_value += 0.5 * (trial_pulled[0] ** 2).sum(1)
        better = trial_value < value
        decrease = np.where(better, value - trial_value, 0.0)
        small = np.where(better, decrease <= np.maximum(DONE_DECREASE * value, enough), np.abs(step).max(1) < DONE_STEP)
        idle = np.where(small, idle + 1, np.where(better, 0, idle))
        theta[better], value[better] = trial[better], trial_value[better]
        residual[better], jacobian[better] = trial_residual[better], trial_jacobian[better]
        if pulled and trial_pulled:
            pulled[0][better], pulled[1][better] = trial_pulled[0][better], trial_pulled[1][better]
        damping = np.clip(np.where(better, damping / 5, damping * 4), 1e-12, None)
        blend = np.clip(np.where(better, blend / 3, blend * 10), 1e-6, 1.0)
        done = (idle >= IDLE_STEPS) | (damping > LARGEST_DAMPING) | (value <= 0)
        if done.any():
            final_theta[rows[done]], final_value[rows[done]] = theta[done], value[done]
            final_gradient[rows[done]] = gradient[done]
            keep = ~done
            rows, theta, value, residual, jacobian = (
                rows[keep],
                theta[keep],
                value[keep],
                residual[keep],
                jacobian[keep],
            )
            pulled = (pulled[0][keep], pulled[1][keep]) if pulled else None
            counts, damping, blend, idle, gradient = (
                counts[keep],
                damping[keep],
                blend[keep],
                idle[keep],
                gradient[keep],
            )
        if not len(rows):
            break
    else:
        final_theta[rows], final_value[rows], final_gradient[rows] = theta, value, gradient
    return Minimum(final_theta, final_value, final_gradient)


def _step(
    objective: Objective,
    counts: FloatArray,
    theta: FloatArray,
    residual: FloatArray,
    jacobian: FloatArray,
    pulled: tuple[FloatArray, FloatArray] | None,
    damping: FloatArray,
    blend: FloatArray,
    lower: FloatArray,
    upper: FloatArray,
) -> tuple[FloatArray, FloatArray]:
    """The damped step (R, P) and the relative size of the projected gradient (R,).

    Reweighting alone creeps where delta is small against the scatter; Newton's curvature counts only the runs within
    delta. `blend` goes from the first (1) to the second (0) as long as steps succeed.
    """
    weight = objective.weight(residual)
    pull = counts * weight * residual
    gradient = np.einsum("rpm,rm->rp", jacobian, pull)
    stiff = counts * np.where(weight < 1.0, blend[:, None] * weight, weight)
    curvature = (jacobian * stiff[:, None]) @ jacobian.transpose(0, 2, 1)
    steady = np.einsum("rpm,rm->rp", jacobian**2, counts * weight)
    if pulled:
        gradient += np.einsum("rkp,rk->rp", pulled[1], pulled[0])
        curvature += np.einsum("rkp,rkq->rpq", pulled[1], pulled[1])
    free = ~((theta <= lower) & (gradient > 0) | (theta >= upper) & (gradient < 0))
    relative = np.abs(gradient) / (
        np.sqrt(np.einsum("rpm,rm->rp", jacobian**2, counts)) * _length(counts, pull) + 1e-300
    )
    gradient = np.where(free, gradient, 0.0)
    curvature *= free[:, :, None] & free[:, None, :]
    ridge = damping[:, None] * steady + 1e-14 * steady.max(1, keepdims=True) + 1e-200
    diagonal = np.arange(theta.shape[1])
    curvature[:, diagonal, diagonal] = np.where(free, curvature[:, diagonal, diagonal] + ridge, 1.0)
    step = np.asarray(-np.linalg.solve(curvature, gradient[:, :, None])[:, :, 0], dtype=np.float64)
    return step, np.where(free, relative, 0.0).max(1)


def _length(counts: FloatArray, pull: FloatArray) -> FloatArray:
    """(R, 1) length of the weighted residuals, for a gradient without units."""
    length: FloatArray = np.sqrt(np.einsum("rm,rm->r", pull, pull / np.maximum(counts, 1.0)))[:, None]
    return length
