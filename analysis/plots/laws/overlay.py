"""Figure of several laws on the same axes: model families, or studies."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from analysis.fitting import Law
from analysis.plots.laws.curves import POINTS, draw_band
from analysis.plots.sizes import DOT, axis_name, loss_name, size_axis
from analysis.plots.style import FAMILIES, MARKERS, WIDTH_IN, house_style, log_axis, widened
from analysis.tables import RunTable
from analysis.texts import size_text
from scaling.errors import ConfigError

MOST_FAMILIES = len(FAMILIES)
HOLLOW: Any = {"mfc": "white", "mew": 1.4}
NEAR = 0.15  # runs this close (relative) to the size a curve is drawn at are drawn with it


def plot_overlay(laws: Mapping[str, Law], unfitted: Mapping[str, RunTable] | None = None) -> Figure:
    """One law each of several families: their curves on the same axes, and exponents and floor with 95 % intervals.

    A curve against one axis is drawn at the largest size of the other that every family has reached, with its band if
    the runs bound all exponents. Families without a law are shown by their runs there.

    Raises:
        ConfigError: if there is no law, if there are not 2 to MOST_FAMILIES families, or if forms differ.
    """
    unfitted = unfitted or {}
    if not laws or not 2 <= len(laws) + len(unfitted) <= MOST_FAMILIES:
        raise ConfigError(
            f"{len(laws)} laws and {len(unfitted)} families without one cannot be laid over each other; give a law or "
            f"more, 2 to {MOST_FAMILIES} in all"
        )
    forms = {(law.form.name, law.form.axes) for law in laws.values()}
    if len(forms) > 1:
        raise ConfigError(
            f"laws laid over each other need one form; these are {', '.join(sorted(f for f, _ in forms))}"
        )
    first = next(iter(laws.values()))
    axes_names = first.form.axes[:2]
    names = [p.name for p in first.form.parameters if p.kind in ("exponent", "floor")]
    with house_style():
        figure = Figure(figsize=(WIDTH_IN, 5.6))
        grid = figure.add_gridspec(2, len(axes_names), height_ratios=(1.9, 1))
        top = [figure.add_subplot(grid[0, i]) for i in range(len(axes_names))]
        for axes, axis in zip(top, axes_names, strict=True):
            _draw_curves(axes, laws, unfitted, axis)
        low, high = min(axes.get_ylim()[0] for axes in top), max(axes.get_ylim()[1] for axes in top)
        for axes in top:
            log_axis(axes, "y", low, high)
            axes.tick_params(labelleft=axes is top[0])
        top[0].set_ylabel(loss_name(first.table))
        row = grid[1, :].subgridspec(1, len(names))
        for i, name in enumerate(names):
            axes = figure.add_subplot(row[0, i])
            _draw_estimates(axes, laws, name)
            axes.set_yticks(-np.arange(len(laws)), list(laws) if i == 0 else [""] * len(laws))
        counts = {name: f"{len(law.table)} runs" for name, law in laws.items()}
        counts |= {name: f"{len(table)} runs, no law" for name, table in unfitted.items()}
        entries = [
            Line2D([], [], color=color, marker=marker, ms=6, ls="-" if name in laws else "", label=f"{name} ({count})")
            for (name, count), color, marker in zip(counts.items(), FAMILIES, MARKERS, strict=False)
        ]
        figure.legend(handles=entries, loc="outside lower center", ncols=min(len(entries), 3))
    return figure


def _draw_curves(axes: Axes, laws: Mapping[str, Law], unfitted: Mapping[str, RunTable], axis: str) -> None:
    tables = [*[law.table for law in laws.values()], *unfitted.values()]
    first = next(iter(laws.values()))
    held: dict[str, Any] = {
        other: min(law.table.axis(other).max() for law in laws.values()) for other in first.form.axes if other != axis
    }
    every = np.concatenate([table.axis(axis) for table in tables])
    low, high = widened(every.min(), every.max())
    losses = []
    for law, color in zip(laws.values(), FAMILIES, strict=False):
        table = law.table
        grid = np.geomspace(*widened(table.axis(axis).min(), table.axis(axis).max()), POINTS)
        query: dict[str, Any] = {axis: grid} | {name: np.full(POINTS, size) for name, size in held.items()}
        curve = law.predict(**query)
        if law.uncertainty.is_known and all(_is_bounded(law, verdict.exponent) for verdict in law.verdicts):
            draw_band(axes, law, grid, query, color, of_runs=False, alpha=0.18)
        axes.plot(grid, curve, color=color)
        losses.append(curve)
    for table, color, marker in zip(tables, FAMILIES, MARKERS, strict=False):
        near = np.ones(len(table), dtype=bool)
        for other, size in held.items():
            near &= np.abs(table.axis(other) / size - 1) <= NEAR
        axes.plot(table.axis(axis)[near], table.loss[near], marker, color=color, zorder=4, **DOT)
        losses.append(table.loss[near])
    every = np.concatenate(losses)
    size_axis(axes, first.table, axis, (low, high), most=4)
    log_axis(axes, "y", *widened(every.min(), every.max(), 0.08))
    axes.set_xlabel(axis_name(first.table, axis))
    if held:
        axes.set_title("at " + ", ".join(f"{name} ≈ {size_text(size)}" for name, size in held.items()), fontsize=10)


def _is_bounded(law: Law, exponent: str) -> bool:
    low, high = law[exponent].ci95 or (0.0, np.inf)
    return low > 0 and bool(np.isfinite(high))


def _draw_estimates(axes: Axes, laws: Mapping[str, Law], name: str) -> None:
    """Values with intervals; an end that the runs do not bound is an arrow, a value not determined is hollow."""
    estimates = [law[name] for law in laws.values()]
    ends = np.array([end for one in estimates for end in (one.value, *(one.ci95 or ())) if np.isfinite(end)])
    margin = 0.15 * float(np.ptp(ends)) or 0.1 * abs(float(ends[0])) or 1.0
    left, right = float(ends.min()) - margin, float(ends.max()) + margin
    undetermined = [
        any(v.exponent == name and not v.identified for v in law.verdicts) or not np.isfinite(one.ci95 or 0).all()
        for law, one in zip(laws.values(), estimates, strict=True)
    ]
    for i, (estimate, hollow, color, marker) in enumerate(
        zip(estimates, undetermined, FAMILIES, MARKERS, strict=False)
    ):
        if estimate.ci95:
            low, high = max(estimate.ci95[0], left), min(estimate.ci95[1], right)
            axes.plot((low, high), [-i, -i], color=color, lw=2, zorder=2)
            for end, limit, arrow in ((estimate.ci95[0], left, "<"), (estimate.ci95[1], right, ">")):
                if not np.isfinite(end):
                    axes.plot(limit, -i, arrow, color=color, ms=6, clip_on=False)
        axes.plot(estimate.value, -i, marker, color=color, **{**DOT, **(HOLLOW | {"mec": color} if hollow else {})})
    axes.set_xlim(left, right)
    axes.set_ylim(-len(laws) + 0.4, 0.6)
    axes.tick_params(axis="y", length=0)
    axes.locator_params(axis="x", nbins=3)
    axes.spines["left"].set_visible(False)
    axes.set_title({"alpha": "α", "beta": "β"}.get(name, name), fontsize=10)
