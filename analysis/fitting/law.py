"""Fit a law to a table of runs: parameters with intervals, verdicts, and predictions with bands."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from analysis.arrays import FloatArray
from analysis.fitting.identify import Verdict, judge_exponents, judge_loss
from analysis.fitting.intervals import Uncertainty, uncertainty_of
from analysis.fitting.misfit import LackOfFit, lack_of_fit
from analysis.fitting.optimum import Optimum, find_optimum
from analysis.fitting.profile import Interval
from analysis.fitting.resampling import DEFAULT_REPLICATES, Bootstrap, bootstrap
from analysis.forms import Form, find_form
from analysis.tables import RunTable, load_runs
from scaling.errors import ConfigError

MIN_REPLICATES = 100
"""Fewer replicates leave too few beyond the ends of a 95 % interval to place them."""


@dataclass(frozen=True)
class Estimate:
    """A parameter in the user's units, its bootstrap standard error, and its interval (`analysis.fitting.intervals`).

    The error is None where no bootstrap was asked for; so is the interval from a hundred independent runs on, where it
    is the bootstrap's. `Law.interval` then gives that of the profile.
    """

    name: str
    value: float
    se: float | None
    ci95: tuple[float, float] | None


@dataclass(frozen=True)
class Law:
    """A fitted law.

    Attributes:
        table: the runs it was fitted to, and those left out.
        samples: bootstrap refits, None if none were asked for.
        seed: of the bootstrap.
    """

    table: RunTable
    form: Form
    optimum: Optimum
    samples: Bootstrap | None
    seed: int

    def __getitem__(self, name: str) -> Estimate:
        """The estimate called `name`, e.g. law["alpha"].value; ConfigError if there is none."""
        return self.params[self._place(name)]

    @cached_property
    def params(self) -> tuple[Estimate, ...]:
        """Estimates in the form's order."""
        names = [parameter.name for parameter in self.form.parameters]
        values = self.form.public(self.optimum.theta[None], self.optimum.centre, self.optimum.scale)[0]
        errors = [None] * len(names) if self.samples is None else self.samples.values.std(0, ddof=1).tolist()
        ends = [None] * len(names) if self._intervals is None else [(one.low, one.high) for one in self._intervals]
        return tuple(Estimate(*row) for row in zip(names, values.tolist(), errors, ends, strict=True))

    @cached_property
    def verdicts(self) -> tuple[Verdict, ...]:
        """For each exponent whether the data determine it."""
        from_bootstrap = self.uncertainty.method == "bootstrap"
        return judge_exponents(
            self.table, self.optimum, self.samples, self._intervals, self.residual_sd, from_bootstrap
        )

    @cached_property
    def _intervals(self) -> tuple[Interval, ...] | None:
        """The 95 % interval of each parameter, None where they are a bootstrap's that was not asked for."""
        return self.uncertainty.of_parameters() if self.uncertainty.is_known else None

    @cached_property
    def residuals(self) -> FloatArray:
        """(M,) log of observed over predicted loss."""
        residuals: FloatArray = -self.optimum.problem.residuals(self.optimum.theta[None])[0][0]
        return residuals

    @property
    def residual_sd(self) -> float:
        """Residual standard deviation of log loss, for the degrees of freedom that are left."""
        freedom = max(len(self.residuals) - len(self.form.parameters), 1)
        return float(np.sqrt((self.residuals**2).sum() / freedom))

    def predict(self, **sizes: ArrayLike) -> FloatArray:
        """Loss (Q,) at sizes given by axis, e.g. predict(N=1e9, D=2e10); axes the form does not have are ignored."""
        loss: FloatArray = self._predictions(self.optimum.theta[None], sizes)[0]
        return loss

    @cached_property
    def uncertainty(self) -> Uncertainty:
        """Profile and bootstrap of this fit; `uncertainty.of` gives intervals of anything computed from theta."""
        return uncertainty_of(self.table, self.optimum, self.samples)

    @cached_property
    def lack_of_fit(self) -> LackOfFit:
        """Whether the form itself is at fault."""
        return lack_of_fit(self.optimum, self.uncertainty.group)

    @cached_property
    def cautions(self) -> tuple[str, ...]:
        """What limits every use of the law; the one list that every command and page shows."""
        from analysis.fitting.cautions import find_cautions  # it needs laws itself

        return find_cautions(self.table, self)

    def interval(self, name: str, level: float = 0.95) -> Interval:
        """The interval of a parameter, at any level between 0.5 and 0.999."""
        return self.uncertainty.of_parameters(level)[self._place(name)]

    def band(self, *, level: float = 0.95, of_runs: bool = False, **sizes: ArrayLike) -> FloatArray:
        """(2, Q) pointwise band of the law or, with `of_runs`, of single further runs, at any level.

        The band of runs adds the residual standard deviation. Where the runs do not bound the loss, the band ends at 0
        or at infinity.
        """
        logs = self.logs(**sizes)
        ends = self.uncertainty.of_log_loss(logs, level)
        if of_runs:
            log_loss = np.log(self._predictions(self.optimum.theta[None], sizes)[0])
            ends = self.uncertainty.of_runs(log_loss, ends, self.residual_sd, level)
        return np.asarray(np.exp(ends))

    def judge_loss(self, **sizes: float) -> Verdict:
        """Whether the runs determine the loss predicted at one size, e.g. judge_loss(N=1e9, D=2e10)."""
        band = self.band(level=0.95, of_runs=False, **sizes)
        if band.shape != (2, 1):
            raise ConfigError(
                f"one size is judged at a time, e.g. {', '.join(f'{axis}=1e9' for axis in self.form.axes)}"
            )
        low, high = band[:, 0]
        where = ", ".join(f"{axis} = {sizes[axis]:.3g}" for axis in self.form.axes)
        return judge_loss(f"the loss at {where}", self.optimum.converged, float(low), float(high))

    def logs(self, **sizes: ArrayLike) -> FloatArray:
        """(A, Q) centred logarithms of sizes given by axis, as the form wants them.

        Raises:
            ConfigError: if an axis of the form is missing, or a size is not a positive number.
        """
        if missing := [axis for axis in self.form.axes if axis not in sizes]:
            raise ConfigError(f"form {self.form.name} also needs a size along {', '.join(missing)}")
        own = [_positive(axis, sizes[axis]) for axis in self.form.axes]
        try:
            rows = np.broadcast_arrays(*own)
        except ValueError as error:
            counts = ", ".join(f"{len(values)} of {axis}" for axis, values in zip(self.form.axes, own, strict=True))
            raise ConfigError(f"sizes must be as many along each axis, or one: {counts}") from error
        logs: FloatArray = np.log(np.stack(rows)) - self.optimum.centre[:, None]
        return logs

    def _place(self, name: str) -> int:
        names = [estimate.name for estimate in self.params]
        if name not in names:
            raise ConfigError(f"parameter {name} is not one of form {self.form.name}: {', '.join(names)}")
        return names.index(name)

    def _predictions(self, theta: FloatArray, sizes: Mapping[str, ArrayLike]) -> FloatArray:
        return self.form.evaluate(theta, self.logs(**sizes))[0] * self.optimum.scale


