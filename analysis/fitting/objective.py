"""How far a law is from the runs: residuals of log loss, and a robust function of them, summed (never averaged).

Legend of shapes: R replicates, P parameters, A axes, M runs.
"""

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from analysis.arrays import FloatArray
from analysis.forms import Form
from analysis.tables import RunTable
from scaling.errors import ConfigError

ObjectiveName = Literal["huber", "lad", "least_squares"]

LITERATURE_DELTA = 1e-3
"""Huber's delta of Hoffmann et al. 2022, sec. 3.3. Large published tables are fitted with it."""
SMALL_TABLE = 100
"""Below this many runs the literature's delta is, in effect, least absolute deviations, which wastes a third of the
runs where the scatter is near normal and makes a bootstrap lumpy; delta is then set from the scatter itself."""
EFFICIENT_DELTA = 1.345
"""Delta over the scatter that keeps 95 % efficiency under normal noise. Source: Huber 1981, sec. 4.5."""
LAD_DELTA = 1e-7
"""Least absolute deviations are reached as Huber's function with a delta far below any residual of interest."""


@dataclass(frozen=True)
class Objective:
    """Huber's function with its delta; infinite delta is least squares, a tiny one least absolute deviations."""

    name: ObjectiveName
    delta: float

    @property
    def own_delta(self) -> float | None:
        """Delta as `choose_objective` takes it: None but for huber."""
        return self.delta if self.name == "huber" else None

    def rho(self, residual: FloatArray) -> FloatArray:
        """Cost of each residual: r^2/2 within delta, delta (|r| - delta/2) beyond. Source: Huber 1964, eq. 2.

        Least absolute deviations are given in their own unit, |r|; the smoothing below LAD_DELTA is not seen.
        """
        if self.name == "least_squares":
            return 0.5 * residual**2
        size = np.abs(residual)
        inside = np.minimum(size, self.delta)
        cost = inside * (size - 0.5 * inside)
        return cost / self.delta if self.name == "lad" else cost

    def weight(self, residual: FloatArray) -> FloatArray:
        """rho'(r) / r, up to the constant factor of `lad`: 1 within delta, delta / |r| beyond."""
        if self.name == "least_squares":
            return np.ones_like(residual)
        return self.delta / np.maximum(np.abs(residual), self.delta)

    def psi(self, residual: FloatArray) -> FloatArray:
        """rho'(r)."""
        bounded = np.clip(residual, -self.delta, self.delta)
        return bounded / self.delta if self.name == "lad" else bounded

    def path(self) -> tuple["Objective", ...]:
        """Objectives to be minimised one after the other, from smooth to sharp, this one last."""
        if self.delta >= 1e-4:
            return (self,)
        deltas = [10.0**power for power in range(-3, -17, -1) if 10.0**power > 1.5 * self.delta]
        return (*(Objective("huber", delta) for delta in deltas), self)


def choose_objective(name: str, delta: float | None = None) -> Objective:
    """The objective called `name`; `delta` in units of log loss is for huber alone (literature's if None).

    Raises:
        ConfigError: if the name is unknown, delta is not positive, or delta is given for another objective.
    """
    if name not in get_args(ObjectiveName):
        raise ConfigError(f"objective={name} is not supported; choose one of {', '.join(get_args(ObjectiveName))}")
    if delta is not None and name != "huber":
        raise ConfigError(f"delta={delta} is for objective=huber; {name} has none, leave it out")
    if delta is not None and not (0 < delta < np.inf):
        raise ConfigError(f"delta={delta} must be a positive number (in units of log loss), e.g. {LITERATURE_DELTA}")
    if name == "lad":
        return Objective("lad", LAD_DELTA)
    if name == "least_squares":
        return Objective("least_squares", np.inf)
    return Objective("huber", LITERATURE_DELTA if delta is None else delta)


def delta_for_residuals(residual: FloatArray, num_parameters: int) -> float:
    """Huber's delta for a table of few runs: 1.345 robust standard deviations, never below the literature's.

    Args:
        residual: (M,) residuals of log loss of a first fit, close to least absolute deviations, which goes through
            as many runs as it has parameters; those say nothing of the scatter and are left out.
        num_parameters: their number.
    Source: Maronna, Martin and Yohai 2006, Robust Statistics, sec. 4.4 (scale from the non-zero residuals of L1).
    """
    sizes = np.sort(np.abs(residual))[min(num_parameters, len(residual) - 1) :]
    return max(LITERATURE_DELTA, float(EFFICIENT_DELTA * 1.4826 * np.median(sizes)))


@dataclass(frozen=True)
class Problem:
    """A form to be fitted to runs: centred logs (A, M) and log of the scaled loss (M,)."""

    form: Form
    logs: FloatArray
    log_loss: FloatArray

    @property
    def lower(self) -> FloatArray:
        """(P,) lower bounds."""
        return np.array([parameter.lower for parameter in self.form.parameters])

    @property
    def upper(self) -> FloatArray:
        """(P,) upper bounds."""
        return np.array([parameter.upper for parameter in self.form.parameters])

    def residuals(self, theta: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Residuals of log loss (R, M), prediction minus observation, and their derivatives (R, P, M)."""
        value, gradient = self.form.evaluate(theta, self.logs)
        value = np.maximum(value, 1e-300)
        gradient /= value[:, None]
        return np.log(value) - self.log_loss, gradient

    def costs(self, theta: FloatArray, objective: Objective) -> FloatArray:
        """Cost of each run (R, M) for each theta."""
        return objective.rho(self.residuals(theta)[0])


def make_problem(table: RunTable, form: Form) -> tuple[Problem, FloatArray, float]:
    """The problem of fitting the form to the table, the centre (A,) of its log axes and the scale of its loss."""
    logs = np.log(np.stack([table.axis(axis) for axis in form.axes]))
    centre = np.where([axis in form.uncentred for axis in form.axes], 0.0, logs.mean(1))
    scale = float(np.exp(np.log(table.loss).mean()))
    return Problem(form, logs - centre[:, None], np.log(table.loss / scale)), centre, scale
