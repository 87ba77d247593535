"""Figure of the bootstrap over all parameters of a law."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, MaxNLocator, NullFormatter

from analysis.arrays import FloatArray
from analysis.fitting import Law
from analysis.plots.style import BLUE, INK, ORANGE, WIDTH_IN, house_style, round_numbers, widened
from analysis.texts import size_text
from scaling.errors import ConfigError

SHOWN_SAMPLES = 1500
DECADES_APART = 3.0  # samples that spread over more than this factor are drawn on a logarithmic axis
GREEK = {"alpha": "α", "beta": "β", "gamma": "γ", "kappa": "κ", "alpha_N": "α of N", "alpha_D": "α of D"}


def plot_corner(law: Law) -> Figure:
    """All parameters of the bootstrap against each other; on the diagonal each alone, with its 95 % interval."""
    if law.samples is None:
        raise ConfigError("the law was fitted without a bootstrap; fit it with replicates=1000 to draw one")
    values = law.samples.values[np.isfinite(law.samples.values).all(1)]
    names = [estimate.name for estimate in law.params]
    count = len(names)
    ranges = [_range(values[:, k], law.params[k].value) for k in range(count)]
    kinds = [parameter.kind for parameter in law.form.parameters]
    logged = [
        kind in ("coefficient", "shape") and low > 0 and high / low > DECADES_APART
        for kind, (low, high) in zip(kinds, ranges, strict=True)
    ]
    shown = values[:: max(1, len(values) // SHOWN_SAMPLES)]
    with house_style():
        figure = Figure(figsize=(WIDTH_IN, WIDTH_IN * 0.97))
        grid = figure.subplots(count, count, squeeze=False)
        for row in range(count):
            for column in range(count):
                axes = grid[row, column]
                if column > row:
                    axes.remove()
                    continue
                axes.grid(False)
                if row == column:
                    _draw_alone(axes, law, values[:, row], row, ranges[row], logged[row])
                else:
                    axes.plot(
                        shown[:, column], shown[:, row], "o", color=BLUE, ms=1.8, alpha=0.25, mew=0, rasterized=True
                    )
                    axes.plot(
                        law.params[column].value, law.params[row].value, "*", color=ORANGE, ms=9, mec="white", mew=0.6
                    )
                    _few_ticks(axes, "y", ranges[row], logged[row], named=column == 0)
                _few_ticks(axes, "x", ranges[column], logged[column], named=row == count - 1)
                if row == count - 1:
                    axes.set_xlabel(symbol(names[column]))
                if column == 0 and row > 0:
                    axes.set_ylabel(symbol(names[row]))
        figure.align_labels()
        entries = [
            Line2D([], [], color=BLUE, marker="o", ls="", ms=4, label="bootstrap refit"),
            Line2D([], [], color=ORANGE, marker="*", ls="", ms=10, label="best fit"),
            Line2D([], [], color=INK, lw=1, ls="--", label="95 % interval reported"),
        ]
        figure.legend(handles=entries, loc="upper right", bbox_to_anchor=(0.98, 0.97))
    return figure


def _draw_alone(
    axes: Axes, law: Law, samples: FloatArray, column: int, ends: tuple[float, float], logged: bool
) -> None:
    edges = np.geomspace(*ends, 31) if logged else np.linspace(*ends, 31)
    axes.hist(samples, bins=list(edges), color=BLUE, alpha=0.55)
    for end in law.params[column].ci95 or ():
        if ends[0] <= end <= ends[1]:
            axes.axvline(end, color=INK, lw=1, ls="--")
    axes.axvline(law.params[column].value, color=ORANGE, lw=1.4)
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)


def _range(samples: FloatArray, best: float) -> tuple[float, float]:
    """What is shown of a parameter: all but the outermost samples, and the best fit."""
    low, high = np.percentile(samples, [0.5, 99.5])
    low, high = min(float(low), best), max(float(high), best)
    if low > 0 and high / low > DECADES_APART:
        return widened(low, high, 0.05)
    margin = 0.05 * (high - low) or 0.05 * abs(best) or 0.1
    return low - margin, high + margin


def _few_ticks(axes: Axes, which: str, ends: tuple[float, float], logged: bool, *, named: bool) -> None:
    axis = axes.xaxis if which == "x" else axes.yaxis
    if logged:
        (axes.set_xscale if which == "x" else axes.set_yscale)("log")
        axis.set_major_locator(FixedLocator(_apart(round_numbers(*ends, 4), ends)))
        axis.set_minor_formatter(NullFormatter())
        axis.set_minor_locator(FixedLocator([]))
        axis.set_major_formatter(lambda value, _: size_text(value))
    else:
        axis.set_major_locator(MaxNLocator(2 if which == "x" else 3, steps=[1, 2, 5, 10]))
    (axes.set_xlim if which == "x" else axes.set_ylim)(*ends)
    axis.set_tick_params(labelsize=8)
    if not named:
        axis.set_tick_params(labelbottom=False, labelleft=False)


def _apart(ticks: FloatArray, ends: tuple[float, float]) -> list[float]:
    """Those ticks whose numbers do not run into each other on a logarithmic axis an inch long."""
    length = np.log(ends[1] / ends[0])
    kept: list[float] = []
    for tick in ticks.tolist():
        if not kept or np.log(tick / kept[-1]) > 0.3 * length:
            kept.append(tick)
    return kept


def symbol(name: str) -> str:
    """The parameter in Greek letters, where it has one."""
    return GREEK.get(name, name)
