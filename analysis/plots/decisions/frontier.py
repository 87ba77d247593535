"""Figures of the compute-optimal sizes: in the plane of N and D, and against compute."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogFormatterSciNotation, NullLocator

from analysis.arrays import FloatArray
from analysis.compute import Frontier, frontier
from analysis.plots.decisions.bands import POINTS, RUN, UNSEEN, draw_ends, finite_ends, flops_text
from analysis.plots.sizes import axis_name
from analysis.plots.style import BLUE, MUTED, ORANGE, WIDTH_IN, house_style, log_axis, loss_levels, widened
from analysis.texts import number_text, size_text
from scaling.errors import ConfigError

GRID = 120
FARTHER = 10.0
"""How far beyond the largest run's compute the curves go on."""
DASHES = (0, (3, 1.5))


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
        axes.set_xlabel(axis_name(found.law.table, "N"))
        axes.set_ylabel(axis_name(found.law.table, "D"))
        figure.legend(loc="outside lower center", ncols=2)
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
            draw_ends(axes, path.budgets, quantity)
            axes.plot(path.budgets[: last + 1], quantity.value[: last + 1], color=BLUE)
            axes.plot(path.budgets[last:], quantity.value[last:], color=BLUE, ls=(0, (3, 1.5)))
            ends = finite_ends(quantity)
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
        flops_text(budget),
        (n, nd / n),
        xytext=(2, 2) if at_top else (-3, 0),
        textcoords="offset points",
        ha="left" if at_top else "right",
        va="bottom" if at_top else "center",
        fontsize=8,
        color=BLUE,
        annotation_clip=False,
    )


def _power_axis(axes: Axes, low: float, high: float) -> None:
    """A logarithmic axis of FLOPs with powers of ten as ticks."""
    axes.set_xscale("log")
    axes.set_xlim(low, high)
    axes.set_xticks(_decades(np.array([low, high])))
    axes.xaxis.set_major_formatter(LogFormatterSciNotation())
    axes.xaxis.set_minor_locator(NullLocator())
