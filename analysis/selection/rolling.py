"""Fit to the smaller runs, predict the larger ones, from several origins at once.

Legend of shapes: J fits, R refits, P parameters, A axes, M runs, H held-out runs.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from analysis.fitting.descent import Minimum, minimize
from analysis.fitting.objective import LITERATURE_DELTA, Objective, delta_for_scatter
from analysis.fitting.problem import Problem
from analysis.fitting.resampling import interval
from analysis.forms.registry import Form
from analysis.forms.terms import FloatArray
from analysis.tables import RunTable, distinct_sizes

MOST_ORIGINS = 4
FEWEST_RUNS = 6
"""An origin with fewer fitted runs says more of chance than of the form."""
FEWEST_SIZES = 3
RUNS_A_PARAMETER = 2
"""A window holds at least so many runs for each parameter."""
STARTS = 6
INTERVAL_STEPS = 60
"""A refit that is not down by then moves within a valley that the intervals do not see."""
FIRST = Objective("huber", LITERATURE_DELTA)
"""Close to least absolute deviations, whose residuals tell the scatter whatever a few runs do."""

Mask = np.ndarray


@dataclass(frozen=True)
class Origin:
    """Where the table is cut: runs (M,) up to `size` along `axis` are fitted, those within reach beyond predicted."""

    axis: str
    size: float
    fitted: Mask
    held_out: Mask


@dataclass(frozen=True)
class Score:
    """How one fit predicted the runs beyond its origin.

    Attributes:
        rmse: root mean square of log of predicted over observed loss.
        coverage: share of the held-out runs inside their 95 % interval; None where none was made.
    """

    axis: str
    size: float
    num_fitted: int
    num_held_out: int
    rmse: float
    coverage: float | None = None


def rolling_origins(table: RunTable, axes: Sequence[str], reach: float) -> tuple[Origin, ...]:
    """At most MOST_ORIGINS for each axis, from the largest size down, the nearest first.

    They lie the square root of `reach` apart, or a size where sizes are farther apart. Held out are the runs within
    `reach` of the origin, at least the next size.
    """
    origins: list[Origin] = []
    for axis in axes:
        sizes = table.axis(axis)
        distinct = distinct_sizes(sizes)
        last, end = len(distinct) - 1, distinct[-1]
        found: list[Origin] = []
        while len(found) < MOST_ORIGINS:
            end = end / np.sqrt(reach)
            last = min(last - 1, int(np.searchsorted(distinct, end * (1 + 1e-6), side="right")) - 1)
            if last + 1 < FEWEST_SIZES:
                break
            # A size may be a little off where it went through text.
            top = max(distinct[last] * reach, distinct[last + 1]) * (1 + 1e-6)
            fitted = sizes <= distinct[last] * (1 + 1e-6)
            if fitted.sum() < FEWEST_RUNS:
                break
            found.append(Origin(axis, float(distinct[last]), fitted, ~fitted & (sizes <= top)))
        origins += found
    return tuple(origins)


@dataclass(frozen=True)
class Trial:
    """A form fitted to all runs, and at each origin to those before it.

    Attributes:
        window: None for all of these runs; else those within this factor of the largest.
        masks: the fitted runs, (M,) each: of the whole table first, then of each origin.
        group: (M,) number of the independent observation that a run belongs to (see `resampling_unit`).
        ends: theta (1 + origins, P).
    """

    problem: Problem
    window: float | None
    masks: tuple[Mask, ...]
    group: NDArray[np.intp]
    ends: Minimum

    @property
    def form(self) -> Form:
        return self.problem.form

    @cached_property
    def errors(self) -> FloatArray:
        """(1 + origins, M) log of predicted over observed loss."""
        errors: FloatArray = self.problem.residuals(self.ends.theta)[0]
        return errors

    def scores(self, origins: Sequence[Origin], coverage: Sequence[float | None] | None = None) -> tuple[Score, ...]:
        """A score for each origin."""
        return tuple(
            Score(
                origin.axis,
                origin.size,
                int(mask.sum()),
                int(origin.held_out.sum()),
                float(np.sqrt(np.mean(error[origin.held_out] ** 2))),
                covered,
            )
            for origin, mask, error, covered in zip(
                origins, self.masks[1:], self.errors[1:], coverage or [None] * len(origins), strict=True
            )
        )

    def coverage(self, origins: Sequence[Origin], objective: Objective, replicates: int, seed: int) -> list[float]:
        """At each origin the share of the held-out runs inside their 95 % interval.

        The interval is of percentiles: refits of resampled runs (of configurations, where a size was run with several
        seeds), each with a residual added that is drawn from the fit's, widened for the degrees of freedom. A profile,
        as of `Law.band`, would take a search for every held-out run, origin and form.
        """
        generator = np.random.default_rng(seed)
        shares = []
        for index, origin in enumerate(origins, start=1):
            runs = np.flatnonzero(self.masks[index])
            group = np.unique(self.group[runs], return_inverse=True)[1]
            units = int(group.max()) + 1
            drawn = generator.multinomial(units, np.full(units, 1 / units), size=replicates)
            counts = np.zeros((replicates, len(self.masks[index])))
            counts[:, runs] = drawn[:, group]
            start = np.repeat(self.ends.theta[[index]], replicates, axis=0)
            ends = minimize(self.problem, objective, counts, start, iterations=INTERVAL_STEPS)
            errors = self.problem.residuals(ends.theta)[0]
            residuals = self.errors[index][runs]
            residuals = residuals * np.sqrt(units / max(units - len(self.form.parameters), 1))
            errors = errors[:, origin.held_out] + generator.choice(residuals, size=(replicates, 1))
            low, high = interval(errors)
            shares.append(float(((low <= 0) & (high >= 0)).mean()))
        return shares


def make_problem(table: RunTable, form: Form) -> tuple[Problem, FloatArray, float]:
    """The form and the runs, centred and scaled; the centre (A,) and the scale."""
    logs = np.log(np.stack([table.axis(axis) for axis in form.axes]))
    centre = np.where([axis in form.uncentred for axis in form.axes], 0.0, logs.mean(1))
    scale = float(np.exp(np.log(table.loss).mean()))
    return Problem(form, logs - centre[:, None], np.log(table.loss / scale)), centre, scale


def fitted_masks(table: RunTable, form: Form, origins: Sequence[Origin], window: float | None) -> tuple[Mask, ...]:
    """The runs fitted of the whole table and at each origin; () where they are too few for the form."""
    whole = np.ones(len(table), dtype=bool)
    masks = tuple(
        within_window(table, form, fitted, window) for fitted in (whole, *[origin.fitted for origin in origins])
    )
    return masks if all(_enough(table, form, mask) for mask in masks) else ()


def within_window(table: RunTable, form: Form, fitted: Mask, window: float | None) -> Mask:
    """Those of the fitted runs (M,) within `window` of the largest size, more where they are few; all if it is None."""
    if window is None:
        return fitted
    sizes = table.axis(form.axes[0])
    descending = np.sort(sizes[fitted])[::-1]
    needed = min(RUNS_A_PARAMETER * len(form.parameters), len(descending))
    smallest = min(descending[0] / window, descending[needed - 1])
    return np.asarray(fitted & (sizes >= smallest * (1 - 1e-6)))


def _enough(table: RunTable, form: Form, mask: Mask) -> bool:
    return int(mask.sum()) > len(form.parameters) and all(
        len(distinct_sizes(table.axis(axis)[mask])) >= 2 for axis in form.axes
    )


def try_form(
    problem: Problem, window: float | None, masks: tuple[Mask, ...], group: NDArray[np.intp], objective: Objective
) -> Trial:
    """Fit every mask, each from STARTS projections of its own runs."""
    loss, starts, counts = np.exp(problem.log_loss), [], []
    for mask in masks:
        # Each fit starts from projections of its own runs alone. What it takes from the held-out ones is Huber's delta,
        # where that follows from the scatter (`common_delta`), and the unit of the loss.
        candidates = problem.form.starts(problem.logs[:, mask], loss[mask], np.ones(int(mask.sum())))
        own = candidates[np.r_[0 : STARTS // 2, np.linspace(STARTS // 2, len(candidates) - 1, STARTS // 2).astype(int)]]
        starts.append(own)
        counts.append(np.repeat(mask[None].astype(float), len(own), axis=0))
    ends = minimize(problem, objective, np.concatenate(counts), np.concatenate(starts))
    best = ends.objective.reshape(len(masks), STARTS).argmin(1) + STARTS * np.arange(len(masks))
    return Trial(problem, window, masks, group, Minimum(ends.theta[best], ends.objective[best], ends.gradient[best]))


def common_delta(problems: Sequence[Problem]) -> float:
    """Huber's delta for all forms alike, from the scatter of the one that fits all runs best; as `fit` sets its own."""
    deltas = []
    for problem in problems:
        count = len(problem.log_loss)
        trial = try_form(problem, None, (np.ones(count, dtype=bool),), np.arange(count), FIRST)
        deltas.append(delta_for_scatter(trial.errors[0], len(problem.form.parameters)))
    return min(deltas)


