"""Figure of a law's curves: loss against one axis, a line for each size of another."""

from typing import Any, Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from analysis.arrays import FloatArray
from analysis.fitting import Law
from analysis.plots.sizes import (
    DOT,
    axis_name,
    depth_groups,
    depth_markers,
    loss_name,
    size_axis,
    size_groups,
    size_legend,
)
from analysis.plots.style import INK, MUTED, WIDTH_IN, house_style, log_axis, shades, widened
from analysis.study import Reference
from analysis.tables import RunTable, distinct_sizes
from analysis.texts import size_text
from scaling.errors import ConfigError

MOST_PANELS = 4
FARTHEST_BASELINE = 2.5  # a baseline farther above the runs than this is named at the edge, not drawn
POINTS = 120
LINE_AXES = ("D", "N", "width", "depth", "epochs", "C")  # which axis the lines stand for, first choice first
BAND_POINTS = 20  # a band is smooth, and each of its points is a profile of its own
FAR_OFF = 1e3  # times the law: where a band without an end is drawn to, outside any figure


def plot_curves(law: Law, axis: str, baseline: Reference | None = None) -> Figure:
    """Loss against one axis, a line with bands for each size of another; points are runs, seeds included.

    A form's third axis is held at its middle size, and the runs are moved there along the law: each keeps its residual.
    """
    if axis not in law.form.axes:
        raise ConfigError(f"form {law.form.name} has no axis {axis}; it has {', '.join(law.form.axes)}")
    others = sorted((name for name in law.form.axes if name != axis), key=LINE_AXES.index)
    other = others[0] if others else None
    held = {name: _middle(law.table.axis(name)) for name in others[1:]}
    low, high = widened(law.table.axis(axis).min(), law.table.axis(axis).max())
    panels = _panels(law.table, other)
    with house_style():
        figure = Figure(figsize=(WIDTH_IN, 4.9))
        row = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
        shown = _moved(law, law.table, held)
        bottom, top = widened(shown.min(), shown.max(), 0.08)
        for axes, (title, part) in zip(row, panels, strict=True):
            _draw_panel(axes, law, part, axis, other, held, (low, high))
            axes.set_title(title, fontsize=10)
            limits = _draw_references(axes, law, baseline, bottom, top, named=axes is row[0])
            size_axis(axes, law.table, axis, (low, high), most=7 if len(panels) == 1 else 3)
            log_axis(axes, "y", *limits)
            axes.set_xlabel(axis_name(law.table, axis) if len(panels) <= 2 else "")
        row[0].set_ylabel(loss_name(law.table))
        if held:
            where = ", ".join(f"{name} = {size_text(size)}" for name, size in held.items())
            row[0].set_title(f"at {where}; runs moved there along the law", fontsize=9, color=MUTED)
        if len(panels) > 1:
            if len(panels) > 2:
                middle = {"x": 1.1, "ha": "center"} if len(panels) % 2 == 0 else {}  # in the gap, or below a panel
                row[(len(panels) - 1) // 2].set_xlabel(axis_name(law.table, axis), **middle)
            _width_legend(figure, panels)
        else:
            size_legend(figure, law.table, other)
    return figure


def draw_band(
    axes: Axes, law: Law, grid: FloatArray, query: dict[str, Any], color: str, *, of_runs: bool, alpha: float
) -> None:
    """A 95 % band of the law or of single further runs, to the edge of the figure where the runs do not bound it."""
    few = np.unique(np.linspace(0, len(grid) - 1, BAND_POINTS).astype(int))
    at = {name: sizes[few] for name, sizes in query.items()}
    middle = law.predict(**at)
    low, high = np.clip(law.band(of_runs=of_runs, **at), middle / FAR_OFF, middle * FAR_OFF)
    axes.fill_between(grid[few], low, high, color=color, alpha=alpha, lw=0)


def _panels(table: RunTable, other: str | None) -> list[tuple[str, RunTable]]:
    """A panel for each depth where the lines stand for models, else one: models of equal N differ in shape."""
    depths = depth_groups(table)
    known = "width" in table.frame and table.frame["width"].notna().all()
    if other != "N" or not 1 < len(depths) <= MOST_PANELS or not known:
        return [("", table)]
    return [(text, table.keep(mask)) for text, mask, _ in depths]


def _draw_panel(
    axes: Axes,
    law: Law,
    part: RunTable,
    axis: str,
    other: str | None,
    held: dict[str, float],
    limits: tuple[float, float],
) -> None:
    grid = np.geomspace(*limits, POINTS)
    groups, lines = size_groups(part, other)
    colors = shades(len(lines))
    for size, color in zip(lines, colors, strict=True):
        fixed = held | ({other: float(size)} if other else {})
        query = {axis: grid} | {name: np.full(POINTS, value) for name, value in fixed.items()}
        _draw_line(axes, law, grid, query, color)
    loss = _moved(law, part, held)
    for depth, marker in depth_markers(part):
        for group, color in zip(groups, colors, strict=True):
            mask = group & depth
            axes.plot(part.axis(axis)[mask], loss[mask], marker, color=color, zorder=4, **DOT)


def _draw_line(axes: Axes, law: Law, grid: FloatArray, query: dict[str, Any], color: str) -> None:
    for of_runs, alpha in ((True, 0.10), (False, 0.25)) if law.uncertainty.is_known else ():
        draw_band(axes, law, grid, query, color, of_runs=of_runs, alpha=alpha)
    axes.plot(grid, law.predict(**query), color=color, zorder=3)


def _moved(law: Law, part: RunTable, held: dict[str, Any]) -> FloatArray:
    """(M,) losses the runs would have at the held sizes, were the law right but for their residuals."""
    if not held:
        return part.loss
    moved: FloatArray = part.loss * law.predict(**{**part.sizes, **held}) / law.predict(**part.sizes)
    return moved


def _middle(sizes: FloatArray) -> float:
    """The middle one of the sizes there are."""
    distinct = distinct_sizes(sizes)
    return float(distinct[len(distinct) // 2])


def _width_legend(figure: Figure, panels: list[tuple[str, RunTable]]) -> None:
    """Colours by width, with the parameter counts of the depths from left to right."""
    widths = sorted({width for _, part in panels for width in part.frame["width"]})
    entries = []
    for width, color in zip(widths, shades(len(widths)), strict=True):
        counts = [part.num_params[(part.frame["width"] == width).to_numpy()] for _, part in panels]
        sizes = ", ".join(size_text(count[0]) for count in counts if len(count))
        entries.append(Line2D([], [], color=color, marker="o", ms=6, label=f"width {width:g}: {sizes}"))
    figure.legend(handles=entries, title="parameters N by depth", loc="outside lower center", ncols=2)


def _draw_references(
    axes: Axes, law: Law, baseline: Reference | None, bottom: float, top: float, *, named: bool
) -> tuple[float, float]:
    """Floor and baseline as lines where they are near, as words at the edge where they are far; the new limits."""
    floor = next((law[p.name].value for p in law.form.parameters if p.kind == "floor"), None)
    if floor is not None and floor > bottom / FARTHEST_BASELINE:
        bottom = min(bottom, floor / 1.15)
        axes.axhline(floor, color=INK, lw=1.2, ls="--", zorder=2)
        label = f"floor E = {floor:.3g}"
    elif floor is not None:
        label = f"↓ floor E = {floor:.2g}, far below"
    if floor is not None and named:
        _name_line(axes, max(floor, bottom), label, "left")
    if baseline is not None and baseline.loss < top * FARTHEST_BASELINE:
        top = max(top, baseline.loss * 1.4)
        axes.axhline(baseline.loss, color=INK, lw=1.2, ls=":", zorder=2)
        label = f"{baseline.text} {baseline.loss:.3g}"
    elif baseline is not None:
        label = f"↑ {baseline.text} {baseline.loss:.3g}, far above"
        top *= 1.3
    if baseline is not None and named:
        _name_line(axes, min(baseline.loss, top / 1.3), label, "left" if len(axes.figure.axes) > 1 else "right")
    return bottom, top


def _name_line(axes: Axes, loss: float, text: str, side: Literal["left", "right"]) -> None:
    """Words just above a horizontal line, at one end of it."""
    axes.annotate(
        text,
        (0.012 if side == "left" else 0.99, loss),
        xycoords=axes.get_yaxis_transform(),
        xytext=(0, 3),
        textcoords="offset points",
        ha=side,
        va="bottom",
        fontsize=9,
        color=INK,
        zorder=5,
        annotation_clip=False,
    )
