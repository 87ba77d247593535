"""Figures: each function takes results and returns a matplotlib Figure; nothing is fitted here."""

from analysis.plots.frontier import plot_compute, plot_frontier, plot_isoflop, plot_saturation, plot_shape
from analysis.plots.law import Reference, plot, plot_backtest

__all__ = [
    "Reference",
    "plot",
    "plot_backtest",
    "plot_compute",
    "plot_frontier",
    "plot_isoflop",
    "plot_saturation",
    "plot_shape",
]
