"""Whether the data determine an exponent, and if not, why, in words.

The limits were set on simulated studies of five by five sizes with 5 to 10 % scatter; the tests hold them to it: an
axis that does not matter is called identified in hardly any of the tables, one that does in most.
"""

from dataclasses import dataclass

import numpy as np

from analysis.arrays import FloatArray
from analysis.fitting.optimum import Optimum
from analysis.fitting.profile import Interval
from analysis.fitting.resampling import Bootstrap
from analysis.forms import Parameter
from analysis.tables import RunTable, distinct_sizes

MIN_SIZES = 4
"""A floor, a coefficient and an exponent go exactly through three sizes; the fourth is the first that can object."""
MAX_RELATIVE_WIDTH = 1.0
"""Widest 95 % interval, over the value, that still says more than the sign and the order of magnitude."""
MAX_AT_BOUND = 0.025
"""Share of resampled tables that may run to the edge of the range: more, and the interval ends at the edge."""
MAX_LOSS_FACTOR = 4.0
"""Widest 95 % interval of a predicted loss, upper over lower end, that is still a prediction: half to double."""
MIN_VISIBILITY = 3.0
"""Smallest change of log loss along the sampled axis, in residual standard deviations, that is not noise."""


@dataclass(frozen=True)
class Verdict:
    """Whether one exponent is identified; the reasons are empty exactly if it is."""

    exponent: str
    reasons: tuple[str, ...]

    @property
    def identified(self) -> bool:
        return not self.reasons

    @property
    def sentence(self) -> str:
        """The verdict in words."""
        if self.identified:
            return f"the data determine {self.exponent}"
        return f"the data do not determine {self.exponent}: {'; '.join(self.reasons)}"


def judge_exponents(
    table: RunTable,
    optimum: Optimum,
    samples: Bootstrap | None,
    intervals: tuple[Interval, ...] | None,
    residual_sd: float,
    from_bootstrap: bool,
) -> tuple[Verdict, ...]:
    """A verdict for every exponent of the form.

    Args:
        intervals: the 95 % interval of each parameter, None where they are a bootstrap's that was not asked for.
        residual_sd: residual standard deviation of log loss.
        from_bootstrap: whether the intervals are the bootstrap's; a profile says itself where it has no end.
    """
    verdicts = []
    for column, parameter in enumerate(optimum.problem.form.parameters):
        if parameter.kind == "exponent":
            reasons = [
                *_reasons_of_design(table, parameter),
                *_reasons_of_fit(optimum, column, residual_sd),
                *_reasons_of_interval(
                    optimum, samples, intervals[column] if intervals else None, column, from_bootstrap
                ),
            ]
            verdicts.append(Verdict(parameter.name, tuple(reasons)))
    return tuple(verdicts)


def _reasons_of_design(table: RunTable, parameter: Parameter) -> list[str]:
    reasons = []
    for axis in parameter.axes:
        count = len(distinct_sizes(table.axis(axis)))
        if count < MIN_SIZES:
            reasons.append(f"{axis} takes {count} different sizes, at least {MIN_SIZES} are needed")
    return reasons


def _reasons_of_fit(optimum: Optimum, column: int, residual_sd: float) -> list[str]:
    """What the optimum itself says against an exponent: not converged, at its bound, or without visible effect."""
    parameter = optimum.problem.form.parameters[column]
    reasons = []
    if not optimum.converged:
        reasons.append("the fit did not converge")
    if parameter.name in optimum.at_bound:
        reasons.append(f"the fit ran to the edge of its range, {optimum.theta[column]:g}")
    for axis in parameter.axes:
        change = change_along(optimum, axis)
        if change < MIN_VISIBILITY * residual_sd:
            reasons.append(
                f"over the sampled {axis} the loss changes by {100 * np.expm1(change):.1f} %, "
                f"not clearly more than the residual standard deviation of {100 * np.expm1(residual_sd):.1f} %"
            )
    return reasons


def _reasons_of_interval(
    optimum: Optimum, samples: Bootstrap | None, interval: Interval | None, column: int, from_bootstrap: bool
) -> list[str]:
    """What the exponent's interval says against it: none, one that reaches zero or has no end, or too wide a one."""
    if interval is None:
        return ["no bootstrap was made, so there is no interval to judge"]
    reasons = []
    value, low, high = float(optimum.theta[column]), interval.low, interval.high
    if samples is not None and from_bootstrap and samples.at_bound[column] > MAX_AT_BOUND:
        reasons.append(
            f"in {100 * samples.at_bound[column]:.0f} % of the resampled tables it ran to the edge of its range"
        )
    if low <= 0:
        reasons.append(f"its 95 % interval [{low:.2f}, {high:.2f}] reaches zero")
    elif interval.high_open:
        reasons.append(f"its 95 % interval [{low:.2f}, {high:.2f}] has no upper end")
    elif high - low > MAX_RELATIVE_WIDTH * value:
        reasons.append(f"its 95 % interval [{low:.2f}, {high:.2f}] is wider than the value {value:.2f} itself")
    return reasons


def judge_loss(name: str, converged: bool, low: float, high: float) -> Verdict:
    """A verdict for a predicted loss with this 95 % interval."""
    reasons = [] if converged else ["the fit did not converge"]
    if not high <= MAX_LOSS_FACTOR * low:
        reasons.append(
            f"its 95 % interval [{low:.3g}, {high:.3g}] spans more than a factor {MAX_LOSS_FACTOR:g}"
            if low > 0 and np.isfinite(high)
            else f"its 95 % interval [{low:.3g}, {high:.3g}] has an end that the runs do not bound"
        )
    return Verdict(name, tuple(reasons))


def change_along(optimum: Optimum, axis: str) -> float:
    """Fall of log loss from the smallest to the largest sampled size of `axis`, the other axes at their largest."""
    form, logs = optimum.problem.form, optimum.problem.logs
    row = form.axes.index(axis)
    ends: FloatArray = np.repeat(logs.max(1)[:, None], 2, axis=1)
    ends[row] = logs[row].min(), logs[row].max()
    value = form.evaluate(optimum.theta[None], ends)[0][0]
    return float(np.log(value[0] / value[1]))
