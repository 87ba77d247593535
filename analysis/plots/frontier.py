"""Figures of decisions: the efficient frontier, IsoFLOPs, sizes against compute, shapes, saturation."""

from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.ticker import LogFormatterSciNotation, NullLocator

from analysis.compute.allocation import Derived
from analysis.compute.cost import measure_cost
from analysis.compute.optimal import Frontier, frontier
from analysis.compute.parabolas import IsoFlop
from analysis.compute.returns import DEFAULT_SHARE, saturation
from analysis.compute.shape import best_shape, measure_shape, require_shape
from analysis.fitting.law import Law
from analysis.forms.terms import FloatArray
from analysis.plots.law import AXIS_NAMES, loss_levels
from analysis.plots.style import (
    BLUE,
    INK,
    MUTED,
    ORANGE,
    WIDTH_IN,
    house_style,
    log_axis,
    number_text,
    shades,
    size_text,
    widened,
)
from scaling.errors import ConfigError

POINTS = 20  # each has an interval of its own
GRID = 120
RUN: Any = {"ls": "", "marker": "o", "ms": 5, "mec": "white", "mew": 0.7}
FARTHER = 10.0
"""How far beyond the largest run's compute the curves go on."""
UNSEEN = 1e6
"""A band without an end is drawn to this factor beyond what is shown."""


def plot_frontier(found: Frontier) -> Figure:
    """Lines of equal loss in the plane of N and D, the runs, and the sizes of least loss for each budget.

    The frontier is dashed beyond the compute of the runs; its band is the 95 % interval of N* at equal compute.

    Raises:
        ConfigError: if the frontier has problems: it must not be drawn as if it were known.
    """
    path = _path(found)
    table, k = found.law.table, found.cost.flops_per_nd
    n_ends = widened(
        min(table.num_params.min(), path.num_params.value[0]), max(table.num_params.max(), path.num_params.value[-1])
    )
    d_ends = widened(
        min(table.data_size.min(), path.data_size.value[0]), max(table.data_size.max(), path.data_size.value[-1])
    )
    n_grid, d_grid = np.meshgrid(np.geomspace(*n_ends, GRID), np.geomspace(*d_ends, GRID))
    extra = {axis: found.cost.epochs for axis in found.law.form.axes if axis not in ("N", "D")}
    loss = found.law.predict(N=n_grid.ravel(), D=d_grid.ravel(), **extra).reshape(n_grid.shape)
    with house_style():
        figure = Figure(figsize=(WIDTH_IN, 5.0))
        axes = figure.add_subplot()
        axes.grid(False)
        contours = axes.contour(n_grid, d_grid, loss, levels=loss_levels(loss), colors=MUTED, linewidths=0.8)
        log_axis(axes, "x", *n_ends, size_text)
        log_axis(axes, "y", *d_ends, size_text)
        axes.clabel(contours, fmt=number_text, fontsize=8.5, inline_spacing=3)
        axes.plot(table.num_params, table.data_size, color=MUTED, alpha=0.75, label="runs", **RUN)
        if path.num_params.ci95 is not None:
            low, high = np.clip(path.num_params.ci95, n_ends[0] / UNSEEN, n_ends[1] * UNSEEN)
            ends = np.concatenate([low, high[::-1]])
            budgets = np.concatenate([path.budgets, path.budgets[::-1]])
            axes.fill(ends, budgets / (k * ends), color=ORANGE, alpha=0.25, lw=0)
        inside = path.beyond["C"] <= 1
        last = int(np.flatnonzero(inside)[-1]) if inside.any() else 0
        axes.plot(
            path.num_params.value[: last + 1],
            path.data_size.value[: last + 1],
            color=ORANGE,
            lw=2.2,
            label="compute-optimal",
        )
        axes.plot(
            path.num_params.value[last:],
            path.data_size.value[last:],
            color=ORANGE,
            lw=2.2,
            ls=(0, (3, 1.5)),
            label="beyond the runs' compute",
        )
        for budget in _decades(path.budgets):
            line = np.geomspace(*n_ends, 2)
            axes.plot(line, budget / (k * line), color=BLUE, lw=0.8, ls=":", zorder=1)
            _name_budget(axes, budget, budget / k, n_ends, d_ends)
        axes.plot([], [], color=BLUE, lw=0.8, ls=":", label="equal FLOPs")
        axes.set_xlabel(_name(found.law, "N"))
        axes.set_ylabel(_name(found.law, "D"))
        figure.legend(loc="outside lower center", ncols=2)
    return figure


