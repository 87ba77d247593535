"""Compute-optimal model and data sizes: what a budget of FLOPs is best spent on.

Legend of shapes: R thetas, P parameters, Q budgets.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from analysis.arrays import FloatArray, IntArray
from analysis.compute.allocation import Derived, allocate, predict_each
from analysis.compute.cost import Cost, FlopsRule, measure_cost
from analysis.fitting import Law
from scaling.errors import ConfigError

DECADES = (-2, -1, 0, 1, 2)
"""Default budgets: this many powers of ten from the largest run's."""
WEIGHTS = {"N": 1.0, "D": 1.0}


@dataclass(frozen=True)
class Frontier:
    """The least loss for each budget of FLOPs, and the sizes that reach it.

    Attributes:
        budgets: (Q,) C.
        num_params, data_size, ratio, loss: (Q,) N*, D*, D* / N*, L*.
        gain: (Q,) share by which twice the compute would lower L*.
        exponent_n, exponent_d: a, b of N* ~ C^a, D* ~ C^b; a + b = 1.
        exponent_own: a for C ~ N^p D^q as measured over the runs (cost.powers); None where that was not measured or
            does not follow N D.
        beyond: for C, N and D by what factor (Q,) each answer lies outside the sampled range; 1 inside.
        problems: why these numbers must not be used; empty if they may.
        cautions: what limits them.
    """

    law: Law
    cost: Cost
    budgets: FloatArray
    num_params: Derived
    data_size: Derived
    ratio: Derived
    loss: Derived
    gain: Derived
    exponent_n: Derived
    exponent_d: Derived
    exponent_own: Derived | None
    beyond: dict[str, FloatArray]
    problems: tuple[str, ...]
    cautions: tuple[str, ...]


def frontier(law: Law, budgets: ArrayLike | None = None, *, flops_per_nd: float | None = None) -> Frontier:
    """Minimise the law over N and D at each budget C = k N D.

    Closed form where N and D have a power term each (Hoffmann et al. 2022, arXiv:2203.15556, eq. 4), a search on the
    line of equal compute otherwise. The intervals are the law's; k is taken as it is stated in `cost`.

    Args:
        budgets: (Q,) FLOPs; by default powers of ten around the largest run's.
        flops_per_nd: C / (N D); by default as `measure_cost` finds it.
    Raises:
        ConfigError: if the law has no axes N and D, or a budget is not positive or absurdly far from the runs.
    """
    if not {"N", "D"} <= set(law.form.axes):
        raise ConfigError(
            f"form {law.form.name} has the axes {', '.join(law.form.axes)}; a frontier divides compute between N and "
            "D: use chinchilla, or another form with both"
        )
    cost = measure_cost(law.table, law.form.axes, flops_per_nd=flops_per_nd)
    budget = default_budgets(cost.flops_of_runs) if budgets is None else _checked(budgets)
    log_nd, fixed = np.log(budget / cost.flops_per_nd), repetitions(law, cost)
    log_size = Derived.of(law, lambda theta, which: optimal_log_n(law, cost, theta, budget[which]), len(budget))
    sizes = {"N": log_size.map(np.exp), "D": log_size.map(lambda log_n: np.exp(log_nd - log_n))}
    loss, gain = _loss_and_gain(law, cost, budget)
    slope = _slope(law, WEIGHTS, float(log_nd.mean()), fixed)
    beyond = {
        "C": beyond_range(budget, cost.flops_of_runs),
        "N": beyond_range(sizes["N"].value, law.table.num_params),
        "D": beyond_range(sizes["D"].value, law.table.data_size),
    }
    return Frontier(
        law,
        cost,
        budget,
        sizes["N"],
        sizes["D"],
        log_size.map(lambda log_n: np.exp(log_nd - 2 * log_n)),
        loss,
        gain,
        slope,
        slope.map(lambda a: 1 - a),
        _slope_at_measured_powers(law, cost, fixed),
        beyond,
        (*unusable(law), *((cost.problem,) if cost.problem else ())),
        (*cost.cautions, *law.cautions),
    )


