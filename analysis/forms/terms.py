"""Forms made of terms: a floor and a sum of coefficients times functions of the axes, with derivatives and starts.

Legend of shapes: R replicates, G grid points, P parameters, p parameters of a term, A axes, M runs.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import combinations
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, log_expit

from scaling.errors import ConfigError

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.intp]
Logs = Mapping[str, FloatArray]

EXPONENT_BOUNDS = (0.0, 5.0)
LOG_COEFFICIENT_BOUNDS = (-30.0, 30.0)
BALANCE_BOUNDS = (-15.0, 15.0)
LOG_REPEATS_BOUNDS = (-3.0, 8.0)
LOG_SHARPNESS_BOUNDS = (-3.0, 2.0)
GRID_SPAN = (0.03, 4.0)
GRID_POINTS = {1: 60, 2: 24, 3: 11, 4: 6}  # by the number of exponents: some 60 to 1,300 projections
MAX_STARTS = 1500
GRID_NUMBERS = 4_000_000  # numbers in one block of projections
LARGEST_LOG = 300.0
CUSTOMARY = {
    "N": {"coefficient": "A", "exponent": "alpha"},
    "D": {"coefficient": "B", "exponent": "beta"},
    "C": {"coefficient": "K", "exponent": "kappa"},
}
SMALLEST_START = 1e-4  # a coefficient that the projection sets to zero starts here, small enough not to be seen


@dataclass(frozen=True)
class Parameter:
    """One parameter of a form, and the box it is searched in (centred, scaled units; coefficients as logarithms)."""

    name: str
    kind: Literal["coefficient", "floor", "exponent", "shape"]
    lower: float
    upper: float
    axes: tuple[str, ...] = ()


class Term(ABC):
    """coefficient * g(axes; parameters), with g positive.

    Attributes:
        coefficient: its name.
        axes: those it reads; uncentred: those of them whose logarithms it wants as they are.
    """

    coefficient: str
    axes: tuple[str, ...]
    uncentred: tuple[str, ...] = ()

    @property
    @abstractmethod
    def text(self) -> str:
        """The term as a reader would write it."""

    @property
    @abstractmethod
    def parameters(self) -> tuple[Parameter, ...]:
        """Those besides the coefficient."""

    @abstractmethod
    def log_value(self, own: FloatArray, logs: Logs) -> tuple[FloatArray, FloatArray]:
        """log g (R, M) and its derivatives (R, p, M) for own parameters (R, p) at the logarithms (M,) of the axes."""

    @abstractmethod
    def grid(self, logs: Logs, exponents: FloatArray) -> list[FloatArray]:
        """Start values of each own parameter; `exponents` are those that exponents are to take."""

    @abstractmethod
    def public(
        self, log_coefficient: FloatArray, own: FloatArray, centre: Mapping[str, float], scale: float
    ) -> tuple[FloatArray, FloatArray]:
        """The coefficient (R,) and own parameters (R, p) in the user's units."""


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


