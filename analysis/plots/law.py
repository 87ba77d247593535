"""Figures of one law: its curves, its surface, its residuals, its refits."""

from collections.abc import Sequence
from typing import Any, Literal

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from analysis.fitting.law import Law
from analysis.forms.terms import FloatArray
from analysis.plots.style import (
    FAMILIES,
    INK,
    MARKERS,
    MUTED,
    ORANGE,
    WIDTH_IN,
    count_text,
    house_style,
    log_axis,
    nearest_round,
    number_text,
    power_text,
    shades,
    size_text,
    widened,
)
from analysis.selection.held_out import HeldOut
from analysis.study.findings import Reference
from analysis.tables import RunTable, distinct_sizes, same_size
from scaling.errors import ConfigError

MOST_LINES = 8  # sizes that get a line of their own; more are shown by a few representative lines
MOST_PANELS = 4
FEWEST_LEVELS = 7  # if plain round numbers give fewer lines, two digits are used
FARTHEST_BASELINE = 2.5  # a baseline farther above the runs than this is named at the edge, not drawn
LEGEND_LETTERS = 60  # letters of a legend that stand side by side
HANDLE_LETTERS = 4.8  # room that a legend's line and gaps take, in letters
POINTS = 120
LINE_AXES = ("D", "N", "width", "depth", "epochs", "C")  # which axis the lines stand for, first choice first
BAND_POINTS = 20  # a band is smooth, and each of its points is a profile of its own
FAR_OFF = 1e3  # times the law: where a band without an end is drawn to, outside any figure
FARTHER = 10.0  # times the largest runs: as far as predictions are asked for
ERRORS = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0)  # per cent, at which shades change
TINY = 1e-300
DOT: Any = {"ms": 6.5, "mec": "white", "mew": 0.8}

AXIS_NAMES = {
    "num_params": "parameters N",
    "num_params_trunk": "trunk parameters N",
    "num_params_embedding": "embedding parameters N",
    "num_params_head": "head parameters N",
    "train_structures": "training structures D",
    "train_atoms": "training atoms D",
    "train_edges": "training edges D",
    "samples_seen": "structures seen D",
    "train_flops": "training FLOPs C",
    "width": "width",
    "depth": "depth",
    "epochs": "epochs",
}


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


def plot_surface(law: Law) -> Figure:
    """Lines of equal predicted loss in the plane of N and D, to FARTHER times the runs; shaded by how well it is known.

    A shade is half of the 95 % interval of the law at that place, as a share of the loss.
    """
    if set(law.form.axes) != {"N", "D"}:
        raise ConfigError(f"form {law.form.name} has the axes {', '.join(law.form.axes)}; the surface needs N and D")
    n_ends, d_ends = (
        widened(sizes.min(), sizes.max() * FARTHER, 0.03) for sizes in (law.table.num_params, law.table.data_size)
    )
    n_grid, d_grid = np.meshgrid(np.geomspace(*n_ends, 90), np.geomspace(*d_ends, 90))
    loss = law.predict(N=n_grid.ravel(), D=d_grid.ravel()).reshape(n_grid.shape)
    n_band, d_band = np.meshgrid(np.geomspace(*n_ends, BAND_POINTS), np.geomspace(*d_ends, BAND_POINTS))
    low, high = np.log(np.maximum(law.band(N=n_band.ravel(), D=d_band.ravel()), TINY)).reshape(2, *n_band.shape)
    half = 100 * np.expm1(np.clip((high - low) / 2, 0.0, 5.0))
    shown = [share for share in ERRORS if half.min() < share < half.max()] or [float(half.max()) or ERRORS[0]]
    with house_style():
        figure = Figure(figsize=(WIDTH_IN, 4.8))
        axes = figure.add_subplot()
        axes.grid(False)
        limits = [0.0, *shown, max(float(half.max()), shown[-1]) + 1.0]
        colors = [matplotlib.colormaps["viridis_r"](share) for share in np.linspace(0.0, 1.0, len(limits) - 1)]
        known = axes.contourf(n_band, d_band, half, levels=limits, colors=colors, alpha=0.35, antialiased=True)
        bar = figure.colorbar(known, ax=axes, pad=0.02, ticks=shown, spacing="uniform", drawedges=False)
        bar.ax.set_yticklabels([f"{share:g}" for share in shown])
        bar.set_label("95 % interval of the law (± %)")
        log_axis(axes, "x", *n_ends, size_text)
        log_axis(axes, "y", *d_ends, size_text)
        contours = axes.contour(n_grid, d_grid, loss, levels=loss_levels(loss), colors=INK, linewidths=0.9)
        axes.clabel(contours, fmt=number_text, fontsize=9, inline_spacing=4)
        for mask, marker in depth_markers(law.table):
            axes.plot(
                law.table.num_params[mask],
                law.table.data_size[mask],
                marker,
                color=ORANGE,
                ms=6.5,
                mec="white",
                mew=0.9,
            )
        axes.set_xlabel(axis_name(law.table, "N"))
        axes.set_ylabel(axis_name(law.table, "D"))
        _depth_legend(figure, law.table, ORANGE)
    return figure


