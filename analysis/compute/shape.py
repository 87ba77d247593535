"""Width and depth: the best shape of a model of given size, and at a given budget of FLOPs.

Legend of shapes: R thetas, P parameters, Q sizes or budgets.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from analysis.compute.allocation import Derived, allocate, predict_each
from analysis.compute.cost import Cost, measure_cost
from analysis.compute.optimal import beyond_range, default_budgets, unusable
from analysis.fitting.law import Law
from analysis.forms.terms import FloatArray
from analysis.tables import RunTable
from scaling.errors import ConfigError

SHAPE_WEIGHTS = {"width": 2.0, "depth": 1.0}
"""N ~ depth x width^2: a layer's matrices are width by width."""
MAX_DRIFT = 0.25
SIZE_FACTORS = (1.0, 10.0)


@dataclass(frozen=True)
class ShapeRule:
    """N = params_per_unit * depth * width^2 in these runs.

    Attributes:
        params_per_unit: median over the runs of N / (depth width^2).
        spread: its 5 to 95 %.
        powers: (p, q) of N ~ width^p depth^q over the runs.
        problem: why the rule does not describe them; None if it does.
    """

    params_per_unit: float
    spread: tuple[float, float]
    powers: tuple[float, float]
    problem: str | None


@dataclass(frozen=True)
class BestShape:
    """The widths and depths of least loss.

    Attributes:
        of: "N" (at a fixed D, `data_size` as given) or "C" (D is optimised too).
        budgets: (Q,) parameter counts or FLOPs.
        aspect: (Q,) depth / width.
        beyond: factor outside the sampled widths and depths, 1 inside.
        problems: why the numbers must not be used.
    """

    law: Law
    rule: ShapeRule
    cost: Cost | None
    of: str
    budgets: FloatArray
    width: Derived
    depth: Derived
    aspect: Derived
    data_size: Derived
    loss: Derived
    beyond: dict[str, FloatArray]
    problems: tuple[str, ...]


def measure_shape(table: RunTable) -> ShapeRule:
    """N = k depth width^2 from the table's own N, width and depth.

    Raises:
        ConfigError: if the table lacks one of them.
    """
    if missing := [axis for axis in ("N", "width", "depth") if not np.isfinite(table.axis(axis)).all()]:
        raise ConfigError(f"the shape of a model needs N, width and depth of every run; missing: {', '.join(missing)}")
    width, depth = table.axis("width"), table.axis("depth")
    each = table.num_params / (depth * width**2)
    logs = np.log(np.stack([width, depth], 1))
    target = np.log(each)
    slopes = np.linalg.lstsq(logs - logs.mean(0), target - target.mean(), rcond=0.05)[0]
    powers = float(2 + slopes[0]), float(1 + slopes[1])
    low, high = (float(bound) for bound in np.percentile(each, [5, 95]))
    text = f"in these runs N goes as width^{powers[0]:.2f} depth^{powers[1]:.2f}, not as width^2 depth"
    problem = text if np.abs(slopes).max() > MAX_DRIFT else None
    return ShapeRule(float(np.median(each)), (low, high), powers, problem)


def best_shape(
    law: Law, *, num_params: ArrayLike | None = None, budgets: ArrayLike | None = None, data_size: float | None = None
) -> BestShape:
    """Width and depth of least loss at given parameter counts and D, or at given FLOPs, where D is free as well.

    At fixed D equal FLOPs are equal N (C = k N D), so the two questions differ only by D.

    Args:
        num_params: (Q,) N; the largest sampled, and ten times that, by default.
        budgets: (Q,) FLOPs, in place of num_params.
        data_size: D at which N is fixed; the largest sampled by default.
    Raises:
        ConfigError: if the law is not one of width, depth and D, both kinds of budget are given, or one is absurd.
    """
    require_shape(law)
    if num_params is not None and budgets is not None:
        raise ConfigError("give num_params (at fixed data) or budgets (FLOPs, data free), not both")
    rule, table = measure_shape(law.table), law.table
    problems = [*unusable(law), *([rule.problem] if rule.problem else [])]
    weights, fixed, cost = SHAPE_WEIGHTS, {}, None
    if budgets is not None:
        cost = measure_cost(table, law.form.axes)
        asked = np.atleast_1d(np.asarray(budgets, dtype=float))
        weights = {**SHAPE_WEIGHTS, "D": 1.0}
        total = np.log(asked / (cost.flops_per_nd * rule.params_per_unit))
        problems += [cost.problem] if cost.problem else []
    else:
        largest = float(table.num_params.max())
        asked = np.array(
            [factor * largest for factor in SIZE_FACTORS] if num_params is None else np.atleast_1d(num_params), float
        )
        fixed = {"D": float(table.data_size.max()) if data_size is None else data_size}
        total = np.log(asked / rule.params_per_unit)

    def derive(quantity: Callable[[FloatArray, dict[str, FloatArray]], FloatArray]) -> Derived:
        def each(theta: FloatArray, which: NDArray[np.intp]) -> FloatArray:
            logs = allocate(law, theta, weights, total[which, None], fixed)
            logs |= {axis: np.full((len(theta), 1), np.log(size)) for axis, size in fixed.items()}
            return quantity(theta, logs)[:, 0]

        return Derived.of(law, each, len(asked)).map(np.exp)

    def size(axis: str) -> Derived:
        if axis in fixed:
            given = np.full(len(asked), fixed[axis])
            return Derived(given, np.stack([given, given]) if law.uncertainty.is_known else None)
        return derive(lambda _, logs: logs[axis])

    sizes = {axis: size(axis) for axis in ("width", "depth", "D")}
    return BestShape(
        law,
        rule,
        cost,
        "N" if cost is None else "C",
        asked,
        sizes["width"],
        sizes["depth"],
        derive(lambda _, logs: logs["depth"] - logs["width"]),
        sizes["D"],
        derive(lambda theta, logs: np.log(predict_each(law, theta, logs))),
        {axis: beyond_range(sizes[axis].value, table.axis(axis)) for axis in sizes},
        tuple(problems),
    )


def shape_budgets(law: Law) -> FloatArray:
    """(Q,) default budgets of FLOPs."""
    return default_budgets(measure_cost(law.table, law.form.axes).flops_of_runs)


def require_shape(law: Law) -> None:
    """Raise ConfigError unless the law is one of width, depth and D."""
    if set(law.form.axes) != {"width", "depth", "D"}:
        raise ConfigError(
            f"form {law.form.name} does not know width and depth apart; fit --form width_depth_data for the best shape"
        )


def untold_shape(law: Law) -> str | None:
    """What a law of N alone leaves open about width and depth, with the trace of it in the residuals.

    None unless the runs differ in both.
    """
    table = law.table
    sizes: Mapping[str, FloatArray] = {axis: table.axis(axis) for axis in ("width", "depth")}
    if "N" not in law.form.axes or any(not np.isfinite(size).all() or np.ptp(size) == 0 for size in sizes.values()):
        return None
    aspect = np.log2(sizes["depth"] / sizes["width"])
    x = aspect - aspect.mean()
    slope = float(x @ law.residuals / (x @ x))
    error = law.scatter / float(np.sqrt(x @ x))
    percent, spread = 100 * np.expm1(slope), 100 * error
    return (
        "The law knows N alone: it gives one loss to a wide and to a deep model of equal N, and cannot say which is "
        f"better. Its residuals change by {percent:+.1f} ± {spread:.1f} % for each doubling of depth / width; "
        "--form width_depth_data tells them apart."
    )
