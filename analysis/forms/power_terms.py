"""Terms of one axis: a power, one that saturates, one that breaks.

Legend of shapes: R replicates, p parameters of a term, M runs.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy.special import expit

from analysis.arrays import FloatArray
from analysis.forms.terms import EXPONENT_BOUNDS, Logs, Parameter, Term

LOG_SHARPNESS_BOUNDS = (-3.0, 2.0)


@dataclass(frozen=True)
class Power(Term):
    """coefficient / axis^exponent. Two terms may name the same exponent, which they then share."""

    coefficient: str
    axis: str
    exponent: str

    @property
    def axes(self) -> tuple[str, ...]:  # type: ignore[override]
        return (self.axis,)

    @property
    def text(self) -> str:
        return f"{self.coefficient} / {self.axis}^{self.exponent}"

    @property
    def parameters(self) -> tuple[Parameter, ...]:
        return (Parameter(self.exponent, "exponent", *EXPONENT_BOUNDS, self.axes),)

    def log_value(self, own: FloatArray, logs: Logs) -> tuple[FloatArray, FloatArray]:
        x = logs[self.axis]
        return -own * x, np.broadcast_to(-x, (len(own), 1, len(x)))

    def grid(self, logs: Logs, exponents: FloatArray) -> list[FloatArray]:
        return [exponents]

    def public(
        self, log_coefficient: FloatArray, own: FloatArray, centre: Mapping[str, float], scale: float
    ) -> tuple[FloatArray, FloatArray]:
        return scale * np.exp(log_coefficient + own[:, 0] * centre[self.axis]), own


@dataclass(frozen=True)
class SaturatingPower(Term):
    """coefficient * (1 / axis + offset)^exponent: a power law until 1 / offset, a floor beyond."""

    coefficient: str
    axis: str
    offset: str
    exponent: str

    @property
    def axes(self) -> tuple[str, ...]:  # type: ignore[override]
        return (self.axis,)

    @property
    def text(self) -> str:
        return f"{self.coefficient} (1 / {self.axis} + {self.offset})^{self.exponent}"

    @property
    def parameters(self) -> tuple[Parameter, ...]:
        return (
            Parameter(self.offset, "shape", -30.0, 30.0),
            Parameter(self.exponent, "exponent", *EXPONENT_BOUNDS, self.axes),
        )

    def log_value(self, own: FloatArray, logs: Logs) -> tuple[FloatArray, FloatArray]:
        x, offset, exponent = logs[self.axis], own[:, :1], own[:, 1:]
        log_sum = np.logaddexp(-x, offset)
        return exponent * log_sum, np.stack([exponent * expit(offset + x), log_sum], 1)

    def grid(self, logs: Logs, exponents: FloatArray) -> list[FloatArray]:
        return [np.array([-8.0, -4.0, -2.0, -1.0, 0.0, 1.0, 2.0]) - logs[self.axis].max(), exponents]

    def public(
        self, log_coefficient: FloatArray, own: FloatArray, centre: Mapping[str, float], scale: float
    ) -> tuple[FloatArray, FloatArray]:
        shift = centre[self.axis]
        coefficient = scale * np.exp(log_coefficient + own[:, 1] * shift)
        return coefficient, np.column_stack([np.exp(own[:, 0] - shift), own[:, 1]])


@dataclass(frozen=True)
class BrokenPower(Term):
    """coefficient * axis^-c0 * product over breaks i of (1 + (axis / d_i)^(1 / f_i))^(-c_i f_i).

    Searched by the slopes between the breaks, c0 + ... + ci, which may not be negative: the loss never rises.
    """

    coefficient: str
    axis: str
    breaks: int

    @property
    def axes(self) -> tuple[str, ...]:  # type: ignore[override]
        return (self.axis,)

    @property
    def text(self) -> str:
        factors = [f" (1 + ({self.axis} / d{i})^(1/f{i}))^(-c{i} f{i})" for i in range(1, self.breaks + 1)]
        return f"{self.coefficient} {self.axis}^-c0{''.join(factors)}"

    @property
    def parameters(self) -> tuple[Parameter, ...]:
        numbers = range(1, self.breaks + 1)
        return (
            *[Parameter(f"c{i}", "exponent", *EXPONENT_BOUNDS, self.axes) for i in range(self.breaks + 1)],
            *[Parameter(f"d{i}", "shape", -30.0, 30.0) for i in numbers],
            *[Parameter(f"f{i}", "shape", *LOG_SHARPNESS_BOUNDS) for i in numbers],
        )

    def log_value(self, own: FloatArray, logs: Logs) -> tuple[FloatArray, FloatArray]:
        x, n = logs[self.axis], self.breaks
        slope, place, width = own[:, : n + 1], own[:, n + 1 : 2 * n + 1], np.exp(own[:, 2 * n + 1 :])
        value = -slope[:, :1] * x
        gradient = np.zeros((len(own), own.shape[1], len(x)))
        gradient[:, 0] = -x
        for i in range(n):
            steps = (x - place[:, i, None]) / width[:, i, None]
            soft = np.logaddexp(0.0, steps)
            change = (slope[:, i + 1] - slope[:, i])[:, None]
            past = width[:, i, None] * soft
            value -= change * past
            gradient[:, i] += past
            gradient[:, i + 1] -= past
            gradient[:, n + 1 + i] = change * expit(steps)
            gradient[:, 2 * n + 1 + i] = -change * (past - width[:, i, None] * steps * expit(steps))
        return value, gradient

    def grid(self, logs: Logs, exponents: FloatArray) -> list[FloatArray]:
        x = logs[self.axis]
        coarse = np.array([0.02, 0.1, 0.25, 0.5, 1.0]) if self.breaks == 1 else np.array([0.05, 0.2, 0.6])
        shares = np.linspace(0.1, 1.0, 7 if self.breaks == 1 else 4)
        places = x.min() + shares * (x.max() - x.min())
        widths = np.log([0.15, 0.5, 1.5]) if self.breaks == 1 else np.log([0.4])
        return [*[coarse] * (self.breaks + 1), *[places] * self.breaks, *[widths] * self.breaks]

    def public(
        self, log_coefficient: FloatArray, own: FloatArray, centre: Mapping[str, float], scale: float
    ) -> tuple[FloatArray, FloatArray]:
        n, shift = self.breaks, centre[self.axis]
        values = np.exp(own)
        values[:, 0] = own[:, 0]
        values[:, 1 : n + 1] = np.diff(own[:, : n + 1], axis=1)
        values[:, n + 1 : 2 * n + 1] = np.exp(own[:, n + 1 : 2 * n + 1] + shift)
        return scale * np.exp(log_coefficient + own[:, 0] * shift), values
