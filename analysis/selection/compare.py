"""Which form predicts larger runs from smaller ones, which forms the runs reject, and whether any form is needed."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.special import fdtrc

from analysis.fitting.law import Law, fit
from analysis.fitting.objective import SMALL_TABLE, Objective, choose_objective
from analysis.fitting.optimum import SMALL_GRADIENT, names_at_bound
from analysis.fitting.resampling import DEFAULT_REPLICATES, resampling_unit
from analysis.forms.registry import FORMS, Form, find_form
from analysis.selection.rolling import (
    Origin,
    Score,
    Trial,
    common_delta,
    fitted_masks,
    make_problem,
    neighbour_correlation,
    plain_scores,
    rolling_origins,
    try_form,
)
from analysis.tables import RunTable, distinct_sizes
from analysis.texts import size_text
from scaling.errors import ConfigError, DataError

REACH = 2.0
WINDOWS = (None, 10.0)
"""A form of one axis is tried on all runs and on the last decade of sizes alone: a power law need not hold from the
smallest size on."""
REPLICATES = 100
MAX_COMPARED = 2_000
"""Each form is fitted dozens of times: minutes beyond this many runs."""
MOST_CORRELATION = 3.0
"""Correlation of neighbouring residuals, in standard errors, from which a fit misses the shape of the runs."""
MOST_CHANCE = 0.01
"""A law is needed where a constant would leave residuals as much larger by chance less often than this."""


@dataclass(frozen=True)
class Contender:
    """A form, and the runs it is fitted to.

    Attributes:
        window: None for all runs; else sizes within this factor of the largest (more where they are few).
        smallest: the smallest size that is fitted.
        scores: one for each origin; empty where it could not be scored.
        worse: mean over the origins of its error less the lowest one's, and the standard error of that mean.
        at_bound: parameters on the edge of their range in the fit to all its runs.
        reasons: why it is not the chosen one; empty for that.
    """

    form: Form
    window: float | None
    smallest: float
    num_runs: int
    scores: tuple[Score, ...] = ()
    worse: tuple[float, float] | None = None
    at_bound: tuple[str, ...] = ()
    reasons: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The form, and from which size on it is fitted where that is not all runs."""
        return self.form.name if self.window is None else f"{self.form.name} from {size_text(self.smallest)}"

    @property
    def rmse(self) -> float:
        """Error of log loss on held-out runs, mean over the origins; NaN without scores."""
        return _mean(self.scores)

    @property
    def coverage(self) -> float | None:
        """Share of the held-out runs inside their 95 % interval, all origins together."""
        shares = [score.coverage for score in self.scores if score.coverage is not None]
        if not shares or len(shares) < len(self.scores):
            return None
        return float(np.average(shares, weights=[score.num_held_out for score in self.scores]))

    @property
    def complexity(self) -> tuple[int, int, bool]:
        """How much is claimed: parameters but for a floor, no floor, all sizes.

        A form without a floor says that the loss falls to zero, which is more than to say that it may end anywhere; a
        law of all sizes says more than one of the largest alone.
        """
        floors = sum(parameter.kind == "floor" for parameter in self.form.parameters)
        return len(self.form.parameters) - floors, -floors, self.window is None


@dataclass(frozen=True)
class Plain:
    """A prediction that needs no law."""

    name: str
    scores: tuple[Score, ...]

    @property
    def rmse(self) -> float:
        """Error of log loss on held-out runs, mean over the origins."""
        return _mean(self.scores)


