"""Forms that are a sum: a floor and coefficients times functions of the axes, with derivatives and starts.

Legend of shapes: R replicates, G grid points, P parameters, A axes, M runs, C columns.
"""

from dataclasses import dataclass, replace
from functools import cached_property
from itertools import combinations

import numpy as np

from analysis.arrays import FloatArray
from analysis.forms.terms import CUSTOMARY, LOG_COEFFICIENT_BOUNDS, SMALLEST_START, Logs, Parameter, Term
from scaling.errors import ConfigError

GRID_SPAN = (0.03, 4.0)
GRID_POINTS = {1: 60, 2: 24, 3: 11, 4: 6}  # by the number of exponents: some 60 to 1,300 projections
MAX_STARTS = 1500
GRID_NUMBERS = 4_000_000  # numbers in one block of projections
LARGEST_LOG = 300.0


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
