"""Figures of laws: curves, surface, several laid over each other."""

from analysis.plots.laws.curves import plot_curves
from analysis.plots.laws.overlay import MOST_FAMILIES, plot_overlay
from analysis.plots.laws.surface import plot_surface

__all__ = [
    "MOST_FAMILIES",
    "plot_curves",
    "plot_overlay",
    "plot_surface",
]
