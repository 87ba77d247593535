"""Compute-optimal model and data sizes: what a budget of FLOPs is best spent on.

Legend of shapes: R thetas, P parameters, Q budgets.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from analysis.compute.allocate import Derived, allocate, predict_each
from analysis.compute.cost import FlopsRule, measure_flops
from analysis.fitting.law import Law
from analysis.forms.terms import FloatArray
from scaling.errors import ConfigError

IntArray = NDArray[np.intp]

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
    cost: FlopsRule
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
        flops_per_nd: C / (N D); by default as `measure_flops` finds it.
    Raises:
        ConfigError: if the law has no axes N and D, or a budget is not positive or absurdly far from the runs.
    """
    if not {"N", "D"} <= set(law.form.axes):
        raise ConfigError(
            f"form {law.form.name} has the axes {', '.join(law.form.axes)}; a frontier divides compute between N and "
            "D: use chinchilla, or another form with both"
        )
    cost = measure_flops(law.table, flops_per_nd)
    budget = default_budgets(cost.flops(law.table)) if budgets is None else _checked(budgets)
    fixed = {axis: cost.epochs for axis in law.form.axes if axis not in WEIGHTS}
    log_nd, count = np.log(budget / cost.flops_per_nd), len(budget)

    def optimum(theta: FloatArray, log_budget: FloatArray) -> dict[str, FloatArray]:
        return allocate(law, theta, WEIGHTS, log_budget[:, None], fixed)

    def log_n(theta: FloatArray, which: IntArray) -> FloatArray:
        return optimum(theta, log_nd[which])["N"][:, 0]

    def log_loss(theta: FloatArray, log_budget: FloatArray) -> FloatArray:
        logs = {**optimum(theta, log_budget), **{axis: np.log([[size]]) for axis, size in fixed.items()}}
        with np.errstate(invalid="ignore"):  # no number where a draw allows none: it counts as undetermined
            return np.asarray(np.log(predict_each(law, theta, logs)[:, 0]))

    log_size = Derived.of(law, log_n, count)
    sizes = {"N": log_size.map(np.exp), "D": log_size.map(lambda log_n: np.exp(log_nd - log_n))}
    loss = Derived.of(law, lambda theta, which: log_loss(theta, log_nd[which]), count)
    fall = Derived.of(
        law, lambda theta, which: log_loss(theta, log_nd[which]) - log_loss(theta, log_nd[which] + np.log(2)), count
    )
    slope = _slope(law, WEIGHTS, float(log_nd.mean()), fixed)
    own = None
    if cost.powers is not None and cost.problem is None and not cost.cautions:
        weights = dict(zip(WEIGHTS, cost.powers, strict=True))
        centre = sum(power * np.log(law.table.axis(axis)).mean() for axis, power in weights.items())
        own = _slope(law, weights, float(centre), fixed)
    beyond = {
        axis: beyond_range(values, sampled)
        for axis, values, sampled in (
            ("C", budget, cost.flops(law.table)),
            ("N", sizes["N"].value, law.table.num_params),
            ("D", sizes["D"].value, law.table.data_size),
        )
    }
    return Frontier(
        law,
        cost,
        budget,
        sizes["N"],
        sizes["D"],
        log_size.map(lambda log_n: np.exp(log_nd - 2 * log_n)),
        loss.map(np.exp),
        fall.map(lambda fall: -np.expm1(-fall)),
        slope,
        slope.map(lambda a: 1 - a),
        own,
        beyond,
        (*unusable(law), *((cost.problem,) if cost.problem else ())),
        (*cost.cautions, *law.cautions),
    )


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
