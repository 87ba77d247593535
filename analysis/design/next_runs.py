"""What to run next: the runs that narrow the interval of a prediction most for what they cost.

Optimal experimental design. The variance of a target c(theta), to first order, is c^T M^-1 c with the information
M = sum over runs of J J^T / sigma^2; runs that make it small are c-optimal (Elfving 1952, doi:10.1214/aoms/1177729442;
Pukelsheim, Optimal Design of Experiments, 2006). J depends on the unknown theta, so the criterion is averaged over the
bootstrap's thetas (Bayesian c-optimality: Chaloner and Verdinelli 1995, doi:10.1214/ss/1177009939).

Legend of shapes: S draws of theta, P parameters, M runs, K candidates.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy.special import stdtrit

from analysis.compute.costs import CostModel, cost_model
from analysis.design.candidates import Candidates, given_candidates, in_words, largest_data, next_larger, own_grid
from analysis.design.information import SAME_LOG_SIZE, State, log_width, state_of
from analysis.design.targets import FAR, Target, find_target
from analysis.fitting.law import Law
from analysis.forms.terms import FloatArray
from scaling.errors import ConfigError, DataError

COST_WEIGHT = 0.01
"""Log width that the whole budget is worth: of two plans that narrow alike the cheaper is chosen."""
FRONTIER_SHARES = (0.01, 0.03, 0.1, 0.2, 0.35, 0.5, 0.75)
FAR_OUTSIDE = 100.0
"""Beyond this factor from the sampled sizes a target is told to be far outside."""
BETTER = 0.99
"""Widths below this share of the advice's are told: another plan narrows more."""
DEAR = 10.0
"""Costs beyond this factor of the dearest run of the table are told to be extrapolated."""


@dataclass(frozen=True)
class Run:
    """One run to be made: its sizes by axis, its cost, what it is in the study's terms ("" if not known).

    `width` is the expected width of the target's 95 % interval after this run and all before it, `ci95` that interval
    around today's estimate.
    """

    sizes: Mapping[str, float]
    cost: float
    words: str
    width: float
    ci95: tuple[float, float]


@dataclass(frozen=True)
class Plan:
    """Runs in the order in which to make them: the one that narrows most first."""

    name: str
    runs: tuple[Run, ...]

    @property
    def cost(self) -> float:
        return sum(run.cost for run in self.runs)


@dataclass(frozen=True)
class NextRuns:
    """What to run next, and what else the same money would bring.

    Attributes:
        estimate: the target's value now (a logarithm if `target.is_log`).
        ci95: its 95 % interval now, see `interval_now`.
        candidates: what was chosen from.
        gain: (K,) by how much a single run of each candidate is expected to narrow the interval, as a log of widths.
        recommended: the chosen runs.
        alternatives: the next larger model, more data, and further seeds of the dearest sampled sizes; each of at most
            `count` runs, and within the same budget.
        state: what is known of the target and of the candidates.
        count: most runs.
        warnings: what must be known before the advice is followed.
    """

    law: Law
    target: Target
    cost: CostModel
    budget: float
    estimate: float
    ci95: tuple[float, float]
    candidates: Candidates
    gain: FloatArray
    recommended: Plan
    alternatives: tuple[Plan, ...]
    state: State
    count: int
    warnings: tuple[str, ...]

    @cached_property
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
                width = self.width * np.exp(log_width(_after(self.state, picked).variance) - before)
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
        compute: C = 6 N D of the target N*, in FLOPs; by default 100 times the largest sampled.
        budget: of all runs together, in the unit of the cost (`analysis.compute.costs`): device-hours where the table
            has them, else FLOPs. By default what `count` runs of the next larger model cost.
        count: most runs.
        sizes: where the loss is wanted, e.g. N=1e9, D=2e10; by default 10 times the largest sampled of each axis.
    Raises:
        ConfigError: on a target, size, budget or count that cannot be.
        DataError: if no candidate can be paid.
    """
    if count < 1:
        raise ConfigError(f"count={count} must be at least 1")
    if budget is not None and not (np.isfinite(budget) and budget > 0):
        raise ConfigError(f"budget={budget:g} must be a positive number")
    aim = find_target(law, target, sizes, compute)
    table, axes = law.table, law.form.axes
    cost = cost_model(table, axes)
    dearest = float(cost({axis: table.axis(axis) for axis in axes}).max())
    if budget is None:
        budget = count * max(float(cost(next_larger(table, axes))[0]), dearest)
    if candidates is None:
        sampled = {axis: float(table.axis(axis).max()) for axis in axes}
        largest = {axis: max(size, aim.sizes.get(axis, FAR * size)) for axis, size in sampled.items()}
        found = own_grid(table, axes, cost, budget, largest)
    else:
        found = given_candidates(table, axes, cost, candidates)
    if not len(found) or found.costs.min() > budget:
        cheapest = f"the cheapest costs {found.costs.min():.3g}" if len(found) else "none of the grid can be paid"
        raise DataError(f"budget={budget:.3g} {cost.unit} pays for no candidate: {cheapest}; raise it")
    others = _alternatives(law, cost, budget, count)
    every = {
        axis: np.concatenate([found.sizes[axis], *([run[axis]] for plan in others.values() for run in plan)])
        for axis in axes
    }
    state = state_of(law, aim, every)
    shown = slice(0, len(found))
    gain = log_width(state.variance) - log_width(state.after_each())[shown]
    free = replace(
        state,
        candidates=state.candidates[:, shown],
        shared=state.shared[:, shown],
        own=state.own[:, shown],
        runs=state.runs[shown],
    )
    starts = [rows for plan in others.values() if len(plan) <= count and (rows := _rows_of(plan, found)) is not None]
    picked = choose(free, found.costs, budget, count, starts)
    estimate, ci95, bounded = interval_now(law, aim, state)
    all_costs = np.concatenate([found.costs, cost({axis: values[len(found) :] for axis, values in every.items()})])
    rows_of_plan, first = {"recommended": _in_order(state, picked)}, len(found)
    for name, runs in others.items():
        rows_of_plan[name] = list(range(first, first + len(runs)))
        first += len(runs)
    plans = [_plan(name, law, state, every, all_costs, rows, estimate, ci95) for name, rows in rows_of_plan.items()]
    return NextRuns(
        law,
        aim,
        cost,
        budget,
        estimate,
        ci95,
        found,
        gain,
        plans[0],
        tuple(plan for plan in plans[1:] if plan.runs),
        free,
        count,
        _warnings(law, aim, bounded, cost, dearest, plans),
    )


def interval_now(law: Law, target: Target, state: State) -> tuple[float, tuple[float, float], bool]:
    """The target's estimate, its 95 % interval, and whether that is the law's own (`analysis.fitting.intervals`).

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
        return estimate, (float(low), float(high)), True
    half = float(stdtrit(law.uncertainty.noise.freedom, 0.975)) * float(np.exp(log_width(state.variance)))
    return estimate, (estimate - half, estimate + half), False


