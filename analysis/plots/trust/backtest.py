"""Figure of runs that were held out, as the law fitted without them predicts them."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from analysis.plots.style import FAMILIES, MARKERS, MUTED, WIDTH_IN, house_style, log_axis, widened
from analysis.selection import HeldOut
from analysis.texts import size_text
from scaling.errors import ConfigError

FARTHER = 10.0  # times all points: an interval that reaches beyond runs to the figure's edge


def plot_backtest(backtests: Sequence[HeldOut], loss_name: str = "test loss") -> Figure:
    """Predicted against observed loss of the held-out runs, with 95 % intervals; hollow where the run lies outside.

    An interval that reaches farther than FARTHER times beyond all points, or has no end, runs to the figure's edge.
    """
    runs = [run for test in backtests for run in test.runs]
    if not runs:
        raise ConfigError("no backtest could be made, so there is none to draw")
    points = np.array([(run.observed, run.predicted) for run in runs])
    ends = np.clip([run.ci95 for run in runs], points.min() / FARTHER, points.max() * FARTHER)
    low, high = widened(min(points.min(), ends.min()), max(points.max(), ends.max()))
    with house_style():
        figure = Figure(figsize=(WIDTH_IN, 4.9))
        axes = figure.add_subplot()
        axes.plot([low, high], [low, high], color=MUTED, lw=1)
        for test, color, marker in zip(backtests, FAMILIES, MARKERS, strict=False):
            for run in test.runs:
                axes.plot([run.observed] * 2, np.clip(run.ci95, low, high), color=color, lw=1.4, alpha=0.6)
                face = color if run.inside else "white"
                axes.plot(run.observed, run.predicted, marker, color=color, mfc=face, ms=7, mew=1.4)
            label = f"{test.axis} ≥ {size_text(test.size)} held out"
            axes.plot([], [], marker, color=color, ms=7, label=label if test.runs else f"{label}: no fit")
        axes.plot([], [], "o", color=MUTED, mfc="white", ms=7, mew=1.4, label="outside its interval")
        log_axis(axes, "x", low, high)
        log_axis(axes, "y", low, high)
        axes.set_xlabel(f"observed {loss_name}")
        axes.set_ylabel(f"predicted {loss_name}")
        axes.legend(loc="upper left")
    return figure
