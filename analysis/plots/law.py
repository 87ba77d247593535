"""Figures of one law."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from analysis.backtest import Backtest
from analysis.fit import Law
from analysis.plots.uncertainty import plot_corner, plot_profile
from analysis.style import (
    BLUE,
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
    shades,
    size_text,
    widened,
)
from analysis.tables import RunTable, distinct_sizes, same_size
from analysis.terms import FloatArray
from scaling.errors import ConfigError

MOST_LINES = 8  # sizes that get a line of their own; more are shown by a few representative lines
MOST_PANELS = 4
FEWEST_LEVELS = 7  # if plain round numbers give fewer lines, two digits are used
FARTHEST_BASELINE = 2.5  # a baseline farther above the runs than this is named at the edge, not drawn
POINTS = 120
BAND_POINTS = 20  # a band is smooth, and each of its points is a profile of its own
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
}


@dataclass(frozen=True)
class Reference:
    """A horizontal line to compare with, e.g. the composition-only baseline."""

    text: str
    loss: float


def plot(law: Law, kind: str = "loss_vs_params", *, baseline: Reference | None = None) -> Figure:
    """Draw a law: loss_vs_params, loss_vs_data, surface, residuals, bootstrap, corner or profile.

    Raises:
        ConfigError: if the kind is unknown, or needs an axis that the law does not have.
    """
    kinds: dict[str, Callable[[], Figure]] = {
        "loss_vs_params": lambda: plot_curves(law, "N", baseline),
        "loss_vs_data": lambda: plot_curves(law, "D", baseline),
        "surface": lambda: plot_surface(law),
        "residuals": lambda: plot_residuals(law),
        "bootstrap": lambda: plot_bootstrap(law),
        "corner": lambda: plot_corner(law),
        "profile": lambda: plot_profile(law),
    }
    if kind not in kinds:
        raise ConfigError(f"kind={kind} is not a figure; choose one of {', '.join(kinds)}")
    return kinds[kind]()


def plot_curves(law: Law, axis: str, baseline: Reference | None = None) -> Figure:
    """Loss against one axis, a line with bands for each size of the other; points are runs, seeds included."""
    if axis not in law.form.axes:
        raise ConfigError(f"form {law.form.name} has no axis {axis}; it has {', '.join(law.form.axes)}")
    other = next((name for name in law.form.axes if name != axis), None)
    low, high = widened(law.table.axis(axis).min(), law.table.axis(axis).max())
    panels = _panels(law.table, other)
    with house_style():
        figure = Figure(figsize=(WIDTH_IN, 4.9))
        row = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
        bottom, top = widened(law.table.loss.min(), law.table.loss.max(), 0.08)
        for axes, (title, part) in zip(row, panels, strict=True):
            _draw_panel(axes, law, part, axis, other, (low, high))
            axes.set_title(title, fontsize=10)
            limits = _draw_references(axes, law, baseline, bottom, top, named=axes is row[0])
            log_axis(axes, "x", low, high, size_text, most=7 if len(panels) == 1 else 3)
            log_axis(axes, "y", *limits)
            axes.set_xlabel(_axis_name(law, axis) if len(panels) <= 2 else axis)
        row[0].set_ylabel(_loss_name(law))
        if len(panels) > 1:
            row[len(panels) // 2].set_xlabel(_axis_name(law, axis))  # three or more: once, below the middle
            _width_legend(figure, panels)
        else:
            _legend(figure, law, other)
    return figure


def plot_surface(law: Law) -> Figure:
    """Lines of equal loss in the plane of N and D, with the runs; numbers on the lines are losses."""
    if set(law.form.axes) != {"N", "D"}:
        raise ConfigError(f"form {law.form.name} has the axes {', '.join(law.form.axes)}; the surface needs N and D")
    n_low, n_high = widened(law.table.num_params.min(), law.table.num_params.max(), 0.1)
    d_low, d_high = widened(law.table.data_size.min(), law.table.data_size.max(), 0.1)
    n_grid, d_grid = np.meshgrid(np.geomspace(n_low, n_high, 90), np.geomspace(d_low, d_high, 90))
    loss = law.predict(N=n_grid.ravel(), D=d_grid.ravel()).reshape(n_grid.shape)
    # Levels are even in the loss's quantiles over the plane, so that the lines fill it.
    even = np.quantile(loss, np.linspace(0.04, 0.97, 11))
    levels = nearest_round(even)
    if len(levels) < FEWEST_LEVELS:
        levels = np.unique([float(f"{level:.2g}") for level in even])
    with house_style():
        figure = Figure(figsize=(WIDTH_IN, 4.8))
        axes = figure.add_subplot()
        axes.grid(False)
        axes.contourf(n_grid, d_grid, np.log(loss), levels=24, cmap="viridis", alpha=0.35, antialiased=True)
        log_axis(axes, "x", n_low, n_high, size_text)
        log_axis(axes, "y", d_low, d_high, size_text)
        contours = axes.contour(n_grid, d_grid, loss, levels=levels, colors=INK, linewidths=0.9)
        axes.clabel(contours, fmt=number_text, fontsize=9, inline_spacing=4)
        for mask, marker in _markers(law.table):
            axes.plot(
                law.table.num_params[mask],
                law.table.data_size[mask],
                marker,
                color=ORANGE,
                ms=6.5,
                mec="white",
                mew=0.9,
            )
        axes.set_xlabel(_axis_name(law, "N"))
        axes.set_ylabel(_axis_name(law, "D"))
        _depth_legend(figure, law.table, ORANGE)
    return figure


def plot_residuals(law: Law) -> Figure:
    """Observed over predicted loss in per cent against each axis, with the scatter as a band."""
    percent = 100 * np.expm1(law.residuals)
    spread = 100 * np.expm1([-law.scatter, law.scatter])
    with house_style():
        figure = Figure(figsize=(WIDTH_IN, 3.9))
        panels = figure.subplots(1, len(law.form.axes), sharey=True, squeeze=False)[0]
        for axes, axis in zip(panels, law.form.axes, strict=True):
            other = next((name for name in law.form.axes if name != axis), None)
            groups, lines = _groups(law.table, other)
            sizes = law.table.axis(axis)
            axes.axhspan(*spread, color=MUTED, alpha=0.12, lw=0)
            axes.axhline(0, color=INK, lw=1)
            for group, color in zip(groups, shades(len(lines)), strict=True):
                axes.plot(sizes[group], percent[group], "o", color=color, ms=6, mec="white", mew=0.7)
            log_axis(axes, "x", *widened(sizes.min(), sizes.max(), 0.08), size_text, most=5)
            axes.set_xlabel(_axis_name(law, axis))
            if other:
                axes.set_title(f"dark to light: small to large {other}", fontsize=9, color=MUTED)
        panels[0].set_ylabel("observed over predicted loss (%)")
    return figure


def plot_backtest(backtests: tuple[Backtest, ...], loss_name: str = "test loss") -> Figure:
    """Predicted against observed loss of the held-out runs, with 95 % intervals; hollow where the run lies outside."""
    runs = [run for test in backtests for run in test.runs]
    if not runs:
        raise ConfigError("no backtest could be made, so there is none to draw")
    ends = [run.observed for run in runs] + [end for run in runs for end in run.ci95]
    low, high = widened(min(ends), max(ends))
    with house_style():
        figure = Figure(figsize=(WIDTH_IN, 4.9))
        axes = figure.add_subplot()
        axes.plot([low, high], [low, high], color=MUTED, lw=1)
        for test, color, marker in zip(backtests, (BLUE, ORANGE), MARKERS, strict=False):
            for run in test.runs:
                axes.plot([run.observed] * 2, run.ci95, color=color, lw=1.4, alpha=0.6)
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


def plot_bootstrap(law: Law) -> Figure:
    """The refits' exponents against each other (or the exponent against the other parameter), and the best fit."""
    if law.samples is None:
        raise ConfigError("the law was fitted without a bootstrap; fit it with replicates=1000 to draw one")
    exponents = [i for i, parameter in enumerate(law.form.parameters) if parameter.kind == "exponent"]
    first, second = exponents[:2] if len(exponents) > 1 else (exponents[0], 0)
    x, y = law.samples.values[:, first], law.samples.values[:, second]
    with house_style():
        figure = Figure(figsize=(WIDTH_IN, 4.6))
        axes = figure.add_subplot()
        axes.plot(x, y, "o", color=BLUE, ms=3.2, alpha=0.25, mew=0, rasterized=True)
        for column, line in ((first, axes.axvline), (second, axes.axhline)):
            for bound in law.params[column].ci95 or ():
                line(float(bound), color=MUTED, lw=0.9, ls="--")
        best = law.params[first].value, law.params[second].value
        axes.plot(*best, "*", color=ORANGE, ms=15, mec="white", mew=0.9, label="best fit")
        axes.plot([], [], "o", color=BLUE, ms=5, label="bootstrap refit")
        axes.plot([], [], color=MUTED, lw=0.9, ls="--", label="95 % intervals")
        for samples, value, setter in ((x, best[0], axes.set_xlim), (y, best[1], axes.set_ylim)):
            ends = np.append(np.percentile(samples, [0.5, 99.5]), value)
            margin = 0.08 * (ends.max() - ends.min()) or 0.1
            setter(float(ends.min() - margin), float(ends.max() + margin))
        axes.set_xlabel(_greek(law.params[first].name))
        axes.set_ylabel(_greek(law.params[second].name))
        figure.legend(loc="outside lower center", ncols=3)
    return figure