def _alternatives(law: Law, cost: CostModel, budget: float, count: int) -> dict[str, list[dict[str, float]]]:
    """What one would do without a design, each as far as the budget pays: lists of sizes."""
    table, axes = law.table, law.form.axes
    corner = {axis: float(table.axis(axis).max()) for axis in axes}
    steps = [next_larger(table, axes, step) for step in range(1, count + 1)]
    found = {"next larger model": _ladder(steps, cost, budget, count)}
    if len(axes) > 1 and "D" in axes and (largest_data(table) or np.inf) > 1.01 * corner["D"]:
        found["more data"] = _ladder([{**corner, "D": step["D"]} for step in steps], cost, budget, count)
    own = {axis: table.axis(axis) for axis in axes}
    rows = np.argsort(-cost(own), kind="stable")
    distinct = list(dict.fromkeys(tuple(float(own[axis][row]) for axis in axes) for row in rows))
    prices = {row: float(cost(dict(zip(axes, row, strict=True)))[0]) for row in distinct}
    seeds: list[dict[str, float]] = []
    left = budget * (1 + 1e-9)
    while len(seeds) < count and min(prices.values()) <= left:
        for row in distinct[:count]:
            if prices[row] <= left and len(seeds) < count:
                seeds.append(dict(zip(axes, row, strict=True)))
                left -= prices[row]
        distinct = [row for row in distinct if prices[row] <= left]
    found["more seeds"] = seeds
    return found


def _rows_of(plan: list[dict[str, float]], candidates: Candidates) -> list[int] | None:
    """The candidates that are the plan's runs, None if one is no candidate."""
    rows = []
    for run in plan:
        apart = np.max([np.abs(np.log(candidates.sizes[axis] / size)) for axis, size in run.items()], axis=0)
        if apart.min() > SAME_LOG_SIZE:
            return None
        rows.append(int(apart.argmin()))
    return rows


def _ladder(steps: list[dict[str, float]], cost: CostModel, budget: float, count: int) -> list[dict[str, float]]:
    """Each run one step larger than the last while the budget pays, then the largest that it still pays."""
    runs: list[dict[str, float]] = []
    left, place = budget * (1 + 1e-9), 0
    while len(runs) < count and place >= 0:
        if (price := float(cost(steps[place])[0])) <= left:
            runs.append(steps[place])
            left -= price
            place = min(place + 1, len(steps) - 1)
        else:
            place -= 1
    return runs


def _in_order(state: State, rows: list[int]) -> list[int]:
    """Each time the run that narrows most, so that breaking off early leaves the best that was made."""
    left, order = list(rows), []
    while left:
        scores = log_width(state.after_each())
        order.append(min(left, key=lambda row: float(scores[row])))
        left.remove(order[-1])
        state = state.with_run(order[-1])
    return order


