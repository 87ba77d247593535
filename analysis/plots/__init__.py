"""Figures: each function takes results and returns a matplotlib Figure; nothing is fitted here."""

from analysis.plots.backtest import plot_comparison
from analysis.plots.law import Reference, plot, plot_backtest

__all__ = ["Reference", "plot", "plot_backtest", "plot_comparison"]
