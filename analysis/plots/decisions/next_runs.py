"""Figures of what to run next."""

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from analysis.arrays import FloatArray
from analysis.design import NextRuns, Plan
from analysis.plots.sizes import axis_name
from analysis.plots.style import (
    BLUE,
    INK,
    MARKERS,
    MUTED,
    ORANGE,
    WIDTH_IN,
    house_style,
    log_axis,
    widened,
)
from analysis.texts import number_text, size_text
from scaling.errors import ConfigError

LINES = "#c0c0c0"
DASHED: Any = {"ms": 6, "mec": "white", "lw": 1.3, "zorder": 1.9}


def plot_next_map(result: NextRuns, *, per_cost: bool = False) -> Figure:
    """The sampled runs, the candidates coloured by how much one run of each would narrow, the advice numbered.

    Lines join sizes of equal cost. With `per_cost` the colour is the narrowing over the cost, in which the cheapest
    runs look best, however little they bring.
    """
    axes_of_law = result.law.form.axes
    if len(axes_of_law) != 2:
        raise ConfigError(f"form {result.law.form.name} has the axes {', '.join(axes_of_law)}; the map needs two")
    first, second = axes_of_law
    found, table = result.candidates, result.law.table
    color = 100 * -np.expm1(-np.maximum(result.gain, 0.0))
    if per_cost:
        color = np.log10(np.maximum(color, color.max() * 1e-4) / (100 * found.costs / result.budget))
    order = np.argsort(color)
    limits = {axis: widened(_extent(result, axis).min(), _extent(result, axis).max(), 0.05) for axis in axes_of_law}
    with house_style():
        figure = Figure(figsize=(WIDTH_IN, 5.2))
        axes = figure.add_subplot()
        axes.grid(False)
        log_axis(axes, "x", *limits[first], size_text, most=6)
        log_axis(axes, "y", *limits[second], size_text, most=7)
        _draw_costs(axes, result, limits)
        places = found.sizes[first][order], found.sizes[second][order]
        squares = axes.scatter(*places, c=color[order], marker="s", s=60, cmap="viridis", lw=0, zorder=2)
        axes.plot(table.axis(first), table.axis(second), "o", color="white", mec=INK, ms=5.5, mew=1.0, label="sampled")
        _number_runs(axes, result, first, second)
        if result.target.sizes:
            target = [[result.target.sizes[axis]] for axis in axes_of_law]
            axes.plot(*target, "*", color=ORANGE, ms=15, mec="white", label="target", ls="", clip_on=False)
        axes.plot([], [], "o", color=ORANGE, ms=9, mec="white", label="to run next, in this order")
        bar = figure.colorbar(squares, ax=axes, pad=0.02, ticks=MaxNLocator(5, integer=True))
        bar.set_label("one run narrows the interval by (%)")
        if per_cost:
            bar.ax.yaxis.set_major_formatter(FuncFormatter(lambda tick, _: number_text(10.0**tick)))
            bar.set_label("narrows by % for 1 % of the budget")
        axes.set_xlabel(axis_name(table, first))
        axes.set_ylabel(axis_name(table, second))
        figure.legend(loc="outside lower center", ncols=2)
    return figure


def plot_next_width(result: NextRuns) -> Figure:
    """Expected width of the interval against what is spent: the best plan for each budget, and the alternatives."""
    with house_style():
        figure = Figure(figsize=(WIDTH_IN, 4.2))
        axes = figure.add_subplot()
        unit = 100 / result.budget
        best = result.frontier
        label = f"best plan of at most {result.count} run{'s' if result.count > 1 else ''}"
        axes.plot(best[:, 0] * unit, best[:, 1], "o-", ms=6, lw=2.0, color=ORANGE, mec="white", label=label)
        for plan, color, marker in zip(result.alternatives, (BLUE, INK, MUTED), MARKERS[1:], strict=False):
            spent, width = _path(result, plan)
            axes.plot(spent * unit, width, f"{marker}--", label=plan.name, color=color, **DASHED)
        axes.set_ylim(0, 1.06 * result.width)
        axes.set_xlim(-1, 103)
        axes.set_xlabel(f"spent, % of the budget of {result.budget:.3g} {result.cost.unit}")
        axes.set_ylabel(f"width of the 95 % interval of {result.target.name}")
        axes.legend(loc="lower left")
    return figure


def _draw_costs(axes: Axes, result: NextRuns, limits: dict[str, tuple[float, float]]) -> None:
    """Lines of equal cost, a factor of ten apart down from the budget."""
    first, second = result.law.form.axes
    grid = np.meshgrid(np.geomspace(*limits[first], 60), np.geomspace(*limits[second], 60))
    cost = result.cost({first: grid[0].ravel(), second: grid[1].ravel()}).reshape(grid[0].shape)
    levels = result.budget * 10.0 ** np.arange(-4.0, 1.0)
    lines = axes.contour(*grid, cost, levels=levels, colors=LINES, linewidths=0.9, zorder=1)
    texts = {level: f"{100 * level / result.budget:.4g} %" for level in levels}
    axes.clabel(lines, fmt=texts, fontsize=8, colors=MUTED)
    axes.plot([], [], color=LINES, lw=0.9, label="cost, % of the budget")


def _path(result: NextRuns, plan: Plan) -> tuple[FloatArray, FloatArray]:
    spent = np.cumsum([0.0, *(run.cost for run in plan.runs)])
    return spent, np.array([result.width, *(run.width for run in plan.runs)])


def _number_runs(axes: Axes, result: NextRuns, first: str, second: str) -> None:
    """The recommended runs as numbered discs; runs of the same sizes share one."""
    numbers: dict[tuple[float, float], list[int]] = {}
    for place, run in enumerate(result.recommended.runs, start=1):
        numbers.setdefault((run.sizes[first], run.sizes[second]), []).append(place)
    for (x, y), places in numbers.items():
        axes.plot(x, y, "o", color=ORANGE, ms=13, mec="white", mew=1.0, zorder=5)
        text = ",".join(map(str, places))
        axes.annotate(
            text,
            (x, y),
            ha="center",
            va="center_baseline",
            fontsize=9 if len(places) == 1 else 6.5,
            color="white",
            weight="bold",
            zorder=6,
        )


def _extent(result: NextRuns, axis: str) -> FloatArray:
    target = [result.target.sizes[axis]] if axis in result.target.sizes else []
    return np.concatenate([result.candidates.sizes[axis], result.law.table.axis(axis), target])