def _plan(
    name: str,
    law: Law,
    state: State,
    sizes: dict[str, FloatArray],
    costs: FloatArray,
    rows: list[int],
    estimate: float,
    ci95: tuple[float, float],
) -> Plan:
    before = float(log_width(state.variance))
    runs = []
    for place, row in enumerate(rows):
        # The same sizes may stand at several places; they are counted at the first.
        same = [other for other in rows[:place] if all(sizes[axis][other] == sizes[axis][row] for axis in sizes)]
        state = state.with_run(same[0] if same else row)
        share = float(np.exp(log_width(state.variance) - before))
        own = {axis: float(values[row]) for axis, values in sizes.items()}
        around = (estimate + share * (ci95[0] - estimate), estimate + share * (ci95[1] - estimate))
        runs.append(Run(own, float(costs[row]), in_words(law.table, own), share * (ci95[1] - ci95[0]), around))
    return Plan(name, tuple(runs))


def _warnings(
    law: Law, target: Target, bounded: bool, cost: CostModel, dearest: float, plans: Sequence[Plan]
) -> tuple[str, ...]:
    """What must be known before the advice is followed."""
    found = []
    if not law.optimum.converged:
        found.append("the fit did not converge: do not follow this advice")
    vague = [verdict for verdict in law.verdicts if not verdict.identified]
    if law.samples is None:
        found.append("the law was fitted without a bootstrap: the advice is that of its best estimate alone")
    if vague:
        reasons = "; ".join(verdict.sentence for verdict in vague)
        found.append(f"{reasons}. Until they do, spread the sizes: runs small and large along every axis")
    found += [caution.removesuffix(".") for caution in law.cautions]
    if not bounded:
        found.append("the runs do not bound the target yet; its interval is that of first-order theory")
    for axis, size in target.sizes.items():
        largest = float(law.table.axis(axis).max())
        if size > FAR_OUTSIDE * largest:
            found.append(
                f"the target's {axis} is {size / largest:,.0f} times the largest sampled: no run says the law holds"
            )
    if (everything := largest_data(law.table)) is not None and "D" in law.form.axes:
        found.append(f"D is kept within the {everything:,.0f} that fraction 1 stands for; name candidates to go beyond")
    advice, *others = [plan for plan in plans if plan.runs]
    if (times := max(run.cost for run in advice.runs) / dearest) > DEAR:
        found.append(f"the dearest run costs {times:,.0f} times the dearest of the table: its cost is extrapolated")
    found += [
        f"{other.name} would narrow the interval more, by runs that are not among the candidates"
        for other in others
        if other.runs[-1].width < BETTER * advice.runs[-1].width
    ]
    return tuple(found)


def choose(state: State, costs: FloatArray, budget: float, count: int, starts: Sequence[list[int]] = ()) -> list[int]:
    """At most `count` candidates (repeats allowed) of total cost at most `budget` that narrow the target most.

    Greedy from several allowances a run, and from further `starts`; each is then improved by exchanging single runs
    until no exchange helps.
    """
    best: list[int] = []
    best_score = np.inf
    greedy = [_greedy(state, costs, budget, count, share) for share in (0.0, 0.5, 1.0)]
    for start in (*greedy, *starts):
        picked = _exchange(state, costs, budget, count, start)
        score = _score(state, costs, budget, picked)
        if score < best_score - 1e-12:
            best, best_score = picked, score
    return best


def _score(state: State, costs: FloatArray, budget: float, picked: list[int]) -> float:
    spent = float(costs[picked].sum())
    return float(log_width(_after(state, picked).variance)) + COST_WEIGHT * spent / budget


def _after(state: State, picked: list[int]) -> State:
    for candidate in picked:
        state = state.with_run(candidate)
    return state


def _greedy(state: State, costs: FloatArray, budget: float, count: int, share: float) -> list[int]:
    """One run after the other; each may cost the rest of the budget over (runs left)^share."""
    picked: list[int] = []
    if budget <= 0:
        return picked
    left = budget * (1 + 1e-9)
    for taken in range(count):
        allowed = (costs <= left) & (costs <= max(left / (count - taken) ** share, costs.min()))
        if not allowed.any():
            break
        score = log_width(state.after_each()) + COST_WEIGHT * costs / budget
        picked.append(int(np.where(allowed, score, np.inf).argmin()))
        state = state.with_run(picked[-1])
        left -= costs[picked[-1]]
    return picked


def _exchange(state: State, costs: FloatArray, budget: float, count: int, picked: list[int]) -> list[int]:
    """Replace (and, up to `count`, add) single runs while that helps.

    Source: Fedorov 1972, Theory of Optimal Experiments.
    """
    picked = list(picked)
    score = _score(state, costs, budget, picked)
    for _ in range(20):
        improved = False
        for place in range(len(picked)):
            others = picked[:place] + picked[place + 1 :]
            without = _after(state, others)
            spent = float(costs[others].sum())
            scores = log_width(without.after_each()) + COST_WEIGHT * (spent + costs) / budget
            scores = np.where(spent + costs <= budget * (1 + 1e-9), scores, np.inf)
            if scores.min() < score - 1e-6:
                picked, score, improved = [*others, int(scores.argmin())], float(scores.min()), True
        if len(picked) < count:
            picked += _greedy(
                _after(state, picked), costs, budget - float(costs[picked].sum()), count - len(picked), 0.0
            )
            score = _score(state, costs, budget, picked)
        if not improved:
            break
    return picked
