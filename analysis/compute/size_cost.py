"""A cost as powers of a run's sizes, fitted to the runs of a table that have it.

Legend of shapes: M runs, Q queried sizes.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from analysis.arrays import FloatArray
from analysis.tables import RunTable

OVERHEAD_SHARES = np.concatenate([[0.0], 1 - np.geomspace(1.0, 0.02, 25)[1:]])
"""Overheads that are tried, as shares of the smallest cost."""
SAMPLES = ("D", "epochs")
VARYING = 1.05
"""Ratio of largest to smallest size from which the runs say how the cost goes with an axis."""
SPARE_RUNS = 2  # runs beyond the cost's parameters, so that its scatter is known

Axes = tuple[str, ...]


@dataclass(frozen=True)
class SizeCost:
    """cost = overhead + factor * product over axes of size^exponent.

    Attributes:
        unit: "device-hours", "FLOPs" or "relative units".
        exponents: by axis; an axis of one size alone has none.
        log_error: standard deviation of the log of observed over modelled cost, None if it was not measured.
        num_runs: number of runs it was measured on, 0 if it was not.
        basis: origin of a cost that was not measured.
        collinear: whether the axes vary together in the runs, so that no exponent is known by itself.
    """

    unit: str
    factor: float
    exponents: Mapping[str, float]
    overhead: float = 0.0
    log_error: float | None = None
    num_runs: int = 0
    basis: str = ""
    collinear: bool = False

    def __call__(self, sizes: Mapping[str, ArrayLike]) -> FloatArray:
        """Cost (Q,) at sizes (Q,) given by axis."""
        log_cost = sum(
            (power * np.log(np.atleast_1d(np.asarray(sizes[axis], float))) for axis, power in self.exponents.items()),
            np.log(self.factor),
        )
        cost: FloatArray = self.overhead + np.exp(log_cost)
        return cost

    def elasticity(self, axis: str, sizes: Mapping[str, float]) -> float | None:
        """d log cost / d log axis at these sizes; None if the runs do not determine it."""
        if self.collinear or axis not in self.exponents:
            return None
        return self.exponents[axis] * (1.0 - self.overhead / float(self(sizes)[0]))

    @property
    def sentence(self) -> str:
        """The formula with its origin and error, in words."""
        product = " ".join(
            f"{axis}^{power:.2f}" if abs(power - 1) > 1e-6 else axis
            for axis, power in self.exponents.items()
            if power != 0
        )
        head = f"{self.overhead:.2g} + " if self.overhead else ""
        factor = "" if self.factor == 1 and product else f"{self.factor:.3g} "
        formula = f"{self.unit} = {head}{factor}{product}".rstrip()
        if self.log_error is None:
            return f"{formula}, {self.basis}" if self.basis else formula
        return f"{formula}, fitted to {self.num_runs} runs, right to a factor {np.exp(self.log_error):.2f} (one sd)"


def fit_cost(table: RunTable, cost: FloatArray, unit: str, axes: Axes) -> SizeCost | None:
    """Least squares of log cost (M,) over the runs that have a positive one; None where they are too few.

    D and epochs enter as their product, the samples seen. A grid of equal steps varies both, but not the product: cost
    beyond the overhead is then taken as proportional to it. No axis has a negative exponent: larger is never cheaper.
    """
    known = np.isfinite(cost) & (cost > 0)
    groups = [SAMPLES, *[(axis,) for axis in axes if axis not in SAMPLES]]
    groups = groups if set(SAMPLES) <= set(axes) else [(axis,) for axis in axes]
    sizes = {group: np.prod([table.axis(axis)[known] for axis in group], axis=0) for group in groups}
    varying = [group for group in groups if len(sizes[group]) and sizes[group].max() > VARYING * sizes[group].min()]
    if known.sum() < len(varying) + 1 + SPARE_RUNS or not varying:
        return None
    cost = cost[known]
    logs = {group: np.log(sizes[group]) for group in varying}
    collinear = np.linalg.matrix_rank(np.column_stack([np.ones(len(cost)), *logs.values()])) <= len(logs)
    squares, factor, powers, overhead = _best_overhead(logs, cost)
    while falling := [group for group, power in powers.items() if power < 0]:
        logs = {group: log for group, log in logs.items() if group not in falling}
        squares, factor, powers, overhead = _best_overhead(logs, cost)
    freedom = max(len(cost) - len(powers) - 2, 1)
    powers = {group: powers.get(group, 0.0) for group in varying}
    if SAMPLES in groups and SAMPLES not in varying:
        factor /= float(np.median(sizes[SAMPLES]))
        powers[SAMPLES] = 1.0
    exponents = {axis: power for group, power in powers.items() for axis in group}
    error = float(np.sqrt(squares / freedom))
    return SizeCost(unit, factor, exponents, overhead, error, len(cost), collinear=bool(collinear))


_Fitted = tuple[float, float, dict[Axes, float], float]
"""Sum of squared errors of log cost, factor, exponents, overhead."""


def _best_overhead(logs: dict[Axes, FloatArray], cost: FloatArray) -> _Fitted:
    """The fit with the overhead, of those tried, that leaves the smallest errors."""
    tried = [_with_overhead(logs, cost, share * cost.min()) for share in OVERHEAD_SHARES]
    return min(tried, key=lambda found: found[0])


def _with_overhead(logs: dict[Axes, FloatArray], cost: FloatArray, overhead: float) -> _Fitted:
    """The fit for a known overhead, which is linear in the logs."""
    beyond = cost - overhead
    weight = beyond / cost  # of an error of log(cost - overhead) on that of log(cost)
    design = np.column_stack([np.ones(len(cost)), *logs.values()])
    solution = np.linalg.lstsq(design * weight[:, None], np.log(beyond) * weight, rcond=None)[0]
    error = np.log(overhead + np.exp(design @ solution)) - np.log(cost)
    powers = dict(zip(logs, solution[1:].tolist(), strict=True))
    return float(error @ error), float(np.exp(solution[0])), powers, overhead