def _panels(table: RunTable, other: str | None) -> list[tuple[str, RunTable]]:
    """A panel for each depth where the lines stand for models, else one: N alone does not tell width from depth."""
    depths = _depths(table)
    if other != "N" or not 1 < len(depths) <= MOST_PANELS or "width" not in table.frame:
        return [("", table)]
    return [(text, table.keep(mask)) for text, mask, _ in depths]


def _draw_panel(
    axes: Axes, law: Law, part: RunTable, axis: str, other: str | None, limits: tuple[float, float]
) -> None:
    grid = np.geomspace(*limits, POINTS)
    groups, lines = _groups(part, other)
    colors = shades(len(lines))
    for size, color in zip(lines, colors, strict=True):
        _draw_line(axes, law, grid, {axis: grid, other: np.full(POINTS, size)} if other else {axis: grid}, color)
    for depth, marker in _markers(part):
        for group, color in zip(groups, colors, strict=True):
            mask = group & depth
            axes.plot(part.axis(axis)[mask], part.loss[mask], marker, color=color, zorder=4, **DOT)


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
    few = np.unique(np.linspace(0, len(grid) - 1, BAND_POINTS).astype(int))
    at = {name: sizes[few] for name, sizes in query.items()}
    for of_runs, alpha in ((True, 0.10), (False, 0.25)) if law.samples is not None else ():
        axes.fill_between(grid[few], *law.band(of_runs=of_runs, **at), color=color, alpha=alpha, lw=0)
    axes.plot(grid, law.predict(**query), color=color, zorder=3)


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


