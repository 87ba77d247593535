"""Which form predicts larger runs from smaller ones, which forms the runs reject, and whether any form is needed."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from analysis.arrays import BoolArray
from analysis.fitting import (
    DEFAULT_REPLICATES,
    FitChoice,
    Law,
    Objective,
    make_problem,
    names_at_bound,
    resampling_unit,
    settle_objective,
)
from analysis.forms import FORMS, Form, find_form
from analysis.selection.choice import Contender, choose
from analysis.selection.held_out import REPLICATES, needed_replicates, predict_held_out
from analysis.selection.origins import REACH, Origin, require_few_runs, rolling_origins
from analysis.selection.plain import Plain, plain_scores, reasons_against
from analysis.selection.trials import Trial, fitted_masks, try_form
from analysis.tables import RunTable, distinct_sizes
from scaling.errors import DataError

WINDOWS = (None, 10.0)
"""A form of one axis is tried on all runs and on the last decade of sizes alone: a power law need not hold from the
smallest size on."""


@dataclass(frozen=True)
class Comparison:
    """Contenders from the lowest to the highest error on held-out runs; those without a score last.

    Attributes:
        best: the simplest of those whose error is within one standard error of the lowest.
        plain: what is predicted without a law.
        against: why there is no power law here; empty where there is.
        objective: of every fit.
        reach: how far beyond each origin runs were predicted, as a factor in size.
    """

    table: RunTable
    contenders: tuple[Contender, ...]
    best: Contender
    plain: tuple[Plain, ...]
    against: tuple[str, ...]
    objective: Objective
    reach: float

    @property
    def chosen(self) -> Contender | None:
        """The best, or None where there is no power law."""
        return None if self.against else self.best

    @property
    def verdict(self) -> str:
        """The answer in one sentence."""
        if self.against:
            return f"No power law here: {'; '.join(self.against)}."
        plain = min(self.plain, key=lambda one: one.rmse)
        return (
            f"Chosen: {self.best.name}. It predicts larger runs to {self.best.rmse:.3g} in log loss; "
            f"the {plain.name} to {plain.rmse:.3g}."
        )

    def fit(self, *, replicates: int = DEFAULT_REPLICATES, seed: int = 0) -> Law:
        """The best form, fitted to its runs with the objective of the comparison."""
        form = self.best.form
        sizes = self.table.axis(form.axes[0])
        kept = self.table if self.best.window is None else self.table.keep(sizes >= self.best.smallest * (1 - 1e-6))
        return FitChoice.of_parts(form, self.objective, replicates, seed).apply(kept)


def compare(
    table: RunTable,
    forms: Sequence[str] | None = None,
    *,
    axis: str | None = None,
    objective: str = "huber",
    delta: float | None = None,
    reach: float = REACH,
    windows: tuple[float | None, ...] = WINDOWS,
    replicates: int = REPLICATES,
    seed: int = 0,
) -> Comparison:
    """Fit each form to the smaller runs, predict the larger ones, from several origins; rank, choose and reject.

    The simplest form wins whose error is within one standard error (over the origins) of the lowest.

    Args:
        forms: names; if None all whose axes vary in the table (of one axis, where only one varies or `axis` is given).
        axis: for forms of one axis.
        objective: as for `fit`; where delta follows from the scatter, it is that of the form that fits all runs best,
            the held-out ones among them.
        reach: how far beyond each origin runs are predicted, as a factor in size.
        windows: which of the largest sizes forms of one axis are fitted to, as a factor; None for all.
        replicates: 0 for no intervals of held-out runs; else refits for them at each origin where they are the
            bootstrap's. They are made in one window of each form.
    Raises:
        ConfigError: on an unknown form, objective or axis, or a reach that is not above 1.
        DataError: if no form can be fitted at any origin, or the runs are more than MAX_COMPARED.
    Source: rolling origins: Tashman 2000, doi:10.1016/S0169-2070(00)00065-0; the simplest within one standard error:
        Breiman et al. 1984, sec. 3.4.3.
    """
    require_few_runs(table)
    candidates = [_form(name, axis or _only_axis(table)) for name in forms or default_forms(table, axis)]
    axes = tuple(dict.fromkeys(name for form in candidates for name in form.axes if name not in form.uncentred))
    origins = rolling_origins(table, axes, reach)
    able = [form for form in candidates if origins and fitted_masks(table, form, origins, None)]
    if not able:
        raise DataError(_too_few(table, candidates, axes, origins))
    trials, chosen = _try_all(table, able, origins, windows, objective, delta)
    contenders = [_contender(table, trial, origins) for trial in trials]
    plain = plain_scores(table, axes, origins)
    best, judged = choose(contenders, trials)
    whole = next(one for one in trials if one.form == best.form and one.window is None)
    against = reasons_against(whole.problem, whole.errors[0], best.form.name, best.scores, plain, predictor=best.name)
    if replicates:
        judged = _with_coverage(table, judged, trials, best, origins, chosen, replicates, seed)
    unable = [form for form in candidates if form not in able]
    unscored = [
        Contender(form, None, float("nan"), len(table), reasons=(_cannot(table, form, origins),)) for form in unable
    ]
    ranked = (*sorted(judged, key=lambda one: one.rmse), *unscored)
    best = next(one for one in ranked if one.form == best.form and one.window == best.window)
    return Comparison(table, ranked, best, plain, against, chosen, reach)


def _try_all(
    table: RunTable,
    forms: Sequence[Form],
    origins: Sequence[Origin],
    windows: Sequence[float | None],
    objective: str,
    delta: float | None,
) -> tuple[list[Trial], Objective]:
    """Every form in every window, all with one objective."""
    problems = {form.name: make_problem(table, form)[0] for form in forms}
    chosen = settle_objective(objective, delta, list(problems.values()))
    group = resampling_unit(table)[1]
    trials = [
        try_form(problems[form.name], window, masks, group, chosen)
        for form in forms
        for window, masks in _windows(table, form, origins, windows)
    ]
    return trials, chosen


def default_forms(table: RunTable, axis: str | None = None) -> list[str]:
    """Forms all of whose axes vary: those of one axis if `axis` is given or only one varies, else the others."""
    vary = varying_axes(table)
    if axis is not None or len(vary) < 2:
        return [name for name, form in FORMS.items() if len(form.axes) == 1 and name != "compute"]
    return [name for name, form in FORMS.items() if len(form.axes) > 1 and set(form.axes) <= set(vary)]


def varying_axes(table: RunTable) -> list[str]:
    """Axes of the table that every run has, and of which there is more than one size."""
    found = []
    for axis, sizes in table.sizes.items():
        if np.isfinite(sizes).all() and (sizes > 0).all() and len(distinct_sizes(sizes)) > 1:
            found.append(axis)
    return found


def _only_axis(table: RunTable) -> str | None:
    vary = [axis for axis in ("N", "D", "C") if axis in varying_axes(table)]
    return vary[0] if vary else None


def _form(name: str, axis: str | None) -> Form:
    return find_form(name, axis if name in FORMS and len(FORMS[name].axes) == 1 else None)


def _windows(
    table: RunTable, form: Form, origins: Sequence[Origin], windows: Sequence[float | None]
) -> list[tuple[float | None, tuple[BoolArray, ...]]]:
    """The windows that leave something out of the whole table, each with its runs; forms of two axes have none."""
    found: list[tuple[float | None, tuple[BoolArray, ...]]] = []
    for window in windows if len(form.axes) == 1 else (None,):
        masks = fitted_masks(table, form, origins, window)
        if masks and not any((masks[0] == known[0]).all() for _, known in found):
            found.append((window, masks))
    return found


def _contender(table: RunTable, trial: Trial, origins: Sequence[Origin]) -> Contender:
    form, mask = trial.form, trial.masks[0]
    smallest = float(table.axis(form.axes[0])[mask].min())
    at_bound = names_at_bound(trial.problem, trial.ends.theta[:1])[0]
    return Contender(form, trial.window, smallest, int(mask.sum()), trial.scores(origins), at_bound=at_bound)


def _with_coverage(
    table: RunTable,
    contenders: Sequence[Contender],
    trials: Sequence[Trial],
    best: Contender,
    origins: Sequence[Origin],
    objective: Objective,
    replicates: int,
    seed: int,
) -> list[Contender]:
    """With intervals, which take a law an origin, for one window of each form: its lowest error, or the best's own."""
    found = []
    for contender, trial in zip(contenders, trials, strict=True):
        alike = [one for one in contenders if one.form == contender.form]
        shown = min(alike, key=lambda one: (one.form == best.form and one.window != best.window, one.rmse))
        if contender is shown:
            shares = _coverage(table, trial, origins, objective, replicates, seed)
            scores = [replace(score, coverage=share) for score, share in zip(contender.scores, shares, strict=True)]
            contender = replace(contender, scores=tuple(scores))
        found.append(contender)
    return found


