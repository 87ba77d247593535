"""The registry of the forms a scaling law can take, and what the fitter asks of each.

Forms see every axis as centred logarithms (log N minus its mean) and the loss divided by its geometric mean, so that
starts, bounds and step sizes mean the same for any table; `public` turns the result back into the user's units.

A further form is one entry of `FORMS`: a `SumOfPowers`, or any class with the attributes and methods of `Form`.
"""

from typing import Protocol

from analysis.powers import FloatArray, Parameter, Power, SumOfPowers
from scaling.errors import ConfigError


class Form(Protocol):
    """What the fitter asks of a form. Legend of shapes: R replicates, S starts, P parameters, A axes, M runs."""

    @property
    def name(self) -> str:
        """The key in `FORMS`."""

    @property
    def formula(self) -> str:
        """The law as a reader would write it, e.g. `E + A / N^alpha`."""

    @property
    def source(self) -> str:
        """Paper and equation."""

    @property
    def axes(self) -> tuple[str, ...]:
        """Axes in the order in which `evaluate` wants their rows, e.g. ("N", "D")."""

    @property
    def parameters(self) -> tuple[Parameter, ...]:
        """Parameters in the order of theta's columns."""

    def along(self, axis: str) -> "Form":
        """The same form on another axis; raises ConfigError where the form has more than one."""

    def evaluate(self, theta: FloatArray, logs: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Loss (R, M) and its derivatives (R, P, M) for theta (R, P) at centred logs (A, M)."""

    def starts(self, logs: FloatArray, loss: FloatArray, weights: FloatArray) -> FloatArray:
        """Start values (S, P) for scaled loss (M,) with weights (M,), best first."""

    def public(self, theta: FloatArray, centre: FloatArray, scale: float) -> FloatArray:
        """Parameters (R, P) in the user's units, for log-axis means `centre` (A,) and loss scale."""


FORMS: dict[str, Form] = {
    "power": SumOfPowers(
        name="power",
        terms=(Power("A", "N", "alpha"),),
        floor=None,
        source="Hestness et al. 2017, arXiv:1712.00409, eq. 1 without its constant",
    ),
    "power_floor": SumOfPowers(
        name="power_floor",
        terms=(Power("A", "N", "alpha"),),
        floor="E",
        source="Hestness et al. 2017, arXiv:1712.00409, eq. 1",
    ),
    "chinchilla": SumOfPowers(
        name="chinchilla",
        terms=(Power("A", "N", "alpha"), Power("B", "D", "beta")),
        floor="E",
        source="Hoffmann et al. 2022, arXiv:2203.15556, eq. 2",
    ),
}


def find_form(name: str, axis: str | None = None) -> Form:
    """The form called `name`, a one-axis form moved to `axis` ("N" or "D") if given.

    Raises:
        ConfigError: if the name is unknown, or an axis is given for a form that has two.
    """
    if name not in FORMS:
        raise ConfigError(f"form={name} is not supported; choose one of {', '.join(FORMS)}")
    return FORMS[name] if axis is None else FORMS[name].along(axis)
