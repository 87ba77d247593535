"""Which candidates to take: greedily, then by exchanging single runs while that helps.

Legend of shapes: K candidates.
"""

from collections.abc import Sequence

import numpy as np

from analysis.arrays import FloatArray
from analysis.design.information import State, log_width

COST_WEIGHT = 0.01
"""Log width that the whole budget is worth: of two plans that narrow alike the cheaper is chosen."""
ROUNDS = 20


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
    return float(log_width(after(state, picked).variance)) + COST_WEIGHT * spent / budget


def after(state: State, picked: list[int]) -> State:
    """What is known after a run of each of these candidates."""
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
    for _ in range(ROUNDS):
        improved = False
        for place in range(len(picked)):
            others = picked[:place] + picked[place + 1 :]
            without = after(state, others)
            spent = float(costs[others].sum())
            scores = log_width(without.after_each()) + COST_WEIGHT * (spent + costs) / budget
            scores = np.where(spent + costs <= budget * (1 + 1e-9), scores, np.inf)
            if scores.min() < score - 1e-6:
                picked, score, improved = [*others, int(scores.argmin())], float(scores.min()), True
        if len(picked) < count:
            picked += _greedy(
                after(state, picked), costs, budget - float(costs[picked].sum()), count - len(picked), 0.0
            )
            score = _score(state, costs, budget, picked)
        if not improved:
            break
    return picked


def in_order(state: State, rows: list[int]) -> list[int]:
    """Each time the run that narrows most, so that breaking off early leaves the best that was made."""
    left, order = list(rows), []
    while left:
        scores = log_width(state.after_each())
        order.append(min(left, key=lambda row: float(scores[row])))
        left.remove(order[-1])
        state = state.with_run(order[-1])
    return order
