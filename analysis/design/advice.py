"""What to run next: the runs that narrow the interval of a prediction most for what they cost.

Optimal experimental design. The variance of a target c(theta), to first order, is c^T M^-1 c with the information
M = sum over runs of J J^T / sigma^2; runs that make it small are c-optimal (Elfving 1952, doi:10.1214/aoms/1177729442;
Pukelsheim, Optimal Design of Experiments, 2006). J depends on the unknown theta, so the criterion is averaged over the
bootstrap's thetas (Bayesian c-optimality: Chaloner and Verdinelli 1995, doi:10.1214/ss/1177009939).

Legend of shapes: S draws of theta, P parameters, M runs, K candidates.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy.special import stdtrit

from analysis.arrays import FloatArray
from analysis.compute import SizeCost, measure_cost
from analysis.design.candidates import Candidates, given_candidates, largest_data, next_larger, own_grid
from analysis.design.exchange import after, choose, in_order
from analysis.design.information import State, log_width
from analysis.design.plans import Now, Plan, Question, lay_out, write_plan
from analysis.design.targets import FAR, Target, find_target
from analysis.fitting import Law
from scaling.errors import ConfigError, DataError

FRONTIER_SHARES = (0.01, 0.03, 0.1, 0.2, 0.35, 0.5, 0.75)
FAR_OUTSIDE = 100.0
"""Factor from the sampled sizes beyond which a target is called far outside."""
BETTER = 0.99
"""Share of the advice's width below which another plan is said to narrow more."""
DEAR = 10.0
"""Factor of the dearest run of the table beyond which a cost is called extrapolated."""


@dataclass(frozen=True, kw_only=True)
class NextRuns(Question):
    """What to run next, and what else the same money would bring.

    Attributes:
        now: the target's value and interval today.
        candidates: what was chosen from.
        gain: (K,) by how much a single run of each candidate is expected to narrow the interval, as a log of widths.
        recommended: the chosen runs.
        alternatives: the next larger model, more data, and further seeds of the dearest sampled sizes; each of at most
            `count` runs, and within the same budget.
        state: what is known of the target and of the candidates.
        warnings: what must be known before the advice is followed.
    """

    now: Now
    candidates: Candidates
    gain: FloatArray
    recommended: Plan
    alternatives: tuple[Plan, ...]
    state: State
    warnings: tuple[str, ...]

    @property
    def estimate(self) -> float:
        """The target's value now."""
        return self.now.estimate

    @property
    def ci95(self) -> tuple[float, float]:
        """Its 95 % interval now."""
        return self.now.ci95

    @property
    def width(self) -> float:
        """Of the interval now."""
        return self.ci95[1] - self.ci95[0]

    @cached_property
    def frontier(self) -> FloatArray:
        """(B, 2) cost and expected width of the best plan for each of several smaller budgets and the whole one."""
        before, rows = log_width(self.state.variance), [(0.0, self.width)]
        picked: list[int] = []
        for share in FRONTIER_SHARES:
            if self.candidates.costs.min() <= share * self.budget:
                picked = choose(self.state, self.candidates.costs, share * self.budget, self.count, [picked])
                width = self.width * np.exp(log_width(after(self.state, picked).variance) - before)
                rows.append((float(self.candidates.costs[picked].sum()), float(width)))
        return np.array([*rows, (self.recommended.cost, self.recommended.runs[-1].width)])


def next_runs(
    law: Law,
    candidates: Mapping[str, ArrayLike] | pd.DataFrame | None = None,
    *,
    target: str = "loss",
    compute: float | None = None,
    budget: float | None = None,
    count: int = 5,
    flops_per_nd: float | None = None,
    **sizes: float,
) -> NextRuns:
    """Choose the runs that are expected to narrow the interval of a prediction most.

    The expected widths are of first order: the share by which the variance falls, as the geometric mean over the
    bootstrap's thetas, applied to the width of the interval now. They assume that the form holds.

    Args:
        candidates: sizes to choose from: lists by axis (all combinations), or a table with a row each; by default the
            grid of the sampled sizes and its continuation by its own step, to the target's size (10 times the largest
            where the target has none), as far as one run costs no more than the budget.
        target: "loss" (log loss at `sizes`), an exponent's name, or "N*" (log of the best N at `compute`).
        compute: FLOPs of the target N*; by default 100 times those of the largest run.
        budget: of all runs together, in the unit of the cost (`analysis.compute.cost`): device-hours where the table
            has them, else FLOPs. By default what `count` runs of the next larger model cost.
        count: most runs.
        flops_per_nd: C / (N D), as for `frontier`; by default as measured.
        sizes: where the loss is wanted, e.g. N=1e9, D=2e10; by default 10 times the largest sampled of each axis.
    Raises:
        ConfigError: on a target, size, budget or count that cannot be.
        DataError: if no candidate can be paid.
    """
    if count < 1:
        raise ConfigError(f"count={count} must be at least 1")
    if budget is not None and not (np.isfinite(budget) and budget > 0):
        raise ConfigError(f"budget={budget:g} must be a positive number")
    cost = measure_cost(law.table, law.form.axes, flops_per_nd=flops_per_nd)
    aim = find_target(law, target, sizes, compute, cost=cost)
    if budget is None:
        larger = float(cost.price(next_larger(law.table, law.form.axes))[0])
        budget = count * max(larger, _dearest(law, cost.price))
    question = Question(law, aim, cost.price, budget, count)
    return _answer(question, _candidates(question, candidates))