def plain_errors(table: RunTable, axes: Sequence[str], origins: Sequence[Origin]) -> dict[str, list[FloatArray]]:
    """What is predicted without a law, as errors (H,) of log loss at each origin.

    "nearest smaller run": the loss of the fitted run nearest in log size (the mean over runs as near). "mean": that of
    all fitted runs.
    """
    logs = np.log(np.stack([table.axis(axis) for axis in axes]))
    logs = logs / np.maximum(logs.std(1, keepdims=True), 1e-12)
    log_loss = np.log(table.loss)
    errors: dict[str, list[FloatArray]] = {"nearest smaller run": [], "mean of the runs": []}
    for origin in origins:
        far = np.sqrt(((logs[:, origin.held_out, None] - logs[:, None, origin.fitted]) ** 2).sum(0))
        near = far <= far.min(1, keepdims=True) + 1e-6
        known = log_loss[origin.fitted]
        observed = log_loss[origin.held_out]
        errors["nearest smaller run"].append((near @ known) / near.sum(1) - observed)
        errors["mean of the runs"].append(known.mean() - observed)
    return errors


def plain_scores(table: RunTable, axes: Sequence[str], origins: Sequence[Origin]) -> dict[str, tuple[Score, ...]]:
    """Scores of the predictions that need no law."""
    return {
        name: tuple(
            replace(
                Score(origin.axis, origin.size, int(origin.fitted.sum()), int(origin.held_out.sum()), 0.0),
                rmse=float(np.sqrt(np.mean(error**2))),
            )
            for origin, error in zip(origins, errors, strict=True)
        )
        for name, errors in plain_errors(table, axes, origins).items()
    }


def neighbour_correlation(trial: Trial) -> float:
    """Correlation of residuals next to each other in order of predicted loss, in standard errors; 0 if too few.

    About a standard normal where the residuals are random. The seeds of one configuration share its misfit whatever the
    form, so they enter as their mean. Source: the lag-one autocorrelation's large-sample error,
    1 / sqrt(n): Box, Jenkins and Reinsel 1994, sec. 2.1.6.
    """
    mask, errors = trial.masks[0], trial.errors[0]
    group = np.unique(trial.group[mask], return_inverse=True)[1]
    count = np.bincount(group)
    predicted, residual = (np.bincount(group, row[mask]) / count for row in (errors + trial.problem.log_loss, errors))
    residual = residual[np.argsort(predicted, kind="stable")]
    squares = float((residual**2).sum())
    if len(residual) < FEWEST_RUNS or squares <= 0:
        return 0.0
    return float((residual[1:] * residual[:-1]).sum() / squares * np.sqrt(len(residual)))
