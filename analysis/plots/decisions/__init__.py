"""Figures of what compute is best spent on, and what to run next."""

from analysis.plots.decisions.frontier import plot_compute, plot_frontier
from analysis.plots.decisions.isoflop import plot_isoflop
from analysis.plots.decisions.next_runs import plot_next_map, plot_next_width
from analysis.plots.decisions.saturation import plot_saturation
from analysis.plots.decisions.shapes import plot_shape

__all__ = [
    "plot_compute",
    "plot_frontier",
    "plot_isoflop",
    "plot_next_map",
    "plot_next_width",
    "plot_saturation",
    "plot_shape",
]