def _coverage(
    table: RunTable, trial: Trial, origins: Sequence[Origin], objective: Objective, replicates: int, seed: int
) -> list[float | None]:
    """At each origin the share of the held-out runs inside the intervals that a law of the fitted ones reports."""
    shares: list[float | None] = []
    for origin, mask in zip(origins, trial.masks[1:], strict=True):
        fitted = table.keep(mask)
        try:
            choice = FitChoice.of_parts(trial.form, objective, needed_replicates(fitted, replicates), seed)
            law = choice.apply(fitted)
        except DataError:  # e.g. one loss only
            shares.append(None)
            continue
        shares.append(predict_held_out(law, table, origin).coverage)
    return shares


def _cannot(table: RunTable, form: Form, origins: Sequence[Origin]) -> str:
    smallest = min([int(origin.fitted.sum()) for origin in origins], default=len(table))
    return (
        f"too few runs for its {len(form.parameters)} parameters: {smallest} at the smallest origin, "
        f"at least {len(form.parameters) + 1} are needed, and two sizes of {' and '.join(form.axes)}"
    )


def _too_few(table: RunTable, forms: Sequence[Form], axes: Sequence[str], origins: Sequence[Origin]) -> str:
    sizes = ", ".join(f"{len(distinct_sizes(table.axis(axis)))} of {table.columns.get(axis, axis)}" for axis in axes)
    first = f"; the first excluded: {table.excluded[0].run}: {table.excluded[0].reason}" if table.excluded else ""
    return (
        f"{table.source}: too few runs or sizes to predict the larger from the smaller: {len(table)} runs, "
        f"sizes {sizes}; an origin needs 3 sizes, 6 runs and one more size to predict{first}"
    )
