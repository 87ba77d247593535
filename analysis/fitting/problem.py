"""A form and the runs it is fitted to, centred and scaled.

Legend of shapes: R replicates, P parameters, A axes, M runs.
"""

from dataclasses import dataclass

import numpy as np

from analysis.fitting.objective import Objective
from analysis.forms.registry import Form
from analysis.forms.terms import FloatArray
from analysis.tables import RunTable


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
