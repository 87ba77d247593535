"""Figures: each function takes results and returns a matplotlib Figure; nothing is fitted here."""

from analysis.plots.backtest import plot_comparison
from analysis.plots.frontier import plot_compute, plot_frontier, plot_isoflop, plot_saturation, plot_shape
from analysis.plots.law import plot_backtest
from analysis.plots.registry import FIGURES, Kind, draw, plot
from analysis.plots.save import Picture, save
from analysis.study.findings import Reference

__all__ = [
    "FIGURES",
    "Kind",
    "Picture",
    "Reference",
    "draw",
    "plot",
    "plot_backtest",
    "plot_comparison",
    "plot_compute",
    "plot_frontier",
    "plot_isoflop",
    "plot_saturation",
    "plot_shape",
    "save",
]