def _groups(table: RunTable, axis: str | None) -> tuple[list[np.ndarray], FloatArray]:
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


def _markers(table: RunTable) -> list[tuple[np.ndarray, str]]:
    """Masks and markers of the runs by depth; one marker where depth does not vary."""
    return [(mask, marker) for _, mask, marker in _depths(table)]


def _depths(table: RunTable) -> list[tuple[str, np.ndarray, str]]:
    if "depth" not in table.frame or table.frame["depth"].nunique() < 2:
        return [("", np.ones(len(table), dtype=bool), MARKERS[0])]
    depths = table.frame["depth"].to_numpy()
    pairs = zip(sorted(set(depths)), MARKERS, strict=False)
    return [(f"depth {depth:g}", np.asarray(depths == depth), marker) for depth, marker in pairs]


def _legend(figure: Figure, law: Law, other: str | None) -> None:
    lines = _groups(law.table, other)[1]
    colors = shades(len(lines))
    if other is None:
        _depth_legend(figure, law.table, colors[0])
        return
    exact = len(distinct_sizes(law.table.axis(other))) <= MOST_LINES
    entries = [
        Line2D([], [], color=color, marker="o" if exact else "", ms=6, label=_line_text(law.table, other, size))
        for size, color in zip(lines, colors, strict=True)
    ]
    entries += [Line2D([], [], color=MUTED, marker=m, ls="", label=text) for text, _, m in _depths(law.table) if text]
    longest = max(len(str(entry.get_label())) for entry in entries)
    columns = min(len(entries), 6 if longest < 12 else 3 if longest < 22 else 2)
    title = _axis_name(law, other) + ("" if exact else " (runs take the nearest line's colour)")
    figure.legend(handles=entries, title=title, loc="outside lower center", ncols=columns)


def _line_text(table: RunTable, axis: str, size: float) -> str:
    """The size, with its width where the table knows it and the line stands for one model."""
    mask = same_size(table.axis(axis), size)
    if axis == "N" and "width" in table.frame and mask.any() and table.frame["width"][mask].nunique() == 1:
        width = f"width {table.frame['width'][mask].iloc[0]:g}"
        depth = f", depth {table.frame['depth'][mask].iloc[0]:g}" if len(_depths(table)) > 1 else ""
        return f"{count_text(size)} ({width}{depth})"
    return count_text(size)


def _depth_legend(figure: Figure, table: RunTable, color: str) -> None:
    entries = [Line2D([], [], color=color, marker=m, ls="", label=text) for text, _, m in _depths(table) if text]
    if entries:
        figure.legend(handles=entries, loc="outside lower center", ncols=len(entries))


def _axis_name(law: Law, axis: str) -> str:
    column = law.table.columns[axis]
    return AXIS_NAMES.get(column, f"{axis} = {column}")


def _loss_name(law: Law) -> str:
    return law.table.columns["loss"].replace("_", " ")


def _greek(name: str) -> str:
    return {"alpha": "α, exponent of N", "beta": "β, exponent of D", "E": "E, floor"}.get(name, name)
