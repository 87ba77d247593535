"""Sums of powers: E + A / N^alpha + B / D^beta and everything of that shape, with derivatives and start values.

Legend of shapes: R replicates, G grid points, P parameters, A axes, T terms, M runs.
"""

from dataclasses import dataclass, replace
from functools import cached_property
from itertools import combinations
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from scaling.errors import ConfigError

FloatArray = NDArray[np.float64]

EXPONENT_BOUNDS = (0.0, 5.0)
LOG_COEFFICIENT_BOUNDS = (-30.0, 30.0)
GRID_SPAN = (0.03, 4.0)
GRID_POINTS = {1: 60, 2: 24, 3: 11, 4: 6}  # by the number of exponents: some 60 to 1,300 projections
SMALLEST_START = 1e-4  # a coefficient that the projection sets to zero starts here, small enough not to be seen


@dataclass(frozen=True)
class Parameter:
    """One parameter of a form, and the box it is searched in (centred, scaled units; coefficients as logarithms)."""

    name: str
    kind: Literal["coefficient", "floor", "exponent"]
    lower: float
    upper: float
    axes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Power:
    """One term: coefficient * axis^-exponent. Two terms may name the same exponent, which they then share."""

    coefficient: str
    axis: str
    exponent: str


@dataclass(frozen=True)
class SumOfPowers:
    """[floor +] sum over terms of coefficient * axis^-exponent, all coefficients and the floor non-negative.

    theta's columns: the floor if there is one (linear), the logarithm of each coefficient, each exponent.
    """

    name: str
    terms: tuple[Power, ...]
    floor: str | None
    source: str

    @cached_property
    def axes(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(term.axis for term in self.terms))

    @cached_property
    def exponents(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(term.exponent for term in self.terms))

    @cached_property
    def formula(self) -> str:
        powers = [f"{term.coefficient} / {term.axis}^{term.exponent}" for term in self.terms]
        return " + ".join([self.floor, *powers] if self.floor else powers)

    @cached_property
    def parameters(self) -> tuple[Parameter, ...]:
        floor = [Parameter(self.floor, "floor", 0.0, np.inf)] if self.floor else []
        coefficients = [Parameter(t.coefficient, "coefficient", *LOG_COEFFICIENT_BOUNDS, (t.axis,)) for t in self.terms]
        exponents = [
            Parameter(name, "exponent", *EXPONENT_BOUNDS, tuple(t.axis for t in self.terms if t.exponent == name))
            for name in self.exponents
        ]
        return (*floor, *coefficients, *exponents)

    def along(self, axis: str) -> "SumOfPowers":
        """The same one-axis form on `axis`, its parameters named by custom: A, alpha for N; B, beta for D.

        Raises:
            ConfigError: if the form has more than one axis.
        """
        if len(self.axes) != 1:
            raise ConfigError(f"form {self.name} spans the axes {', '.join(self.axes)}; --axis is for one-axis forms")
        coefficient, exponent = {"N": ("A", "alpha"), "D": ("B", "beta")}[axis]
        return replace(self, terms=(Power(coefficient, axis, exponent),))

    def evaluate(self, theta: FloatArray, logs: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Loss (R, M) and its derivatives by theta's columns (R, P, M) at centred logs (A, M)."""
        num_replicates, num_parameters = theta.shape
        gradient = np.zeros((num_replicates, num_parameters, logs.shape[1]))
        value = np.zeros((num_replicates, logs.shape[1]))
        first = 0
        if self.floor:
            value += theta[:, :1]
            gradient[:, 0] = 1.0
            first = 1
        for index, term in enumerate(self.terms):
            log_axis = logs[self.axes.index(term.axis)]
            column = first + len(self.terms) + self.exponents.index(term.exponent)
            power = np.exp(theta[:, first + index, None] - theta[:, column, None] * log_axis)
            value += power
            gradient[:, first + index] = power
            gradient[:, column] -= power * log_axis
        return value, gradient

    def starts(self, logs: FloatArray, loss: FloatArray, weights: FloatArray) -> FloatArray:
        """Variable projection: at each point of a grid of exponents the best non-negative coefficients, best first.

        The linear coefficients minimise the weighted squares of (prediction - loss) / loss, which to first order are
        the squares of the residuals of log loss.

        Args:
            logs: (A, M) centred logarithms of the axes.
            loss: (M,) loss over its geometric mean.
            weights: (M,) how often each run counts.
        Returns:
            (G, P) start values in theta's columns.
        Source: Golub and Pereyra 1973, doi:10.1137/0710036; for scaling laws arXiv:2603.22339.
        """
        axis_grid = np.geomspace(*GRID_SPAN, GRID_POINTS[len(self.exponents)])
        grid = np.stack(np.meshgrid(*[axis_grid] * len(self.exponents), indexing="ij"), -1).reshape(
            -1, len(self.exponents)
        )
        columns = [np.ones((len(grid), len(loss)))] if self.floor else []
        for term in self.terms:
            exponent = grid[:, self.exponents.index(term.exponent), None]
            columns.append(np.exp(-exponent * logs[self.axes.index(term.axis)]))
        design = np.stack(columns, 1) / loss * np.sqrt(weights)
        coefficients, squares = non_negative_least_squares(design, np.sqrt(weights))
        first = 1 if self.floor else 0
        coefficients[:, first:] = np.log(np.maximum(coefficients[:, first:], SMALLEST_START))
        order = np.argsort(squares, kind="stable")
        return np.concatenate([coefficients, grid], 1)[order]

    def public(self, theta: FloatArray, centre: FloatArray, scale: float) -> FloatArray:
        """theta (R, P) in the user's units: `centre` (A,) holds the subtracted log-axis means, `scale` the loss's."""
        values = theta.copy()
        first = 1 if self.floor else 0
        values[:, :first] *= scale
        for index, term in enumerate(self.terms):
            exponent = theta[:, first + len(self.terms) + self.exponents.index(term.exponent)]
            log_coefficient = theta[:, first + index] + exponent * centre[self.axes.index(term.axis)]
            values[:, first + index] = scale * np.exp(log_coefficient)
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