def loss_levels(loss: FloatArray) -> FloatArray:
    """Round losses, even in the loss's quantiles over the plane, so that their lines fill it."""
    even = np.quantile(loss, np.linspace(0.04, 0.97, 11))
    levels = nearest_round(even)
    return levels if len(levels) >= FEWEST_LEVELS else np.unique([float(f"{level:.2g}") for level in even])


def plot_residuals(law: Law) -> Figure:
    """Observed over predicted loss in per cent against each axis, with the scatter as a band."""
    percent = 100 * np.expm1(law.residuals)
    spread = 100 * np.expm1([-law.residual_sd, law.residual_sd])
    with house_style():
        figure = Figure(figsize=(WIDTH_IN, 3.9))
        panels = figure.subplots(1, len(law.form.axes), sharey=True, squeeze=False)[0]
        for axes, axis in zip(panels, law.form.axes, strict=True):
            other = next((name for name in law.form.axes if name != axis), None)
            groups, lines = size_groups(law.table, other)
            sizes = law.table.axis(axis)
            axes.axhspan(*spread, color=MUTED, alpha=0.12, lw=0)
            axes.axhline(0, color=INK, lw=1)
            for group, color in zip(groups, shades(len(lines)), strict=True):
                axes.plot(sizes[group], percent[group], "o", color=color, ms=6, mec="white", mew=0.7)
            size_axis(axes, law.table, axis, widened(sizes.min(), sizes.max(), 0.08), most=5)
            axes.set_xlabel(axis_name(law.table, axis))
            if other:
                axes.set_title(f"darker: smaller {other}", fontsize=9, color=MUTED)
        panels[0].set_ylabel("observed over predicted loss (%)")
    return figure


def plot_backtest(backtests: Sequence[HeldOut], loss_name: str = "test loss") -> Figure:
    """Predicted against observed loss of the held-out runs, with 95 % intervals; hollow where the run lies outside.

    An interval that reaches farther than FARTHER times beyond all points, or has no end, runs to the figure's edge.
    """
    runs = [run for test in backtests for run in test.runs]
    if not runs:
        raise ConfigError("no backtest could be made, so there is none to draw")
    points = np.array([(run.observed, run.predicted) for run in runs])
    ends = np.clip([run.ci95 for run in runs], points.min() / FARTHER, points.max() * FARTHER)
    low, high = widened(min(points.min(), ends.min()), max(points.max(), ends.max()))
    with house_style():
        figure = Figure(figsize=(WIDTH_IN, 4.9))
        axes = figure.add_subplot()
        axes.plot([low, high], [low, high], color=MUTED, lw=1)
        for test, color, marker in zip(backtests, FAMILIES, MARKERS, strict=False):
            for run in test.runs:
                axes.plot([run.observed] * 2, np.clip(run.ci95, low, high), color=color, lw=1.4, alpha=0.6)
                face = color if run.inside else "white"
                axes.plot(run.observed, run.predicted, marker, color=color, mfc=face, ms=7, mew=1.4)
            label = f"{test.axis} ≥ {size_text(test.size)} held out"
            axes.plot([], [], marker, color=color, ms=7, label=label if test.runs else f"{label}: no fit")
        axes.plot([], [], "o", color=MUTED, mfc="white", ms=7, mew=1.4, label="outside its interval")
        log_axis(axes, "x", low, high)
        log_axis(axes, "y", low, high)
        axes.set_xlabel(f"observed {loss_name}")
        axes.set_ylabel(f"predicted {loss_name}")
        axes.legend(loc="upper left")
    return figure


def _panels(table: RunTable, other: str | None) -> list[tuple[str, RunTable]]:
    """A panel for each depth where the lines stand for models, else one: N alone does not tell width from depth."""
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


def _draw_line(axes: Axes, law: Law, grid: FloatArray, query: dict[str, Any], color: str) -> None:
    for of_runs, alpha in ((True, 0.10), (False, 0.25)) if law.uncertainty.is_known else ():
        draw_band(axes, law, grid, query, color, of_runs=of_runs, alpha=alpha)
    axes.plot(grid, law.predict(**query), color=color, zorder=3)


def draw_band(
    axes: Axes, law: Law, grid: FloatArray, query: dict[str, Any], color: str, *, of_runs: bool, alpha: float
) -> None:
    """A 95 % band of the law or of single further runs, to the edge of the figure where the runs do not bound it."""
    few = np.unique(np.linspace(0, len(grid) - 1, BAND_POINTS).astype(int))
    at = {name: sizes[few] for name, sizes in query.items()}
    middle = law.predict(**at)
    low, high = np.clip(law.band(of_runs=of_runs, **at), middle / FAR_OFF, middle * FAR_OFF)
    axes.fill_between(grid[few], low, high, color=color, alpha=alpha, lw=0)


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