def plot_isoflop(found: IsoFlop) -> Figure:
    """Loss against N for each budget with its parabola and optimum, and the surface's own curve beside it."""
    if not found.parabolas:
        raise ConfigError("no budget of these runs has an optimum of its own; see the reasons in left_out")
    table, colors = found.law.table, shades(len(found.parabolas))
    sizes = np.concatenate([table.num_params[p.rows] for p in found.parabolas])
    losses = np.concatenate([table.loss[p.rows] for p in found.parabolas])
    with house_style():
        figure = Figure(figsize=(WIDTH_IN, 4.9))
        axes = figure.add_subplot()
        for parabola, color in zip(found.parabolas, colors, strict=True):
            n = table.num_params[parabola.rows]
            grid = np.geomspace(n.min(), n.max(), GRID)
            x = np.log(grid) - parabola.centre
            label = _power_text(parabola.budget)
            axes.plot(n, table.loss[parabola.rows], color=color, alpha=0.55, **RUN)
            axes.plot(grid, parabola.coefficients @ [np.ones_like(x), x, x**2], color=color, lw=1.5, label=label)
            nd = np.exp(np.log(n * table.data_size[parabola.rows]).mean())
            extra = {axis: found.cost.epochs for axis in found.law.form.axes if axis not in ("N", "D")}
            axes.plot(grid, found.law.predict(N=grid, D=nd / grid, **extra), color=color, lw=1, ls="--")
            interval = parabola.num_params.ci95
            if interval is not None:
                axes.plot(interval, [parabola.loss] * 2, color=ORANGE, lw=1.6, zorder=5)
            axes.plot(parabola.num_params.value, parabola.loss, "*", color=ORANGE, ms=12, mec="white", zorder=6)
        axes.plot([], [], "*-", color=ORANGE, ms=12, mec="white", label="parabola's optimum")
        axes.plot([], [], color=MUTED, lw=1, ls="--", label="fitted surface")
        log_axis(axes, "x", *widened(sizes.min(), sizes.max()), size_text)
        log_axis(axes, "y", *widened(losses.min(), losses.max(), 0.05))
        axes.set_xlabel(_name(found.law, "N"))
        axes.set_ylabel(found.law.table.columns["loss"].replace("_", " "))
        figure.legend(title="FLOPs", loc="outside right center")
    return figure


def plot_compute(found: Frontier) -> Figure:
    """N*, D* and D* / N* against compute with their 95 % intervals, dashed beyond the runs' compute."""
    path = _path(found)
    panels = ((path.num_params, "N*"), (path.data_size, "D*"), (path.ratio, "D* / N*"))
    with house_style():
        figure = Figure(figsize=(1.35 * WIDTH_IN, 3.5))
        for axes, (quantity, name) in zip(figure.subplots(1, 3), panels, strict=True):
            inside = path.beyond["C"] <= 1
            last = int(np.flatnonzero(inside)[-1]) if inside.any() else 0
            _band(axes, path.budgets, quantity)
            axes.plot(path.budgets[: last + 1], quantity.value[: last + 1], color=BLUE)
            axes.plot(path.budgets[last:], quantity.value[last:], color=BLUE, ls=(0, (3, 1.5)))
            ends = _finite_ends(quantity)
            _power_axis(axes, *widened(path.budgets[0], path.budgets[-1], 0.02))
            log_axis(axes, "y", *widened(float(ends.min()), float(ends.max())), size_text)
            axes.set_title(name)
            axes.set_xlabel("training FLOPs C")
        if quantity.ci95 is not None:
            axes.fill_between([], [], color=BLUE, alpha=0.2, lw=0, label="95 % interval of the law")
        axes.plot([], [], color=BLUE, label="within the runs' compute")
        axes.plot([], [], color=BLUE, ls=(0, (3, 1.5)), label="beyond it")
        figure.legend(loc="outside lower center", ncols=3)
    return figure


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
        right.set_title(f"{_power_text(flops)} FLOPs, D = C / (k N)")
        figure.legend(loc="outside lower center", ncols=3)
    return figure


