"""Figure of the best width and depth."""

import matplotlib
import numpy as np
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure

from analysis.arrays import FloatArray
from analysis.compute import best_shape, measure_cost, measure_shape, require_shape
from analysis.fitting import Law
from analysis.plots.decisions.bands import POINTS, RUN, UNSEEN, flops_text
from analysis.plots.style import INK, MUTED, ORANGE, WIDTH_IN, house_style, log_axis, loss_levels, widened
from analysis.texts import number_text, size_text
from scaling.errors import ConfigError

GRID = 120


def plot_shape(law: Law, *, data_size: float | None = None, budget: float | None = None) -> Figure:
    """Predicted loss over width and depth at fixed D (left) and at fixed FLOPs (right), with the best shapes.

    Equal losses are lines; the orange line joins the best shape of each parameter count, the star is the best of all
    at that budget. Circles are the runs' shapes.

    Args:
        data_size: D of the left panel; the largest sampled by default.
        budget: FLOPs of the right panel; the median run's by default.
    Raises:
        ConfigError: if the law is not one of width, depth and D, or its exponents are not identified.
    """
    require_shape(law)
    table, rule, cost = law.table, measure_shape(law.table), measure_cost(law.table)
    fixed = float(table.data_size.max()) if data_size is None else data_size
    flops = float(f"{np.median(cost.flops_of_runs):.0e}") if budget is None else budget
    widths, depths = (widened(table.axis(a).min() / 1.5, table.axis(a).max() * 1.5, 0) for a in ("width", "depth"))
    width, depth = np.meshgrid(np.geomspace(*widths, GRID), np.geomspace(*depths, GRID))
    params = rule.params_per_unit * depth * width**2
    ridge = best_shape(law, num_params=np.geomspace(params.min(), params.max(), POINTS), data_size=fixed)
    star = best_shape(law, budgets=[flops])
    if ridge.problems or star.problems:
        raise ConfigError(f"no best shape can be drawn: {'; '.join(dict.fromkeys(ridge.problems + star.problems))}")
    at_data = law.predict(width=width.ravel(), depth=depth.ravel(), D=np.full(width.size, fixed)).reshape(width.shape)
    spent = flops / (cost.flops_per_nd * params)
    at_flops = law.predict(width=width.ravel(), depth=depth.ravel(), D=spent.ravel()).reshape(width.shape)
    with house_style():
        figure = Figure(figsize=(1.25 * WIDTH_IN, 4.4))
        left, right = figure.subplots(1, 2, sharey=True)
        for axes, loss in ((left, at_data), (right, at_flops)):
            axes.grid(False)
            levels = loss_levels(loss)
            axes.pcolormesh(width, depth, np.log(loss), cmap=_pale(), shading="gouraud", rasterized=True)
            contours = axes.contour(width, depth, loss, levels=levels, colors=INK, linewidths=0.8)
            log_axis(axes, "x", *widths, size_text, most=6)
            log_axis(axes, "y", *depths, size_text, most=6)
            axes.clabel(contours, fmt=number_text, fontsize=8.5, inline_spacing=3)
            axes.plot(table.axis("width"), table.axis("depth"), color=MUTED, **RUN)
            axes.set_xlabel("width")
        if ridge.aspect.ci95 is not None:
            ends = np.clip(ridge.aspect.ci95, ridge.aspect.value.min() / UNSEEN, ridge.aspect.value.max() * UNSEEN)
            sides = [_shape_side(ridge.budgets, aspect, rule.params_per_unit) for aspect in ends]
            outline = np.concatenate([sides[0], sides[1][::-1]])
            left.fill(outline[:, 0], outline[:, 1], color=ORANGE, alpha=0.25, lw=0)
        left.plot(ridge.width.value, ridge.depth.value, color=ORANGE, lw=2.2, label="best shape at equal N")
        inside = (star.beyond["width"] <= 1.5) & (star.beyond["depth"] <= 1.5)
        if inside.all():
            right.plot(star.width.value, star.depth.value, "*", color=ORANGE, ms=15, mec="white")
        best = f"best: width {star.width.value[0]:.3g}, depth {star.depth.value[0]:.2g}"
        right.plot([], [], "*", color=ORANGE, ms=12, label=best + ("" if inside.all() else " (outside)"))
        left.plot([], [], color=MUTED, label="runs", **RUN)
        left.set_ylabel("depth")
        left.set_title(f"D = {size_text(fixed)}")
        right.set_title(f"{flops_text(flops)} FLOPs, D = C / (k N)")
        figure.legend(loc="outside lower center", ncols=3)
    return figure


def _pale() -> ListedColormap:
    """Viridis mixed with white, so that lines and points stand out; transparency would show the mesh."""
    colors = matplotlib.colormaps["viridis"](np.linspace(0, 1, 256))
    return ListedColormap(1 - 0.45 * (1 - colors[:, :3]))


def _shape_side(num_params: FloatArray, aspect: FloatArray, params_per_unit: float) -> FloatArray:
    """(Q, 2) width and depth of models with these numbers of parameters and this depth / width."""
    width = (num_params / (params_per_unit * aspect)) ** (1 / 3)
    return np.stack([width, aspect * width], 1)
