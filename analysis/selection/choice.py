"""Which of several forms to choose, and why not each of the others."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from analysis.fitting import EXACT_FIT, SMALL_GRADIENT
from analysis.forms import Form
from analysis.selection.scores import Score, difference, mean_coverage, mean_rmse
from analysis.selection.trials import Trial
from analysis.texts import size_text

MOST_CORRELATION = 3.0
"""Correlation of neighbouring residuals, in standard errors, from which a fit misses the shape of the runs."""


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
        return mean_rmse(self.scores)

    @property
    def coverage(self) -> float | None:
        """Share of the held-out runs inside their 95 % interval, all origins together."""
        return mean_coverage(self.scores)

    @property
    def complexity(self) -> tuple[int, int, bool]:
        """How much is claimed: parameters but for a floor, no floor, all sizes.

        A form without a floor says that the loss falls to zero, which is more than to say that it may end anywhere; a
        law of all sizes says more than one of the largest alone.
        """
        floors = sum(parameter.kind == "floor" for parameter in self.form.parameters)
        return len(self.form.parameters) - floors, -floors, self.window is None


def choose(contenders: Sequence[Contender], trials: Sequence[Trial]) -> tuple[Contender, list[Contender]]:
    """The best contender, and all of them with their distance from the lowest error and their reasons."""
    faults = [_faults(trial) for trial in trials]
    fit_for = [one for one, fault in zip(contenders, faults, strict=True) if not fault] or list(contenders)
    lowest = min(fit_for, key=lambda one: one.rmse)
    distances = [difference(one.scores, lowest.scores) for one in contenders]
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


def _faults(trial: Trial) -> tuple[str, ...]:
    """What is wrong with the fit itself."""
    faults = []
    if trial.ends.gradient[0] > SMALL_GRADIENT and trial.ends.objective[0] > EXACT_FIT * len(trial.masks[0]):
        faults.append("the fit did not converge")
    if trial.correlation > MOST_CORRELATION:
        text = f"(neighbours correlate, {trial.correlation:.1f} standard errors)"
        faults.append(f"lack of fit: its residuals are not random {text}")
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