def fit(
    table: RunTable | pd.DataFrame,
    form: str = "chinchilla",
    *,
    axis: str | None = None,
    objective: str = "huber",
    delta: float | None = None,
    replicates: int = DEFAULT_REPLICATES,
    seed: int = 0,
) -> Law:
    """Fit `form` to the table by the sum of `objective` over residuals of log loss, and bootstrap it.

    Args:
        axis: for forms of one axis, the one to fit along, a key of `tables.AXES`; the form's own (N or C) if None.
        delta: Huber's delta in log loss. If None: the literature's 1e-3 for 100 runs or more; for fewer 1.345 times
            the robust residual standard deviation, since 1e-3 is then least absolute deviations in all but name.
        replicates: bootstrap refits; 0 for none, else at least 100.
        seed: of the bootstrap; the same seed gives the same numbers.
    Raises:
        ConfigError: on an unknown form or objective, or a number out of its range.
        DataError: if the runs cannot determine the form.
    """
    law_form = find_form(form, axis)
    if replicates and replicates < MIN_REPLICATES:
        raise ConfigError(f"bootstrap={replicates} must be 0 (none) or at least {MIN_REPLICATES}")
    runs = table if isinstance(table, RunTable) else load_runs(table, axes=law_form.axes)
    optimum = find_optimum(runs, law_form, objective, delta)
    samples = bootstrap(runs, optimum, replicates, seed) if replicates else None
    return Law(runs, law_form, optimum, samples, seed)


def _positive(axis: str, sizes: ArrayLike) -> FloatArray:
    try:
        values = np.atleast_1d(np.asarray(sizes, dtype=float))
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{axis}={sizes!r} must be a positive number, or several") from error
    if bad := [value for value in values.ravel().tolist() if not 0 < value < np.inf]:
        raise ConfigError(f"{axis}={bad[0]:g} must be a positive number")
    return values
