"""What a run of given sizes costs: device-hours or FLOPs as the table's own runs have it, 6 N D where it knows neither.

Legend of shapes: M runs, Q queried sizes.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from analysis.forms.terms import FloatArray
from analysis.tables import FLOPS_PER_PARAMETER_AND_SAMPLE, RunTable, numbers

HOURS_COLUMN = "device_hours"
OVERHEAD_SHARES = np.concatenate([[0.0], 1 - np.geomspace(1.0, 0.02, 25)[1:]])
SAMPLES = ("D", "epochs")
VARYING = 1.05
SPARE_RUNS = 2  # runs beyond the cost's parameters, so that its scatter is known


@dataclass(frozen=True)
class CostModel:
    """cost = overhead + factor * product over axes of size^exponent.

    Attributes:
        unit: "device-hours", "FLOPs" or "times the largest run".
        log_error: standard deviation of the log of observed over modelled cost, None if it was not fitted.
        num_runs: to how many runs it was fitted, 0 if it was not.
        basis: where a cost that was not fitted is from.
    """

    unit: str
    factor: float
    exponents: Mapping[str, float]
    overhead: float = 0.0
    log_error: float | None = None
    num_runs: int = 0
    basis: str = "by custom; the table holds no cost"

    def __call__(self, sizes: Mapping[str, ArrayLike]) -> FloatArray:
        """Cost (Q,) at sizes (Q,) given by axis."""
        log_cost = sum(
            (power * np.log(np.atleast_1d(np.asarray(sizes[axis], float))) for axis, power in self.exponents.items()),
            np.log(self.factor),
        )
        cost: FloatArray = self.overhead + np.exp(log_cost)
        return cost

    @property
    def sentence(self) -> str:
        """The formula with its origin and error, in words."""
        product = " ".join(
            f"{axis}^{power:.2f}" if abs(power - 1) > 1e-6 else axis for axis, power in self.exponents.items()
        )
        head = f"{self.overhead:.2g} + " if self.overhead else ""
        factor = "" if self.factor == 1 and product else f"{self.factor:.3g} "
        formula = f"{self.unit} = {head}{factor}{product}".rstrip()
        if self.log_error is None:
            return formula if self.exponents.keys() == {"C"} else f"{formula}, {self.basis}"
        return f"{formula}, fitted to {self.num_runs} runs, right to a factor {np.exp(self.log_error):.2f} (one sd)"


def cost_model(table: RunTable, axes: tuple[str, ...]) -> CostModel:
    """The cost of a run of this table as a function of its sizes along `axes` (and of N and D where it has them).

    Device-hours if the table has them, else its training FLOPs, each fitted as a power of the sizes with an overhead;
    the table's own schedule decides whether more data cost more. C = 6 N D where D was derived from C so. Without any
    cost C = 6 N D epochs, or what is known of it.
    """
    if axes != ("C",):
        if model := _fit(table, numbers(table, HOURS_COLUMN), "device-hours", axes):
            return model
        if table.derives_data:
            basis = f"as column {table.columns['C']}, from which D itself was derived so"
            return CostModel("FLOPs", FLOPS_PER_PARAMETER_AND_SAMPLE, {"N": 1.0, "D": 1.0}, basis=basis)
        if model := _fit(table, table.axis("C"), "FLOPs", axes):
            return model
    return _by_custom(axes)


def _by_custom(axes: tuple[str, ...]) -> CostModel:
    if axes == ("C",):
        return CostModel("FLOPs", 1.0, {"C": 1.0})
    if {"N", "D"} <= set(axes):
        return CostModel("FLOPs", FLOPS_PER_PARAMETER_AND_SAMPLE, {axis: 1.0 for axis in axes})
    # A network's parameters, and with them its cost, grow as width^2 * depth.
    return CostModel("relative units", 1.0, {axis: 2.0 if axis == "width" else 1.0 for axis in axes})


def _fit(table: RunTable, cost: FloatArray, unit: str, axes: tuple[str, ...]) -> CostModel | None:
    """Least squares of log cost; None where too few runs have a cost.

    D and epochs enter as their product, the samples seen: a grid of equal steps varies both, and that not at all. Cost
    beyond the overhead is then taken as proportional to it.
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
    while True:
        fits = [_with_overhead(logs, cost, share * cost.min()) for share in OVERHEAD_SHARES]
        squares, factor, powers, overhead = fits[int(np.argmin([squares for squares, *_ in fits]))]
        falling = [group for group, power in powers.items() if power < 0]
        if not falling:
            break
        logs = {group: log for group, log in logs.items() if group not in falling}  # larger is never cheaper
    if SAMPLES in groups and SAMPLES not in varying:
        factor /= float(np.median(sizes[SAMPLES]))
        powers[SAMPLES] = 1.0
    freedom = max(len(cost) - len(powers) - 2, 1)
    exponents = {axis: power for group, power in powers.items() for axis in group}
    return CostModel(unit, factor, exponents, overhead, float(np.sqrt(squares / freedom)), len(cost))


def _with_overhead(
    logs: dict[tuple[str, ...], FloatArray], cost: FloatArray, overhead: float
) -> tuple[float, float, dict[tuple[str, ...], float], float]:
    """Sum of squared errors of log cost, factor, exponents, overhead; linear in the logs once the overhead is known."""
    beyond = cost - overhead
    weight = beyond / cost  # of an error of log(cost - overhead) on that of log(cost)
    design = np.column_stack([np.ones(len(cost)), *logs.values()])
    solution = np.linalg.lstsq(design * weight[:, None], np.log(beyond) * weight, rcond=None)[0]
    error = np.log(overhead + np.exp(design @ solution)) - np.log(cost)
    powers = dict(zip(logs, solution[1:].tolist(), strict=True))
    return float(error @ error), float(np.exp(solution[0])), powers, overhead
