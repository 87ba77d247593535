"""Plans of further runs: what one would do without a design, and how far each plan narrows the target's interval."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from analysis.arrays import FloatArray
from analysis.compute import SizeCost
from analysis.design.candidates import Candidates, in_words, largest_data, next_larger
from analysis.design.information import SAME_LOG_SIZE, State, log_width, state_of
from analysis.design.targets import Target
from analysis.fitting import Law

Sizes = Mapping[str, float]
ROUNDING = 1e-9  # of the budget


@dataclass(frozen=True)
class Question:
    """What is to be known, and what may be spent on it.

    Attributes:
        cost: of a run by its sizes.
        budget: of all runs together, in the unit of the cost.
        count: most runs.
    """

    law: Law
    target: Target
    cost: SizeCost
    budget: float
    count: int


@dataclass(frozen=True)
class Now:
    """The target's value today (a logarithm if `target.is_log`) and its 95 % interval.

    `bounded` is whether the interval is the law's own; where the runs do not bound the target, it is that of
    first-order theory.
    """

    estimate: float
    ci95: tuple[float, float]
    bounded: bool

    def narrowed(self, share: float) -> tuple[float, float]:
        """The interval of this share of its width, around the same estimate."""
        low, high = self.ci95
        return self.estimate + share * (low - self.estimate), self.estimate + share * (high - self.estimate)


@dataclass(frozen=True)
class Run:
    """One run to be made: its sizes by axis, its cost, its description in the study's terms ("" if not known).

    `width` is the expected width of the target's 95 % interval after this run and all before it, `ci95` that interval
    around today's estimate.
    """

    sizes: Sizes
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
class Choices:
    """Every run that is looked at: the candidates and, in the rows below them, the runs of the alternatives.

    Attributes:
        sizes: (K,) by axis.
        costs: (K,).
        state: what is known of the target and of each of the K.
        alternatives: by name the rows of each alternative's runs.
    """

    candidates: Candidates
    sizes: dict[str, FloatArray]
    costs: FloatArray
    state: State
    alternatives: dict[str, list[int]]

    @property
    def free(self) -> State:
        """The state with the candidates alone."""
        return self.state.of_first(len(self.candidates))

    def starts(self, count: int) -> list[list[int]]:
        """The alternatives of at most `count` runs that consist of candidates, as rows of these."""
        found = [self._as_candidates(rows) for rows in self.alternatives.values() if len(rows) <= count]
        return [rows for rows in found if rows is not None]

    def _as_candidates(self, rows: list[int]) -> list[int] | None:
        """The candidates of the same sizes, None if one is no candidate."""
        same = []
        for row in rows:
            own = self.candidates.sizes.items()
            apart = np.max([np.abs(np.log(sizes / self.sizes[axis][row])) for axis, sizes in own], axis=0)
            if apart.min() > SAME_LOG_SIZE:
                return None
            same.append(int(apart.argmin()))
        return same


def lay_out(question: Question, candidates: Candidates) -> Choices:
    """The candidates beside the runs of the alternatives."""
    alternatives, first = _alternatives(question), len(candidates)
    sizes = {
        axis: np.concatenate([own, *([run[axis]] for runs in alternatives.values() for run in runs)])
        for axis, own in candidates.sizes.items()
    }
    rows = {}
    for name, runs in alternatives.items():
        rows[name] = list(range(first, first + len(runs)))
        first += len(runs)
    further = question.cost({axis: values[len(candidates) :] for axis, values in sizes.items()})
    costs = np.concatenate([candidates.costs, further])
    return Choices(candidates, sizes, costs, state_of(question.law, question.target, sizes), rows)


def write_plan(name: str, question: Question, now: Now, choices: Choices, rows: list[int]) -> Plan:
    """The runs of these rows, each with the expected interval after it."""
    state, before = choices.state, float(log_width(choices.state.variance))
    runs = []
    for place, row in enumerate(rows):
        # The same sizes may stand at several places; they are counted at the first.
        same = [other for other in rows[:place] if all(own[other] == own[row] for own in choices.sizes.values())]
        state = state.with_run(same[0] if same else row)
        share = float(np.exp(log_width(state.variance) - before))
        sizes = {axis: float(values[row]) for axis, values in choices.sizes.items()}
        words, width = in_words(question.law.table, sizes), share * (now.ci95[1] - now.ci95[0])
        runs.append(Run(sizes, float(choices.costs[row]), words, width, now.narrowed(share)))
    return Plan(name, tuple(runs))


def _alternatives(question: Question) -> dict[str, list[dict[str, float]]]:
    """What one would do without a design, each as far as the budget pays: sizes of runs by name."""
    table, axes = question.law.table, question.law.form.axes
    corner = {axis: float(table.axis(axis).max()) for axis in axes}
    steps = [next_larger(table, axes, step) for step in range(1, question.count + 1)]
    found = {"next larger model": _ladder(steps, question)}
    if len(axes) > 1 and "D" in axes and (largest_data(table) or np.inf) > 1.01 * corner["D"]:
        found["more data"] = _ladder([{**corner, "D": step["D"]} for step in steps], question)
    found["more seeds"] = _more_seeds(question)
    return found


def _more_seeds(question: Question) -> list[dict[str, float]]:
    """Further runs of the sampled sizes, the dearest first and each once, then again, while the budget pays."""
    axes, table = question.law.form.axes, question.law.table
    own = {axis: table.axis(axis) for axis in axes}
    rows = np.argsort(-question.cost(own), kind="stable")
    distinct = list(dict.fromkeys(tuple(float(own[axis][row]) for axis in axes) for row in rows))
    prices = {row: float(question.cost(dict(zip(axes, row, strict=True)))[0]) for row in distinct}
    seeds: list[dict[str, float]] = []
    left = question.budget * (1 + ROUNDING)
    while len(seeds) < question.count and min(prices.values()) <= left:
        for row in distinct[: question.count]:
            if prices[row] <= left and len(seeds) < question.count:
                seeds.append(dict(zip(axes, row, strict=True)))
                left -= prices[row]
        distinct = [row for row in distinct if prices[row] <= left]
    return seeds


def _ladder(steps: list[dict[str, float]], question: Question) -> list[dict[str, float]]:
    """Each run one step larger than the last while the budget pays, then the largest that it still pays."""
    runs: list[dict[str, float]] = []
    left, place = question.budget * (1 + ROUNDING), 0
    while len(runs) < question.count and place >= 0:
        if (price := float(question.cost(steps[place])[0])) <= left:
            runs.append(steps[place])
            left -= price
            place = min(place + 1, len(steps) - 1)
        else:
            place -= 1
    return runs
