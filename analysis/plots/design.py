"""Figures of what to run next."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from analysis.design import NextRuns, Plan
from analysis.plots.law import AXIS_NAMES
from analysis.style import BLUE, INK, MARKERS, MUTED, ORANGE, WIDTH_IN, house_style, log_axis, number_text, size_text, widened
from analysis.terms import FloatArray
from scaling.errors import ConfigError


def plot_next_map(result: NextRuns) -> Figure:
    """The sampled runs, the candidates coloured by what one run of each narrows per cost, the advice numbered."""
    axes_of_law = result.law.form.axes
    if len(axes_of_law) != 2:
        raise ConfigError(f"form {result.law.form.name} has the axes {', '.join(axes_of_law)}; the map needs two")
    first, second = axes_of_law
    found, table = result.candidates, result.law.table
    narrowed = 100 * -np.expm1(-np.maximum(result.gain, 0.0))
    per_cost = narrowed / (100 * found.costs / result.budget)
    order = np.argsort(per_cost)
    with house_style():
        figure = Figure(figsize=(WIDTH_IN, 5.2))
        axes = figure.add_subplot()
        shown = np.log10(np.maximum(per_cost, per_cost.max() * 1e-4))
        squares = axes.scatter(
            found.sizes[first][order], found.sizes[second][order], c=shown[order], marker="s", s=64, cmap="viridis", lw=0
        )
        axes.plot(table.axis(first), table.axis(second), "o", color="white", mec=INK, ms=5.5, mew=1.0, label="sampled")
        _number_runs(axes, result, first, second)
        every = {axis: _extent(result, axis) for axis in axes_of_law}
        log_axis(axes, "x", *widened(every[first].min(), every[first].max(), 0.05), size_text, most=6)
        log_axis(axes, "y", *widened(every[second].min(), every[second].max(), 0.05), size_text, most=7)
        if result.target.sizes:
            axes.plot(*[result.target.sizes[axis] for axis in axes_of_law], "*", color=ORANGE, ms=15, mec="white", label="target")
        axes.plot([], [], "o", color=ORANGE, ms=9, mec="white", label="to run next, in this order")
        bar = figure.colorbar(squares, ax=axes, pad=0.02)
        bar.outline.set_visible(False)  # type: ignore[operator]
        bar.locator = MaxNLocator(5, integer=True)
        bar.update_ticks()
        bar.ax.set_yticklabels([number_text(10.0**tick) for tick in bar.get_ticks()])
        bar.set_label("narrows the interval by % for 1 % of the budget")
        axes.set_xlabel(_axis_name(result, first))
        axes.set_ylabel(_axis_name(result, second))
        figure.legend(loc="outside lower center", ncols=3)
    return figure


def plot_next_width(result: NextRuns) -> Figure:
    """Expected width of the target's interval against what has been spent, for the advice and the alternatives."""
    with house_style():
        figure = Figure(figsize=(WIDTH_IN, 4.2))
        axes = figure.add_subplot()
        unit = 100 / result.budget
        plans = (result.recommended, *result.alternatives)
        for plan, color, marker in zip(plans, (ORANGE, BLUE, INK, MUTED), MARKERS, strict=False):
            spent, width = _path(result, plan)
            line = {"lw": 2.0} if plan is result.recommended else {"lw": 1.3, "ls": "--"}
            axes.plot(spent * unit, width, marker=marker, ms=6, color=color, mec="white", label=plan.name, **line)
        top = float(_path(result, result.recommended)[1][0])
        axes.set_ylim(0, 1.06 * top)
        axes.set_xlim(0, 103)
        axes.set_xlabel(f"spent, % of the budget of {result.budget:.3g} {result.cost.unit}")
        axes.set_ylabel(f"95 % interval of {result.target.name}, width")
        axes.legend(loc="lower left")
    return figure


def _path(result: NextRuns, plan: Plan) -> tuple[FloatArray, FloatArray]:
    spent = np.cumsum([0.0, *(run.cost for run in plan.runs)])
    return spent, np.array([result.width, *(run.width for run in plan.runs)])


def _number_runs(axes: Axes, result: NextRuns, first: str, second: str) -> None:
    """The recommended runs as numbered discs; runs of the same sizes share one."""
    numbers: dict[tuple[float, float], list[int]] = {}
    for place, run in enumerate(result.recommended.runs, start=1):
        numbers.setdefault((run.sizes[first], run.sizes[second]), []).append(place)
    for (x, y), places in numbers.items():
        axes.plot(x, y, "o", color=ORANGE, ms=15, mec="white", mew=1.2, zorder=5)
        text = ",".join(map(str, places))
        axes.annotate(text, (x, y), ha="center", va="center_baseline", fontsize=9, color="white", weight="bold", zorder=6)


def _extent(result: NextRuns, axis: str) -> FloatArray:
    target = [result.target.sizes[axis]] if axis in result.target.sizes else []
    return np.concatenate([result.candidates.sizes[axis], result.law.table.axis(axis), target])


def _axis_name(result: NextRuns, axis: str) -> str:
    column = result.law.table.columns[axis]
    return AXIS_NAMES.get(column, f"{axis} = {column}")