@dataclass(frozen=True)
class PowerOfSum(Term):
    """(A / N^alpha + B / D^beta)^gamma or, with `fixed_data_power`, [(N_c / N)^(aN / aD) + D_c / D]^aD.

    Searched by its size, the balance of the two summands (a log odds) and the exponents.
    """

    fixed_data_power: bool

    axes = ("N", "D")

    @property
    def coefficient(self) -> str:  # type: ignore[override]
        return "N_c" if self.fixed_data_power else "A"

    @property
    def text(self) -> str:
        if self.fixed_data_power:
            return "[(N_c / N)^(alpha_N / alpha_D) + D_c / D]^alpha_D"
        return "(A / N^alpha + B / D^beta)^gamma"

    @property
    def parameters(self) -> tuple[Parameter, ...]:
        if self.fixed_data_power:
            return (
                Parameter("D_c", "shape", *BALANCE_BOUNDS),
                Parameter("alpha_N", "exponent", *EXPONENT_BOUNDS, ("N",)),
                Parameter("alpha_D", "exponent", 1e-3, EXPONENT_BOUNDS[1], ("D",)),
            )
        return (
            Parameter("B", "shape", *BALANCE_BOUNDS),
            Parameter("alpha", "exponent", *EXPONENT_BOUNDS, ("N",)),
            Parameter("beta", "exponent", *EXPONENT_BOUNDS, ("D",)),
            Parameter("gamma", "shape", 0.02, 20.0),
        )

    def _powers(self, own: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
        """(R, 1) each: the powers of N and D inside, and that of the sum."""
        if self.fixed_data_power:
            outer = own[:, 2:3]
            return own[:, 1:2] / outer, np.ones_like(outer), outer
        return own[:, 1:2], own[:, 2:3], own[:, 3:4]

    def log_value(self, own: FloatArray, logs: Logs) -> tuple[FloatArray, FloatArray]:
        n, d, balance = logs["N"], logs["D"], own[:, :1]
        inner_n, inner_d, outer = self._powers(own)
        first, second = log_expit(balance) - inner_n * n, log_expit(-balance) - inner_d * d
        log_sum = np.logaddexp(first, second)
        share = np.exp(first - log_sum)
        by_balance = outer * (share - expit(balance))
        by_inner_n, by_inner_d = -outer * share * n, -outer * (1 - share) * d
        if self.fixed_data_power:
            by_outer = log_sum - by_inner_n * inner_n / outer
            return outer * log_sum, np.stack([by_balance, by_inner_n / outer, by_outer], 1)
        return outer * log_sum, np.stack([by_balance, by_inner_n, by_inner_d, log_sum], 1)

    def grid(self, logs: Logs, exponents: FloatArray) -> list[FloatArray]:
        coarse, balances = np.geomspace(0.05, 2.0, 7), np.array([-4.0, -1.5, 0.0, 1.5, 4.0])
        outer = [] if self.fixed_data_power else [np.array([0.3, 1.0, 3.0])]
        return [balances, coarse, coarse, *outer]

    def public(
        self, log_coefficient: FloatArray, own: FloatArray, centre: Mapping[str, float], scale: float
    ) -> tuple[FloatArray, FloatArray]:
        inner_n, inner_d, outer = (power[:, 0] for power in self._powers(own))
        size = (log_coefficient + np.log(scale)) / outer
        with np.errstate(over="ignore", divide="ignore"):
            log_n = size + log_expit(own[:, 0]) + inner_n * centre["N"]
            values = own.copy()
            values[:, 0] = np.exp(size + log_expit(-own[:, 0]) + inner_d * centre["D"])
            return np.exp(log_n / inner_n if self.fixed_data_power else log_n), values


@dataclass(frozen=True)
class EffectiveData(Term):
    """coefficient / D'^exponent, where each repetition of D different data counts less than the one before.

    D' = D (1 + R (1 - exp(-(epochs - 1) / R))); for less than one epoch D' = D * epochs.
    """

    coefficient: str
    exponent: str
    repeats: str

    axes = ("D", "epochs")
    uncentred = ("epochs",)

    @property
    def text(self) -> str:
        name = self.repeats
        return f"{self.coefficient} / [D (1 + {name} - {name} exp((1 - epochs) / {name}))]^{self.exponent}"

    @property
    def parameters(self) -> tuple[Parameter, ...]:
        return (
            Parameter(self.exponent, "exponent", *EXPONENT_BOUNDS, ("D",)),
            Parameter(self.repeats, "shape", *LOG_REPEATS_BOUNDS),
        )

    def log_value(self, own: FloatArray, logs: Logs) -> tuple[FloatArray, FloatArray]:
        exponent, repeats = own[:, :1], np.exp(own[:, 1:])
        again = np.maximum(np.expm1(logs["epochs"]), 0.0)
        decay = np.exp(-again / repeats)
        times = 1.0 + repeats * (1.0 - decay)
        effective = logs["D"] + np.log(times) + np.minimum(logs["epochs"], 0.0)
        by_repeats = -exponent * (repeats * (1.0 - decay) - again * decay) / times
        return -exponent * effective, np.stack([-effective, by_repeats], 1)

    def grid(self, logs: Logs, exponents: FloatArray) -> list[FloatArray]:
        return [exponents, np.log([1.0, 5.0, 15.0, 100.0])]

    def public(
        self, log_coefficient: FloatArray, own: FloatArray, centre: Mapping[str, float], scale: float
    ) -> tuple[FloatArray, FloatArray]:
        coefficient = scale * np.exp(log_coefficient + own[:, 0] * centre["D"])
        return coefficient, np.column_stack([own[:, 0], np.exp(own[:, 1])])


@dataclass(frozen=True)
class SumOfTerms:
    """[floor +] sum over terms of coefficient * g, all coefficients and the floor non-negative.

    theta's columns: the floor if there is one (linear), the logarithm of each coefficient, the terms' own parameters
    (those of the same name are one).
    """

    name: str
    terms: tuple[Term, ...]
    floor: str | None
    source: str

    @cached_property
    def axes(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(axis for term in self.terms for axis in term.axes))

    @cached_property
    def uncentred(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(axis for term in self.terms for axis in term.uncentred))

    @cached_property
    def formula(self) -> str:
        return " + ".join([self.floor, *self._texts] if self.floor else self._texts)

    @property
    def _texts(self) -> list[str]:
        return [term.text for term in self.terms]

    @cached_property
    def _own(self) -> tuple[Parameter, ...]:
        """Parameters of the terms; the axes of a shared one are those of all its terms."""
        found: dict[str, Parameter] = {}
        for term in self.terms:
            for parameter in term.parameters:
                known = found.get(parameter.name)
                axes = (*(known.axes if known else ()), *parameter.axes)
                found[parameter.name] = replace(parameter, axes=tuple(dict.fromkeys(axes)))
        return tuple(found.values())

    @cached_property
    def _first(self) -> int:
        """The first coefficient's column."""
        return 1 if self.floor else 0

    @cached_property
    def _columns(self) -> tuple[list[int], ...]:
        """theta's columns of each term's own parameters."""
        names, first = [parameter.name for parameter in self._own], self._first + len(self.terms)
        return tuple([first + names.index(parameter.name) for parameter in term.parameters] for term in self.terms)

    @cached_property
    def parameters(self) -> tuple[Parameter, ...]:
        floor = [Parameter(self.floor, "floor", 0.0, np.inf)] if self.floor else []
        coefficients = [
            Parameter(term.coefficient, "coefficient", *LOG_COEFFICIENT_BOUNDS, term.axes) for term in self.terms
        ]
        return (*floor, *coefficients, *self._own)

    def along(self, axis: str) -> "SumOfTerms":
        """The same one-axis form on `axis`, its parameters named by custom: A, alpha for N; B, beta for D.

        Raises:
            ConfigError: if the form has more than one axis.
        """
        if len(self.axes) != 1:
            raise ConfigError(f"form {self.name} spans the axes {', '.join(self.axes)}; --axis is for one-axis forms")
        names = CUSTOMARY.get(axis, {})
        (term,) = self.terms
        changes: dict[str, str] = {"axis": axis, "coefficient": names.get("coefficient", term.coefficient)}
        if hasattr(term, "exponent"):
            changes["exponent"] = names.get("exponent", term.exponent)
        return replace(self, terms=(replace(term, **changes),))  # type: ignore[type-var]

    def _logs(self, logs: FloatArray) -> dict[str, FloatArray]:
        return dict(zip(self.axes, logs, strict=True))

    def evaluate(self, theta: FloatArray, logs: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Loss (R, M) and its derivatives by theta's columns (R, P, M) at centred logs (A, M)."""
        num_replicates, num_parameters = theta.shape
        gradient = np.zeros((num_replicates, num_parameters, logs.shape[1]))
        value = np.zeros((num_replicates, logs.shape[1]))
        if self.floor:
            value += theta[:, :1]
            gradient[:, 0] = 1.0
        named = self._logs(logs)
        for index, (term, columns) in enumerate(zip(self.terms, self._columns, strict=True)):
            log_value, by_own = term.log_value(theta[:, columns], named)
            log_value += theta[:, self._first + index, None]
            power = np.exp(np.minimum(log_value, LARGEST_LOG))
            value += power
            gradient[:, self._first + index] = power
            for place, column in enumerate(columns):
                gradient[:, column] += power * by_own[:, place]
        return value, gradient

    def starts(self, logs: FloatArray, loss: FloatArray, weights: FloatArray) -> FloatArray:
        """Variable projection: at each point of a grid of the other parameters the best non-negative coefficients.

        The linear coefficients minimise the weighted squares of (prediction - loss) / loss, which to first order are
        the squares of the residuals of log loss.

        Args:
            logs: (A, M) centred logarithms of the axes.
            loss: (M,) loss over its geometric mean.
            weights: (M,) how often each run counts.
        Returns:
            (G, P) start values in theta's columns, best first.
        Source: Golub and Pereyra 1973, doi:10.1137/0710036; for scaling laws arXiv:2603.22339.
        """
        grid = self._grid(self._logs(logs))
        coefficients, squares = np.empty((len(grid), self._first + len(self.terms))), np.empty(len(grid))
        rows = max(1, GRID_NUMBERS // (coefficients.shape[1] * len(loss)))
        for first in range(0, len(grid), rows):
            part = slice(first, first + rows)
            design = self._design(grid[part], logs) / loss * np.sqrt(weights)
            coefficients[part], squares[part] = non_negative_least_squares(design, np.sqrt(weights))
        coefficients[:, self._first :] = np.log(np.maximum(coefficients[:, self._first :], SMALLEST_START))
        order = np.argsort(squares, kind="stable")[:MAX_STARTS]
        return np.concatenate([coefficients, grid], 1)[order]

    def _grid(self, logs: Logs) -> FloatArray:
        """(G, number of own parameters) start values."""
        exponents = sum(parameter.kind == "exponent" for parameter in self._own)
        values = np.geomspace(*GRID_SPAN, GRID_POINTS[min(exponents, max(GRID_POINTS))])
        of_name: dict[str, FloatArray] = {}
        for term in self.terms:
            for parameter, points in zip(term.parameters, term.grid(logs, values), strict=True):
                of_name.setdefault(parameter.name, points)
        return np.stack(np.meshgrid(*of_name.values(), indexing="ij"), -1).reshape(-1, len(of_name))

    def _design(self, own: FloatArray, logs: FloatArray) -> FloatArray:
        """(G, C, M) what the floor and each coefficient multiply."""
        columns = [np.ones((len(own), logs.shape[1]))] if self.floor else []
        named, offset = self._logs(logs), self._first + len(self.terms)
        for term, places in zip(self.terms, self._columns, strict=True):
            log_value = term.log_value(own[:, [place - offset for place in places]], named)[0]
            columns.append(np.exp(np.clip(log_value, -LARGEST_LOG, LARGEST_LOG)))
        return np.stack(columns, 1)

    def public(self, theta: FloatArray, centre: FloatArray, scale: float) -> FloatArray:
        """theta (R, P) in the user's units: `centre` (A,) holds the subtracted log-axis means, `scale` the loss's."""
        values = theta.copy()
        values[:, : self._first] *= scale
        centres = dict(zip(self.axes, centre.tolist(), strict=True))
        for index, (term, columns) in enumerate(zip(self.terms, self._columns, strict=True)):
            column = self._first + index
            values[:, column], values[:, columns] = term.public(theta[:, column], theta[:, columns], centres, scale)
        return values


def non_negative_least_squares(design: FloatArray, target: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Least squares with non-negative coefficients for many designs at once, exact by trying every set of columns.

    Args:
        design: (G, C, M) a few columns each (2^C subsets are tried).
        target: (M,).
    Returns:
        (G, C) coefficients and (G,) sums of squared residuals.
    """
    num_columns = design.shape[1]
    length = np.sqrt(np.einsum("gcm,gcm->gc", design, design))
    unit = design / length[:, :, None]
    gram = np.einsum("gcm,gdm->gcd", unit, unit)
    projection = unit @ target
    best = np.zeros((len(design), num_columns))
    best_squares = np.full(len(design), float(target @ target))
    for size in range(1, num_columns + 1):
        for subset in map(list, combinations(range(num_columns), size)):
            part = gram[:, subset][:, :, subset] + 1e-13 * np.eye(size)
            solution = np.linalg.solve(part, projection[:, subset, None])[:, :, 0]
            squares = float(target @ target) - np.einsum("gc,gc->g", solution, projection[:, subset])
            better = (solution >= 0).all(1) & (squares < best_squares)
            best[better] = 0.0
            best[np.ix_(better, subset)] = solution[better]
            best_squares[better] = squares[better]
    return best / length, np.maximum(best_squares, 0.0)