def _answer(question: Question, found: Candidates) -> NextRuns:
    """Choose among the candidates, and set the alternatives beside the choice."""
    choices = lay_out(question, found)
    free = choices.free
    picked = choose(free, found.costs, question.budget, question.count, choices.starts(question.count))
    now = interval_now(question.law, question.target, choices.state)
    rows_of_plan = {"recommended": in_order(choices.state, picked), **choices.alternatives}
    advice, *others = [write_plan(name, question, now, choices, rows) for name, rows in rows_of_plan.items()]
    alternatives = tuple(plan for plan in others if plan.runs)
    return NextRuns(
        **vars(question),
        now=now,
        candidates=found,
        gain=log_width(free.variance) - log_width(free.after_each()),
        recommended=advice,
        alternatives=alternatives,
        state=free,
        warnings=tuple(_warnings(question, now, advice, alternatives)),
    )


def _candidates(question: Question, given: Mapping[str, ArrayLike] | pd.DataFrame | None) -> Candidates:
    """What is chosen from: the given candidates or the table's own grid; DataError if the budget pays for none."""
    table, axes, budget = question.law.table, question.law.form.axes, question.budget
    if given is not None:
        found = given_candidates(table, axes, question.cost, given)
    else:
        sampled = {axis: float(table.axis(axis).max()) for axis in axes}
        largest = {axis: max(size, question.target.sizes.get(axis, FAR * size)) for axis, size in sampled.items()}
        found = own_grid(table, axes, question.cost, budget, largest)
    if not len(found) or found.costs.min() > budget:
        cheapest = f"the cheapest costs {found.costs.min():.3g}" if len(found) else "none of the grid can be paid"
        raise DataError(f"budget={budget:.3g} {question.cost.unit} pays for no candidate: {cheapest}; raise it")
    return found


def _dearest(law: Law, price: SizeCost) -> float:
    """Cost of the dearest run of the table."""
    return float(price({axis: law.table.axis(axis) for axis in law.form.axes}).max())


def interval_now(law: Law, target: Target, state: State) -> Now:
    """The target's estimate and its 95 % interval: the law's own (`analysis.fitting.intervals`).

    Where the runs do not bound the target, it is that of first-order theory with Student's t.
    """

    def values(theta: FloatArray) -> FloatArray:
        return target.values(law, theta)[:, None]

    estimate = float(values(law.optimum.theta[None])[0, 0])
    if target.kind == "loss":
        sizes: dict[str, Any] = dict(target.sizes)
        low, high = np.log(law.band(**sizes)[:, 0])
    else:
        (found,) = law.uncertainty.of(values)
        low, high = found.low, found.high
    if np.isfinite([low, high]).all():
        return Now(estimate, (float(low), float(high)), True)
    half = float(stdtrit(law.uncertainty.noise.freedom, 0.975)) * float(np.exp(log_width(state.variance)))
    return Now(estimate, (estimate - half, estimate + half), False)


def _warnings(question: Question, now: Now, advice: Plan, others: Sequence[Plan]) -> list[str]:
    """What must be known before the advice is followed."""
    law, table = question.law, question.law.table
    found = [*_of_law(law), *_of_target(question.target)]
    if not now.bounded:
        found.append("the runs do not bound the target yet; its interval is that of first-order theory")
    for axis, size in question.target.sizes.items():
        largest = float(table.axis(axis).max())
        if size > FAR_OUTSIDE * largest:
            found.append(
                f"the target's {axis} is {size / largest:,.0f} times the largest sampled: no run says the law holds"
            )
    if (everything := largest_data(table)) is not None and "D" in law.form.axes:
        found.append(f"D is kept within the {everything:,.0f} that fraction 1 stands for; name candidates to go beyond")
    if (times := max(run.cost for run in advice.runs) / _dearest(law, question.cost)) > DEAR:
        found.append(f"the dearest run costs {times:,.0f} times the dearest of the table: its cost is extrapolated")
    return found + [
        f"{other.name} would narrow the interval more, by runs that are not among the candidates"
        for other in others
        if other.runs[-1].width < BETTER * advice.runs[-1].width
    ]


def _of_law(law: Law) -> list[str]:
    """What limits every advice that rests on this law."""
    found = []
    if not law.optimum.converged:
        found.append("the fit did not converge: do not follow this advice")
    if law.samples is None:
        found.append("the law was fitted without a bootstrap: the advice is that of its best estimate alone")
    if vague := [verdict for verdict in law.verdicts if not verdict.identified]:
        reasons = "; ".join(verdict.sentence for verdict in vague)
        found.append(f"{reasons}. Until they do, spread the sizes: runs small and large along every axis")
    return found + [caution.removesuffix(".") for caution in law.cautions]


def _of_target(target: Target) -> list[str]:
    """What limits an N*, which rests on what a run costs: the same as for a frontier."""
    if target.kind != "N*":
        return []
    problem = [f"N* rests on C = k N D, which does not hold: {target.cost.problem}"] if target.cost.problem else []
    return problem + [caution.removesuffix(".") for caution in target.cost.cautions]
