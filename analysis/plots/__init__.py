"""Figures: each function takes results and returns a matplotlib Figure; nothing is fitted here."""

from analysis.plots.decisions import (
    plot_compute,
    plot_frontier,
    plot_isoflop,
    plot_next_map,
    plot_next_width,
    plot_saturation,
    plot_shape,
)
from analysis.plots.files import Picture, check_ending, save
from analysis.plots.laws import plot_overlay
from analysis.plots.registry import FIGURES, OVERLAY_CAPTION, Kind, draw, plot
from analysis.plots.style import (
    BLUE,
    FAMILIES,
    INK,
    MARKERS,
    MUTED,
    ORANGE,
    house_style,
    log_axis,
    save_bytes,
    shades,
    widened,
)
from analysis.plots.trust import plot_backtest, plot_comparison
from analysis.study import Reference

__all__ = [
    "BLUE",
    "FAMILIES",
    "FIGURES",
    "INK",
    "MARKERS",
    "MUTED",
    "ORANGE",
    "OVERLAY_CAPTION",
    "Kind",
    "Picture",
    "Reference",
    "check_ending",
    "draw",
    "house_style",
    "log_axis",
    "plot",
    "plot_backtest",
    "plot_comparison",
    "plot_compute",
    "plot_frontier",
    "plot_isoflop",
    "plot_next_map",
    "plot_next_width",
    "plot_overlay",
    "plot_saturation",
    "plot_shape",
    "save",
    "save_bytes",
    "shades",
    "widened",
]