def optimal_logs(law: Law, cost: FlopsRule, theta: FloatArray, budget: FloatArray) -> dict[str, FloatArray]:
    """log N* and log D* of each theta (R, P) at its own budget (R,), as (R, 1); C = k N D by the cost's rule."""
    log_nd = np.log(budget / cost.flops_per_nd)[:, None]
    return allocate(law, theta, WEIGHTS, log_nd, repetitions(law, cost))


def optimal_log_n(law: Law, cost: FlopsRule, theta: FloatArray, budget: FloatArray) -> FloatArray:
    """log N* (R,) of each theta (R, P) at its own budget (R,)."""
    return optimal_logs(law, cost, theta, budget)["N"][:, 0]


def repetitions(law: Law, cost: FlopsRule) -> dict[str, float]:
    """Sizes of the form's axes besides N and D: epochs, as often as the runs repeat their data."""
    return {axis: cost.epochs for axis in law.form.axes if axis not in WEIGHTS}


def _loss_and_gain(law: Law, cost: FlopsRule, budget: FloatArray) -> tuple[Derived, Derived]:
    """The least loss at each budget, and the share by which twice the compute lowers it."""

    def log_loss(theta: FloatArray, budget: FloatArray) -> FloatArray:
        logs = optimal_logs(law, cost, theta, budget)
        logs |= {axis: np.log([[size]]) for axis, size in repetitions(law, cost).items()}
        with np.errstate(invalid="ignore"):  # no number where a draw allows none: it counts as undetermined
            return np.asarray(np.log(predict_each(law, theta, logs)[:, 0]))

    def fall(theta: FloatArray, which: IntArray) -> FloatArray:
        return log_loss(theta, budget[which]) - log_loss(theta, 2 * budget[which])

    loss = Derived.of(law, lambda theta, which: log_loss(theta, budget[which]), len(budget))
    return loss.map(np.exp), Derived.of(law, fall, len(budget)).map(lambda fall: -np.expm1(-fall))


def _slope_at_measured_powers(law: Law, cost: FlopsRule, fixed: Mapping[str, float]) -> Derived | None:
    """a of N* ~ C^a for C ~ N^p D^q as the runs have it; None where that was not measured or is far from N D."""
    if cost.powers is None or cost.problem is not None or cost.cautions:
        return None
    weights = dict(zip(WEIGHTS, cost.powers, strict=True))
    centre = sum(power * np.log(law.table.axis(axis)).mean() for axis, power in weights.items())
    return _slope(law, weights, float(centre), fixed)


def _slope(law: Law, weights: Mapping[str, float], log_budget: float, fixed: Mapping[str, float]) -> Derived:
    """d log N* / d log budget around a budget, over a factor four."""
    ends = log_budget + np.log([0.5, 2.0])

    def slope(theta: FloatArray, which: IntArray) -> FloatArray:
        log_n = allocate(law, theta, weights, ends, fixed)["N"]
        return np.asarray((log_n[:, 1] - log_n[:, 0]) / np.log(4.0))

    return Derived.of(law, slope, 1).at(0)


def unusable(law: Law, exponents: Sequence[str] | None = None) -> tuple[str, ...]:
    """Why no decision can rest on the law: it did not converge, or (of these) exponents are not identified."""
    found = [] if law.optimum.converged else ["the fit did not converge"]
    judged = [verdict for verdict in law.verdicts if exponents is None or verdict.exponent in exponents]
    return (*found, *[verdict.sentence for verdict in judged if not verdict.identified])


def default_budgets(flops: FloatArray) -> FloatArray:
    """(Q,) budgets around that of the largest run, in one digit."""
    largest = float(f"{flops.max():.0e}")
    return np.array([float(f"{largest * 10.0**decade:.0e}") for decade in DECADES])


def beyond_range(values: FloatArray, sampled: FloatArray) -> FloatArray:
    """The factor by which each value lies above the largest or below the smallest sampled one; 1 within."""
    factor: FloatArray = np.maximum(np.maximum(values / sampled.max(), sampled.min() / values), 1.0)
    return factor


def _checked(budgets: ArrayLike) -> FloatArray:
    values = np.atleast_1d(np.asarray(budgets, dtype=float))
    if not len(values) or not (np.isfinite(values) & (values > 0)).all():
        raise ConfigError(f"budgets={values.tolist()} must be positive numbers of FLOPs")
    return np.sort(values)
