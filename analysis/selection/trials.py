"""Fit a form to the runs before each of several origins at once.

Legend of shapes: P parameters, M runs.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from analysis.arrays import BoolArray, FloatArray, IntArray
from analysis.fitting import Minimum, Objective, Problem, minimize, neighbour_correlation, spread
from analysis.forms import Form
from analysis.selection.origins import Origin
from analysis.selection.scores import Score
from analysis.tables import RunTable, distinct_sizes

RUNS_A_PARAMETER = 2
"""Least number of runs that a window holds for each parameter."""
STARTS = 6


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
    masks: tuple[BoolArray, ...]
    group: IntArray
    ends: Minimum

    @property
    def form(self) -> Form:
        return self.problem.form

    @cached_property
    def errors(self) -> FloatArray:
        """(1 + origins, M) log of predicted over observed loss."""
        errors: FloatArray = self.problem.residuals(self.ends.theta)[0]
        return errors

    @property
    def correlation(self) -> float:
        """Of neighbouring residuals of the fit to the whole table, see `neighbour_correlation`."""
        mask, error = self.masks[0], self.errors[0]
        return neighbour_correlation(error[mask], (error + self.problem.log_loss)[mask], self.group[mask])

    def scores(self, origins: Sequence[Origin]) -> tuple[Score, ...]:
        """A score for each origin, without coverage."""
        return tuple(
            Score(
                origin.axis,
                origin.size,
                int(mask.sum()),
                int(origin.held_out.sum()),
                float(np.sqrt(np.mean(error[origin.held_out] ** 2))),
            )
            for origin, mask, error in zip(origins, self.masks[1:], self.errors[1:], strict=True)
        )


def try_form(
    problem: Problem, window: float | None, masks: tuple[BoolArray, ...], group: IntArray, objective: Objective
) -> Trial:
    """Fit every mask, each from STARTS projections of its own runs.

    What a fit takes from held-out runs is Huber's delta, where that follows from the scatter (`settle_objective`), and
    the unit of the loss.
    """
    loss, starts, counts = np.exp(problem.log_loss), [], []
    for mask in masks:
        candidates = problem.form.starts(problem.logs[:, mask], loss[mask], np.ones(int(mask.sum())))
        starts.append(spread(candidates, STARTS))
        counts.append(np.repeat(mask[None].astype(float), STARTS, axis=0))
    ends = minimize(problem, objective, np.concatenate(counts), np.concatenate(starts))
    best = ends.objective.reshape(len(masks), STARTS).argmin(1) + STARTS * np.arange(len(masks))
    return Trial(problem, window, masks, group, Minimum(ends.theta[best], ends.objective[best], ends.gradient[best]))


def fitted_masks(table: RunTable, form: Form, origins: Sequence[Origin], window: float | None) -> tuple[BoolArray, ...]:
    """The runs fitted of the whole table and at each origin; () where they are too few for the form."""
    whole = np.ones(len(table), dtype=bool)
    masks = tuple(
        within_window(table, form, fitted, window) for fitted in (whole, *[origin.fitted for origin in origins])
    )
    return masks if all(_enough(table, form, mask) for mask in masks) else ()


def within_window(table: RunTable, form: Form, fitted: BoolArray, window: float | None) -> BoolArray:
    """Those of the fitted runs (M,) within `window` of the largest size, more where they are few; all if it is None."""
    if window is None:
        return fitted
    sizes = table.axis(form.axes[0])
    descending = np.sort(sizes[fitted])[::-1]
    needed = min(RUNS_A_PARAMETER * len(form.parameters), len(descending))
    smallest = min(descending[0] / window, descending[needed - 1])
    return np.asarray(fitted & (sizes >= smallest * (1 - 1e-6)))


def _enough(table: RunTable, form: Form, mask: BoolArray) -> bool:
    return int(mask.sum()) > len(form.parameters) and all(
        len(distinct_sizes(table.axis(axis)[mask])) >= 2 for axis in form.axes
    )