@dataclass(frozen=True)
class Comparison:
    """Contenders from the lowest to the highest error on held-out runs; those without a score last.

    Attributes:
        best: the simplest of those whose error is not told from the lowest.
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
        return fit(
            kept,
            form.name,
            axis=form.axes[0] if len(form.axes) == 1 else None,
            objective=self.objective.name,
            delta=self.objective.delta if self.objective.name == "huber" else None,
            replicates=replicates,
            seed=seed,
        )


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
        replicates: refits at each origin for the intervals of held-out runs, in one window of each form; 0 for none.
    Raises:
        ConfigError: on an unknown form, objective or axis, or a reach that is not above 1.
        DataError: if no form can be fitted at any origin, or the runs are more than MAX_COMPARED.
    Source: rolling origins: Tashman 2000, doi:10.1016/S0169-2070(00)00065-0; the simplest within one standard error:
        Breiman et al. 1984, sec. 3.4.3.
    """
    if not 1 < reach < np.inf:
        raise ConfigError(f"reach={reach:g} must be above 1: the factor in size by which runs are predicted ahead")
    if len(table) > MAX_COMPARED:
        raise DataError(
            f"{table.source}: {len(table):,} runs are more than {MAX_COMPARED:,}, which forms are compared on; keep "
            "each run's last checkpoint, or checkpoints evenly spaced in the logarithm of size"
        )
    chosen = choose_objective(objective, delta)
    candidates = [_form(name, axis or _only_axis(table)) for name in forms or default_forms(table, axis)]
    axes = tuple(dict.fromkeys(name for form in candidates for name in form.axes if name not in form.uncentred))
    origins = rolling_origins(table, axes, reach)
    able = [form for form in candidates if origins and fitted_masks(table, form, origins, None)]
    if not able:
        raise DataError(_too_few(table, candidates, axes, origins))
    problems = {form.name: make_problem(table, form)[0] for form in able}
    if objective == "huber" and delta is None and len(table) < SMALL_TABLE:
        chosen = Objective("huber", common_delta(list(problems.values())))
    group = resampling_unit(table)[1]
    trials = [
        try_form(problems[form.name], window, masks, group, chosen)
        for form in able
        for window, masks in _windows(table, form, origins, windows)
    ]
    contenders = [_contender(table, trial, origins) for trial in trials]
    plain = tuple(Plain(name, scores) for name, scores in plain_scores(table, axes, origins).items())
    best, judged = _choose(contenders, trials)
    against = _against(best, trials[contenders.index(best)], trials, plain)
    if replicates:
        judged = _with_coverage(judged, trials, best, origins, chosen, replicates, seed)
    unscored = [
        Contender(form, None, float("nan"), len(table), reasons=(_cannot(table, form, origins),))
        for form in candidates
        if form not in able
    ]
    ranked = tuple(sorted(judged, key=lambda one: one.rmse)) + tuple(unscored)
    best = next(one for one in ranked if one.form == best.form and one.window == best.window)
    return Comparison(table, ranked, best, plain, against, chosen, reach)


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
) -> list[tuple[float | None, tuple[np.ndarray, ...]]]:
    """The windows that leave something out of the whole table, each with its runs; forms of two axes have none."""
    found: list[tuple[float | None, tuple[np.ndarray, ...]]] = []
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
    contenders: Sequence[Contender],
    trials: Sequence[Trial],
    best: Contender,
    origins: Sequence[Origin],
    objective: Objective,
    replicates: int,
    seed: int,
) -> list[Contender]:
    """Intervals are refits, so they are made for one window of each form: its lowest error, or the best's own."""
    found = []
    for contender, trial in zip(contenders, trials, strict=True):
        alike = [one for one in contenders if one.form == contender.form]
        shown = min(alike, key=lambda one: (one.form == best.form and one.window != best.window, one.rmse))
        if contender is shown:
            shares = trial.coverage(origins, objective, replicates, seed)
            contender = replace(contender, scores=trial.scores(origins, shares))
        found.append(contender)
    return found


def _choose(contenders: Sequence[Contender], trials: Sequence[Trial]) -> tuple[Contender, list[Contender]]:
    """The best contender, and all of them with their distance from the lowest error and their reasons."""
    faults = [_faults(trial) for trial in trials]
    fit_for = [one for one, fault in zip(contenders, faults, strict=True) if not fault] or list(contenders)
    lowest = min(fit_for, key=lambda one: one.rmse)
    distances = [_worse(one, lowest) for one in contenders]
    ties = [
        one
        for one, (mean, error) in zip(contenders, distances, strict=True)
        if one in fit_for and (mean <= error or one is lowest)
    ]
    best = min(ties, key=lambda one: (one.complexity, one.rmse))
    judged = []
    for one, fault, worse in zip(contenders, faults, distances, strict=True):
        reasons = () if one is best else (*fault, *_reasons(one, best, tied=one in ties, worse=worse))
        judged.append(replace(one, worse=worse, reasons=reasons))
    return best, judged