def size_groups(table: RunTable, axis: str | None) -> tuple[list[np.ndarray], FloatArray]:
    """Masks of the runs that share a colour, and the size each colour's line is drawn at."""
    if axis is None:
        return [np.ones(len(table), dtype=bool)], np.array([np.nan])
    sizes = table.axis(axis)
    lines = distinct_sizes(sizes)
    if len(lines) <= MOST_LINES:
        return [same_size(sizes, size) for size in lines], lines
    lines = np.geomspace(lines[0], lines[-1], 5)
    nearest = np.abs(np.log(sizes[:, None] / lines)).argmin(1)
    return [nearest == index for index in range(len(lines))], lines


def depth_markers(table: RunTable) -> list[tuple[np.ndarray, str]]:
    """Masks and markers of the runs by depth; one marker where depth does not vary."""
    return [(mask, marker) for _, mask, marker in depth_groups(table)]


def depth_groups(table: RunTable) -> list[tuple[str, np.ndarray, str]]:
    if "depth" not in table.frame or table.frame["depth"].nunique() < 2:
        return [("", np.ones(len(table), dtype=bool), MARKERS[0])]
    depths = table.frame["depth"].to_numpy()
    pairs = zip(sorted(set(depths)), MARKERS, strict=False)
    return [(f"depth {depth:g}", np.asarray(depths == depth), marker) for depth, marker in pairs]


def size_legend(figure: Figure, table: RunTable, axis: str | None, *, brief: bool = False) -> None:
    """What the colours (sizes along an axis) and markers (depths) stand for; `brief`: sizes without their widths."""
    lines = size_groups(table, axis)[1]
    colors = shades(len(lines))
    if axis is None:
        _depth_legend(figure, table, colors[0])
        return
    exact = len(distinct_sizes(table.axis(axis))) <= MOST_LINES
    entries = [
        Line2D(
            [],
            [],
            color=color,
            marker="o" if exact or brief else "",
            ms=6,
            label=count_text(size) if brief else _line_text(table, axis, size),
        )
        for size, color in zip(lines, colors, strict=True)
    ]
    entries += [Line2D([], [], color=MUTED, marker=m, ls="", label=text) for text, _, m in depth_groups(table) if text]
    columns = legend_columns([str(entry.get_label()) for entry in entries])
    title = axis_name(table, axis) + ("" if exact else " (runs take the nearest size's colour)")
    figure.legend(handles=entries, title=title, loc="outside lower center", ncols=columns)


def legend_columns(labels: list[str]) -> int:
    """As many columns as fit below a figure; labels fill one column after the other."""
    lengths = [len(label) + HANDLE_LETTERS for label in labels]
    for columns in range(min(len(labels), 6), 1, -1):
        if sum(part.max() for part in np.array_split(lengths, columns)) <= LEGEND_LETTERS:
            return columns
    return 1 if len(labels) == 1 else 2


def _line_text(table: RunTable, axis: str, size: float) -> str:
    """The size, with its width where the table knows it and the line stands for one model."""
    mask = same_size(table.axis(axis), size)
    if axis == "N" and "width" in table.frame and mask.any() and table.frame["width"][mask].nunique() == 1:
        width = f"width {table.frame['width'][mask].iloc[0]:g}"
        depth = f", depth {table.frame['depth'][mask].iloc[0]:g}" if len(depth_groups(table)) > 1 else ""
        return f"{count_text(size)} ({width}{depth})"
    return count_text(size)


def _depth_legend(figure: Figure, table: RunTable, color: str) -> None:
    entries = [Line2D([], [], color=color, marker=m, ls="", label=text) for text, _, m in depth_groups(table) if text]
    if entries:
        figure.legend(handles=entries, loc="outside lower center", ncols=len(entries))


def axis_name(table: RunTable, axis: str) -> str:
    """What stands on an axis."""
    column = table.columns[axis]
    return AXIS_NAMES.get(column, f"{axis} = {column}")


def size_axis(axes: Axes, table: RunTable, axis: str, limits: tuple[float, float], *, most: int = 7) -> None:
    """A horizontal logarithmic axis of sizes; few widths or depths are ticked as they are."""
    if axis == "C":
        log_axis(axes, "x", *limits, power_text, most=min(most, 4))
        return
    log_axis(axes, "x", *limits, size_text, most=most)
    sizes = distinct_sizes(table.axis(axis))
    if axis in ("width", "depth") and len(sizes) <= most:
        axes.set_xticks(sizes, [f"{size:g}" for size in sizes])


def loss_name(table: RunTable) -> str:
    """What the loss is called."""
    return table.columns["loss"].replace("_", " ")


def greek(name: str) -> str:
    return {"alpha": "α, exponent of N", "beta": "β, exponent of D", "E": "E, floor"}.get(name, name)
