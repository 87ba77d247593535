"""Figures of a comparison of forms."""

from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.plots.style import (
    BLUE,
    INK,
    MARKERS,
    MUTED,
    ORANGE,
    WIDTH_IN,
    house_style,
    log_axis,
    shades,
    widened,
)
from analysis.selection import Comparison, Contender, Plain
from analysis.texts import size_text

MOST_ROWS = 10
ROW_IN = 0.38
SPREAD = 0.5
SMALLEST = 1e-4  # an error below is drawn at the edge
DOT: Any = {"mec": "white", "mew": 0.7}


def plot_comparison(found: Comparison) -> Figure:
    """Left: each form's error on larger runs, one mark an origin, the mean as a bar. Right: coverage of its intervals.

    Each form is drawn in one window, the chosen one in its own; predictions that need no law are drawn below, in grey.
    """
    rows = _rows(found)
    covered = any(isinstance(one, Contender) and one.coverage is not None for one in rows)
    origins = list(dict.fromkeys((score.axis, score.size) for one in rows for score in one.scores))
    colors = dict(zip(origins, shades(len(origins)), strict=True))
    axes_names = list(dict.fromkeys(axis for axis, _ in origins))
    errors = [score.rmse for one in rows for score in one.scores]
    with house_style():
        figure = Figure(figsize=(WIDTH_IN, 1.9 + ROW_IN * len(rows)))
        widths = [2.1, 1.0] if covered else [1.0]
        panels = figure.subplots(1, len(widths), sharey=True, squeeze=False, gridspec_kw={"width_ratios": widths})[0]
        for place, one in enumerate(rows):
            panels[0].plot(
                [max(one.rmse, SMALLEST)] * 2, [place - 0.3, place + 0.3], color=_color(found, one), lw=2.6, zorder=3
            )
            for score in one.scores:
                marker = MARKERS[axes_names.index(score.axis)]
                color = colors[score.axis, score.size]
                # A little apart, so that origins of like errors do not hide each other.
                height = place + SPREAD * (origins.index((score.axis, score.size)) / max(len(origins) - 1, 1) - 0.5)
                panels[0].plot(max(score.rmse, SMALLEST), height, marker, color=color, ms=5, zorder=4, **DOT)
        log_axis(panels[0], "x", *widened(max(min(errors), SMALLEST), max(*errors, SMALLEST)), most=5 if covered else 7)
        panels[0].set_xlabel("error of log loss on larger runs")
        panels[0].set_yticks(range(len(rows)), [_name(one) for one in rows])
        for label, one in zip(panels[0].get_yticklabels(), rows, strict=True):
            label.set_color(_color(found, one))
            label.set_fontweight("bold" if one is found.chosen else "normal")
        panels[0].set_ylim(len(rows) - 0.5, -0.5)
        if covered:
            _draw_coverage(panels[1], found, rows)
        for axis in axes_names:
            sizes = [size for name, size in origins if name == axis]
            for size in sizes:
                label = f"{axis} ≤ {size_text(size)} fitted"
                marker = MARKERS[axes_names.index(axis)]
                panels[0].plot([], [], marker, color=colors[axis, size], ms=6, label=label, **DOT)
        panels[0].plot([], [], color=MUTED, lw=2.6, label="mean")
        figure.legend(loc="outside lower center", ncols=3)
    return figure


def _draw_coverage(axes: Axes, found: Comparison, rows: list[Contender | Plain]) -> None:
    axes.axvline(95, color=INK, lw=1, ls="--")
    for place, one in enumerate(rows):
        if isinstance(one, Contender) and one.coverage is not None:
            axes.plot(100 * one.coverage, place, "o", color=_color(found, one), ms=7, **DOT)
    axes.set_xlim(-4, 104)
    axes.set_xticks([0, 50, 95])
    axes.set_xlabel("runs inside their\n95 % interval (%)")
    axes.tick_params(axis="y", length=0)


def _rows(found: Comparison) -> list[Contender | Plain]:
    """The forms from the lowest error up, each in the window its intervals were made for, then those without a law."""
    best: dict[str, Contender] = {}
    for one in found.contenders:
        if one.scores and (one is found.best or one.coverage is not None or one.form.name not in best):
            best[one.form.name] = one
    forms = sorted(best.values(), key=lambda one: one.rmse)
    if len(forms) > MOST_ROWS:
        forms = sorted(
            {id(one): one for one in (*forms[: MOST_ROWS - 1], found.best)}.values(), key=lambda one: one.rmse
        )
    return [*forms, *sorted(found.plain, key=lambda one: one.rmse)]


def _name(one: Contender | Plain) -> str:
    if isinstance(one, Plain) or one.window is None:
        return one.name
    return f"{one.form.name}, {one.form.axes[0]} ≥ {size_text(one.smallest)}"


def _color(found: Comparison, one: Contender | Plain) -> str:
    if isinstance(one, Plain):
        return MUTED
    return ORANGE if one is found.chosen else BLUE