def _worse(one: Contender, lowest: Contender | Plain) -> tuple[float, float]:
    """Mean difference of the errors and its standard error over the origins; infinite for a single origin."""
    difference = np.array([a.rmse - b.rmse for a, b in zip(one.scores, lowest.scores, strict=True)])
    error = float(difference.std(ddof=1) / np.sqrt(len(difference))) if len(difference) > 1 else float("inf")
    return float(difference.mean()), error


def _faults(trial: Trial) -> tuple[str, ...]:
    """What is wrong with the fit itself."""
    faults = []
    if trial.ends.gradient[0] > SMALL_GRADIENT and trial.ends.objective[0] > 1e-18 * len(trial.masks[0]):
        faults.append("the fit did not converge")
    correlation = neighbour_correlation(trial)
    if correlation > MOST_CORRELATION:
        faults.append(
            f"lack of fit: its residuals are not random (neighbours correlate, {correlation:.1f} standard errors)"
        )
    return tuple(faults)


def _reasons(one: Contender, best: Contender, *, tied: bool, worse: tuple[float, float]) -> list[str]:
    reasons = [f"{', '.join(one.at_bound)} at the edge of its range"] if one.at_bound else []
    if tied and one.complexity > best.complexity:
        reasons.append(f"no better out of sample than the simpler {best.name}, within one standard error")
    elif tied:
        reasons.append(f"as good out of sample as {best.name}, within one standard error")
    elif one.rmse > best.rmse:
        reasons.append(f"worse out of sample: {one.rmse:.3g} in log loss, {best.name} {best.rmse:.3g}")
    return reasons


def _against(best: Contender, trial: Trial, trials: Sequence[Trial], plain: Sequence[Plain]) -> tuple[str, ...]:
    against = []
    logs = trial.problem.logs - trial.problem.logs.mean(1, keepdims=True)
    slopes = np.linalg.lstsq(logs.T, trial.problem.log_loss - trial.problem.log_loss.mean(), rcond=None)[0]
    if (slopes >= 0).all():
        against.append(f"the loss does not fall with {' or '.join(trial.form.axes)} (straight lines in logs rise)")
    least = min(plain, key=lambda one: one.rmse)
    mean, error = _worse(best, least)
    if mean > error or (len(best.scores) == 1 and mean > 0):
        against.append(
            f"no form predicts the held-out runs better ({best.name}: {best.rmse:.3g} in log loss) than the "
            f"{least.name} ({least.rmse:.3g})"
        )
    whole = next(one for one in trials if one.form == trial.form and one.window is None)
    chance = _chance_of_constant(whole)
    if chance > MOST_CHANCE:
        against.append(
            f"over all sizes {whole.form.name} describes the runs no better than a constant does "
            f"(F test: p = {chance:.2g}): the loss does not fall with size, or by less than the scatter"
        )
    return tuple(against)


def _chance_of_constant(trial: Trial) -> float:
    """How often a constant would be as much worse than the form, by chance; approximate, as the form is not linear."""
    log_loss, errors = trial.problem.log_loss, trial.errors[0]
    extra, freedom = len(trial.form.parameters) - 1, len(errors) - len(trial.form.parameters)
    squares, constant = float((errors**2).sum()), float(((log_loss - log_loss.mean()) ** 2).sum())
    if constant <= squares or freedom < 1:
        return 1.0
    if squares <= 0:
        return 0.0
    return float(fdtrc(extra, freedom, (constant - squares) / extra / (squares / freedom)))


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


def _mean(scores: Sequence[Score]) -> float:
    return float(np.mean([score.rmse for score in scores])) if scores else float("nan")
