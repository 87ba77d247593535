"""Width and depth: the best shape of a model of given size, and at a given budget of FLOPs.

Legend of shapes: R thetas, P parameters, Q sizes or budgets.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from analysis.arrays import FloatArray, IntArray
from analysis.compute.allocation import Derived, allocate, predict_each
from analysis.compute.cost import Cost, measure_cost
from analysis.compute.optimal import beyond_range, default_budgets, unusable
from analysis.fitting import Law
from analysis.tables import RunTable
from scaling.errors import ConfigError

SHAPE_WEIGHTS = {"width": 2.0, "depth": 1.0}
"""N ~ depth x width^2: a layer's matrices are width by width."""
MAX_DRIFT = 0.25
SIZE_FACTORS = (1.0, 10.0)
AXES = ("width", "depth", "D")


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
    rule = measure_shape(law.table)
    if budgets is not None:
        cost = measure_cost(law.table, law.form.axes)
        asked = np.atleast_1d(np.asarray(budgets, dtype=float))
        log_budget = np.log(asked / (cost.flops_per_nd * rule.params_per_unit))
        found = _divide(law, {**SHAPE_WEIGHTS, "D": 1.0}, log_budget, {})
        return _best(law, rule, cost, asked, found)
    largest = float(law.table.num_params.max())
    asked = np.atleast_1d(np.multiply(SIZE_FACTORS, largest) if num_params is None else np.asarray(num_params, float))
    fixed = {"D": float(law.table.data_size.max()) if data_size is None else data_size}
    return _best(law, rule, None, asked, _divide(law, SHAPE_WEIGHTS, np.log(asked / rule.params_per_unit), fixed))


def _divide(
    law: Law, weights: Mapping[str, float], log_budget: FloatArray, fixed: Mapping[str, float]
) -> dict[str, Derived]:
    """Of the best division of each budget (Q,): the sizes by axis, "aspect" (depth / width) and "loss"."""
    count = len(log_budget)

    def derive(quantity: Callable[[FloatArray, dict[str, FloatArray]], FloatArray]) -> Derived:
        def each(theta: FloatArray, which: IntArray) -> FloatArray:
            logs = allocate(law, theta, weights, log_budget[which, None], fixed)
            logs |= {axis: np.full((len(theta), 1), np.log(size)) for axis, size in fixed.items()}
            return quantity(theta, logs)[:, 0]

        return Derived.of(law, each, count).map(np.exp)

    def size(axis: str) -> Derived:
        if axis in fixed:
            given = np.full(count, fixed[axis])
            return Derived(given, np.stack([given, given]) if law.uncertainty.is_known else None)
        return derive(lambda _, logs: logs[axis])

    return {
        **{axis: size(axis) for axis in AXES},
        "aspect": derive(lambda _, logs: logs["depth"] - logs["width"]),
        "loss": derive(lambda theta, logs: np.log(predict_each(law, theta, logs))),
    }


def _best(law: Law, rule: ShapeRule, cost: Cost | None, asked: FloatArray, found: dict[str, Derived]) -> BestShape:
    """The divisions of the budgets asked for, with what limits their use."""
    problems = [*unusable(law), rule.problem, cost.problem if cost else None]
    return BestShape(
        law=law,
        rule=rule,
        cost=cost,
        of="N" if cost is None else "C",
        budgets=asked,
        width=found["width"],
        depth=found["depth"],
        aspect=found["aspect"],
        data_size=found["D"],
        loss=found["loss"],
        beyond={axis: beyond_range(found[axis].value, law.table.axis(axis)) for axis in AXES},
        problems=tuple(problem for problem in problems if problem),
    )


def shape_budgets(law: Law) -> FloatArray:
    """(Q,) default budgets of FLOPs."""
    return default_budgets(measure_cost(law.table, law.form.axes).flops_of_runs)


def require_shape(law: Law) -> None:
    """Raise ConfigError unless the law is one of width, depth and D."""
    if set(law.form.axes) != set(AXES):
        raise ConfigError(
            f"form {law.form.name} does not know width and depth apart; fit --form width_depth_data for the best shape"
        )


def open_question(law: Law) -> str | None:
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
    error = law.residual_sd / float(np.sqrt(x @ x))
    percent, spread = 100 * np.expm1(slope), 100 * error
    return (
        "The law knows N alone: it gives one loss to a wide and to a deep model of equal N, and cannot say which is "
        f"better. Its residuals change by {percent:+.1f} ± {spread:.1f} % for each doubling of depth / width; "
        "--form width_depth_data parts them."
    )