def plot_saturation(law: Law, axis: str = "N", *, share: float = DEFAULT_SHARE) -> Figure:
    """Against the other axis, the size beyond which all further growth of `axis` lowers the loss by `share`.

    Raises:
        ConfigError: if the law does not have both axes, or the exponents behind it are not identified.
    """
    other = {"N": "D", "D": "N"}.get(axis, "")
    if not {axis, other} <= set(law.form.axes):
        raise ConfigError(f"form {law.form.name} has the axes {', '.join(law.form.axes)}; this figure needs N and D")
    sampled = law.table.axis(other)
    given = np.geomspace(*widened(sampled.min(), sampled.max(), 0.08), POINTS)
    found = saturation(law, axis, share=share, given=given)
    if found.problems:
        raise ConfigError(f"no saturation can be drawn: {'; '.join(found.problems)}")
    own = law.table.axis(axis)
    with house_style():
        figure = Figure(figsize=(WIDTH_IN, 4.4))
        axes = figure.add_subplot()
        _band(axes, given, found.size)
        axes.plot(given, found.size.value, color=BLUE, label=f"{100 * share:g} % of the loss left to gain from {axis}")
        axes.plot(sampled, own, color=MUTED, alpha=0.75, label="runs", **RUN)
        ends = _finite_ends(found.size)
        log_axis(axes, "x", float(given[0]), float(given[-1]), size_text)
        log_axis(axes, "y", *widened(min(own.min(), ends.min()), max(own.max(), ends.max())), size_text)
        axes.set_xlabel(_name(law, other))
        axes.set_ylabel(_name(law, axis))
        figure.legend(loc="outside lower center", ncols=2)
    return figure


def _pale() -> ListedColormap:
    """Viridis mixed with white, so that lines and points stand out; transparency would show the mesh."""
    colors = matplotlib.colormaps["viridis"](np.linspace(0, 1, 256))
    return ListedColormap(1 - 0.45 * (1 - colors[:, :3]))


def _path(found: Frontier) -> Frontier:
    """The same frontier from the smallest run's compute to FARTHER times the largest's."""
    if found.problems:
        raise ConfigError(f"no frontier can be drawn: {'; '.join(found.problems)}")
    flops = found.cost.flops_of_runs
    largest = float(flops.max())
    budgets = np.geomspace(flops.min(), largest * FARTHER, POINTS)
    budgets = np.unique(np.append(budgets, largest))
    stated = found.cost.flops_per_nd if found.cost.spread is None else None
    return frontier(found.law, budgets, flops_per_nd=stated)


def _decades(budgets: FloatArray) -> FloatArray:
    """Powers of ten (or of a hundred) within the budgets."""
    low, high = np.ceil(np.log10(budgets[0])), np.floor(np.log10(budgets[-1]))
    step = 1 if high - low <= 6 else 2
    decades: FloatArray = 10.0 ** np.arange(low, high + 1, step)
    return decades


def _name_budget(
    axes: Axes, budget: float, nd: float, n_ends: tuple[float, float], d_ends: tuple[float, float]
) -> None:
    """The budget beside the upper or right end of its line."""
    n = max(nd / d_ends[1], n_ends[0])
    at_top = n > n_ends[0]
    axes.annotate(
        _power_text(budget),
        (n, nd / n),
        xytext=(2, 2) if at_top else (-3, 0),
        textcoords="offset points",
        ha="left" if at_top else "right",
        va="bottom" if at_top else "center",
        fontsize=8,
        color=BLUE,
        annotation_clip=False,
    )


def _power_text(value: float) -> str:
    """A power of ten as such, other numbers with one digit before it: 10²¹, 3 × 10²¹."""
    exponent = int(np.floor(np.log10(value) + 1e-9))
    lead = value / 10.0**exponent
    power = f"$10^{{{exponent}}}$"
    return power if abs(lead - 1) < 0.005 else f"{lead:.2g} × {power}"


def _power_axis(axes: Axes, low: float, high: float) -> None:
    """A logarithmic axis of FLOPs with powers of ten as ticks."""
    axes.set_xscale("log")
    axes.set_xlim(low, high)
    axes.set_xticks(_decades(np.array([low, high])))
    axes.xaxis.set_major_formatter(LogFormatterSciNotation())
    axes.xaxis.set_minor_locator(NullLocator())


def _band(axes: Axes, x: FloatArray, quantity: Derived) -> None:
    if quantity.ci95 is not None:
        ends = np.clip(quantity.ci95, quantity.value.min() / UNSEEN, quantity.value.max() * UNSEEN)
        axes.fill_between(x, *ends, color=BLUE, alpha=0.2, lw=0)


def _finite_ends(quantity: Derived) -> FloatArray:
    """The numbers and the ends of their intervals, but those that the runs do not bound."""
    ends = quantity.value if quantity.ci95 is None else np.append(quantity.value, quantity.ci95)
    return np.asarray(ends[np.isfinite(ends) & (ends > 0)])


def _shape_side(num_params: FloatArray, aspect: FloatArray, params_per_unit: float) -> FloatArray:
    """(Q, 2) width and depth of models of so many parameters with this depth / width."""
    width = (num_params / (params_per_unit * aspect)) ** (1 / 3)
    return np.stack([width, aspect * width], 1)


def _name(law: Law, axis: str) -> str:
    column = law.table.columns[axis]
    return AXIS_NAMES.get(column, f"{axis} = {column}")
