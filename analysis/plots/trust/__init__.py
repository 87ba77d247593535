"""Figures of how far to trust a law."""

from analysis.plots.trust.backtest import plot_backtest
from analysis.plots.trust.comparison import plot_comparison
from analysis.plots.trust.corner import plot_corner
from analysis.plots.trust.influence import plot_influence
from analysis.plots.trust.profile import plot_profile
from analysis.plots.trust.residuals import plot_residuals

__all__ = [
    "plot_backtest",
    "plot_comparison",
    "plot_corner",
    "plot_influence",
    "plot_profile",
    "plot_residuals",
]
