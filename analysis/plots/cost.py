"""Figures of what a loss costs: loss against training compute and device-hours, with the lower envelope."""

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from analysis.arrays import FloatArray
from analysis.plots.sizes import DOT, axis_name, depth_markers, loss_name, size_axis, size_groups, size_legend
from analysis.plots.style import INK, WIDTH_IN, house_style, log_axis, shades, widened
from analysis.tables import RunTable, distinct_sizes
from scaling.errors import ConfigError

CROWD = 30  # runs on the envelope from which rings hide it
MANY = 1000  # points from which a picture of them is smaller than their outlines


def costs_of(table: RunTable, column: str) -> FloatArray:
    """(M,) positive costs; NaN where the table has none. `train_flops` is the column of C, whatever it is called."""
    if column == "train_flops":
        costs = table.axis("C")
    elif column in table.frame:
        costs = pd.to_numeric(table.frame[column], errors="coerce").to_numpy(dtype=float, na_value=np.nan)
    else:
        costs = np.full(len(table), np.nan)
    return np.where(np.isfinite(costs) & (costs > 0), costs, np.nan)


def envelope(costs: FloatArray, loss: FloatArray) -> np.ndarray:
    """Indices of the runs that no cheaper run beats, cheapest first."""
    order = np.lexsort((loss, costs))
    order = order[np.isfinite(costs[order])]
    running = np.minimum.accumulate(loss[order])
    best = np.ones(len(order), dtype=bool)
    best[1:] = loss[order][1:] < running[:-1]
    indices: np.ndarray = order[best]
    return indices


def plot_cost(table: RunTable, column: str) -> Figure:
    """Loss against a cost; colours are sizes, and the line is the lowest loss that a run of at most that cost reached.

    Raises:
        ConfigError: if fewer than two runs have that cost.
    """
    costs, loss = costs_of(table, column), table.loss
    known = np.isfinite(costs)
    if known.sum() < 2:
        raise ConfigError(f"the table has fewer than two runs with a positive {column}")
    axis = next((name for name in ("N", "D", "width") if len(distinct_sizes(table.axis(name))) > 1), None)
    groups, lines = size_groups(table, axis)
    colors = shades(len(lines))
    best = envelope(costs, loss)
    low, high = widened(costs[known].min(), costs[known].max())
    with house_style():
        figure = Figure(figsize=(WIDTH_IN, 4.8))
        axes = figure.add_subplot()
        ends = np.append(costs[best], high), np.append(loss[best], loss[best[-1]])
        axes.step(*ends, where="post", color=INK, lw=1.2, zorder=2)
        for depth, marker in depth_markers(table):
            for group, color in zip(groups, colors, strict=True):
                mask = group & depth & known
                axes.plot(costs[mask], loss[mask], marker, color=color, zorder=4, rasterized=len(table) > MANY, **DOT)
        axes.plot(
            costs[best], loss[best], "o", ms=11, mfc="none", mec=INK, mew=1.1 if len(best) < CROWD else 0, zorder=3
        )
        if column == "train_flops":
            size_axis(axes, table, "C", (low, high))
        else:
            log_axis(axes, "x", low, high)
        log_axis(axes, "y", *widened(loss[known].min(), loss[known].max(), 0.08))
        axes.set_xlabel(axis_name(table, "C") if column == "train_flops" else f"{column.replace('_', '-')} of a run")
        axes.set_ylabel(loss_name(table))
        label = "lowest loss for at most that cost"
        ring: Any = {"marker": "o", "ms": 9, "mfc": "none"} if len(best) < CROWD else {}
        entries = [Line2D([], [], color=INK, lw=1.2, label=label, **ring)]
        axes.legend(handles=entries, loc="best")
        size_legend(figure, table, axis, brief=True)
    return figure
