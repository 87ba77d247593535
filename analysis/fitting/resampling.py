"""How far the law would move had other runs been made: bootstrap over runs, bands around the curves.

Legend of shapes: B replicates, P parameters, M runs, Q queried sizes.
"""

from dataclasses import dataclass

import numpy as np
from tqdm import tqdm

from analysis.arrays import FloatArray
from analysis.fitting.descent import Minimum, minimize
from analysis.fitting.optimum import Optimum, bound_mask
from analysis.tables import RunTable, distinct_sizes

DEFAULT_REPLICATES = 1000
SHOWN_FROM = 20_000  # replicates from which a progress bar is worth its line
BLOCK = 500
MAX_DRAWS = 200


@dataclass(frozen=True)
class Bootstrap:
    """Refits of resampled tables.

    Attributes:
        theta: (B, P) in centred, scaled units.
        values: (B, P) in the user's units.
        unit: what was resampled: "run", or "configuration" where a size was run with several seeds.
        at_bound: (P,) share of the replicates in which the parameter lies on its bound.
        failed: number of replicates that, refitted from another's end that suits their runs better, stay above it.
    """

    theta: FloatArray
    values: FloatArray
    unit: str
    at_bound: FloatArray
    failed: int


def bootstrap(table: RunTable, optimum: Optimum, replicates: int, seed: int) -> Bootstrap:
    """Draw runs with replacement and refit, each refit started from the best of a bank of candidates.

    The draws are balanced, but for those that cannot determine the form and are replaced.

    The bank holds the projections of the whole table and its optimum; after all refits every replicate is also tried
    at every other replicate's end, and refitted from there where that is better.
    """
    unit, group = resampling_unit(table)
    counts = _draw(table, optimum, group, replicates, np.random.default_rng(seed))
    problem, objective = optimum.problem, optimum.objective
    bank_costs = problem.costs(optimum.candidates, objective)
    ends = []
    blocks = range(0, replicates, BLOCK)
    for first in tqdm(blocks, desc="bootstrap", unit_scale=BLOCK, disable=replicates < SHOWN_FROM, leave=False):
        part = counts[first : first + BLOCK]
        start = optimum.candidates[(part @ bank_costs.T).argmin(1)]
        ends.append(minimize(problem, objective, part, start))
    theta = np.concatenate([end.theta for end in ends])
    value = np.concatenate([end.objective for end in ends])
    theta, stuck = _exchange(optimum, counts, theta, value)
    values = problem.form.public(theta, optimum.centre, optimum.scale)
    return Bootstrap(theta, values, unit, bound_mask(problem, theta).mean(0), stuck)


def resampling_unit(table: RunTable) -> tuple[str, np.ndarray]:
    """What is drawn, and the group (M,) each run belongs to.

    Runs that differ by seed alone share the misfit of their size, so they are drawn together, as one configuration.
    """
    if "seed" not in table.frame or table.frame["seed"].nunique() < 2:
        return "run", np.arange(len(table))
    sizes = np.stack([np.nan_to_num(size) for size in table.sizes.values()], 1)
    group = np.unique(sizes, axis=0, return_inverse=True)[1].ravel()
    return "configuration", group


def balanced_counts(num_groups: int, replicates: int, generator: np.random.Generator) -> FloatArray:
    """(B, G) how often each replicate holds each group; every group is drawn B times in all.

    So the mean of the replicates carries no error of the draw to first order, and their spread less of it than plain
    draws'.
    Source: Davison, Hinkley and Schechtman 1986, doi:10.1093/biomet/73.3.555.
    """
    drawn = generator.permutation(np.repeat(np.arange(num_groups), replicates)).reshape(replicates, num_groups)
    cells = drawn + num_groups * np.arange(replicates)[:, None]
    counts = np.bincount(cells.ravel(), minlength=num_groups * replicates).reshape(replicates, num_groups)
    return counts.astype(float)


def _draw(
    table: RunTable, optimum: Optimum, group: np.ndarray, replicates: int, generator: np.random.Generator
) -> FloatArray:
    """(B, M) counts, balanced as they are drawn first.

    A draw that leaves an axis with one size or fewer configurations than parameters is redrawn, at random and so not in
    balance with the others, up to MAX_DRAWS times.
    """
    num_groups = int(group.max()) + 1
    counts = balanced_counts(num_groups, replicates, generator)[:, group]
    missing = np.arange(replicates)
    for _ in range(MAX_DRAWS):
        missing = missing[[not _determines(table, optimum, row > 0) for row in counts[missing]]]
        if not len(missing):
            break
        drawn = generator.multinomial(num_groups, np.full(num_groups, 1 / num_groups), size=len(missing))
        counts[missing] = drawn[:, group]
    return counts


def _determines(table: RunTable, optimum: Optimum, drawn: np.ndarray) -> bool:
    form = optimum.problem.form
    enough = int(drawn.sum()) >= min(len(form.parameters), len(table) - 1)
    return enough and all(len(distinct_sizes(table.axis(axis)[drawn])) >= 2 for axis in form.axes)


def _exchange(optimum: Optimum, counts: FloatArray, theta: FloatArray, value: FloatArray) -> tuple[FloatArray, int]:
    """Refit replicates for which another replicate's end is better than their own; how many stay worse."""
    problem, objective = optimum.problem, optimum.objective
    pool = theta[:: max(1, len(theta) // 500)]
    totals = counts @ problem.costs(pool, objective).T
    worse = totals.min(1) < value * (1 - 1e-6) - 1e-20
    if not worse.any():
        return theta, 0
    again: Minimum = minimize(problem, objective, counts[worse], pool[totals[worse].argmin(1)])
    theta = theta.copy()
    theta[worse] = again.theta
    return theta, int((again.objective > totals[worse].min(1) * (1 + 1e-6)).sum())


def interval(samples: FloatArray, level: float = 0.95) -> FloatArray:
    """(2, ...) percentile interval over the first axis."""
    tail = 50 * (1 - level)
    bounds: FloatArray = np.percentile(samples, [tail, 100 - tail], axis=0)
    return bounds
