"""Figures of how sure a law is: the bootstrap over all parameters, and the profile of its exponents."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, MaxNLocator, NullFormatter
from scipy.special import fdtri

from analysis.fitting.law import Law
from analysis.fitting.quantities import numerical
from analysis.forms.terms import FloatArray
from analysis.plots.style import BLUE, INK, MUTED, ORANGE, WIDTH_IN, house_style, round_numbers, size_text, widened
from scaling.errors import ConfigError

JOINT_LEVELS = (0.5, 0.9, 0.95)
PLANE_POINTS = 25
CURVE_POINTS = 31
SHOWN_SAMPLES = 1500
DECADES_APART = 3.0  # samples that spread over more than this factor are drawn on a logarithmic axis
GREEK = {"alpha": "α", "beta": "β", "gamma": "γ", "kappa": "κ", "alpha_N": "α of N", "alpha_D": "α of D"}


def plot_corner(law: Law) -> Figure:
    """All parameters of the bootstrap against each other; on the diagonal each alone, with its 95 % interval."""
    if law.samples is None:
        raise ConfigError("the law was fitted without a bootstrap; fit it with replicates=1000 to draw one")
    values = law.samples.values[np.isfinite(law.samples.values).all(1)]
    names = [estimate.name for estimate in law.params]
    count = len(names)
    ranges = [_range(values[:, k], law.params[k].value) for k in range(count)]
    kinds = [parameter.kind for parameter in law.form.parameters]
    logged = [
        kind in ("coefficient", "shape") and low > 0 and high / low > DECADES_APART
        for kind, (low, high) in zip(kinds, ranges, strict=True)
    ]
    shown = values[:: max(1, len(values) // SHOWN_SAMPLES)]
    with house_style():
        figure = Figure(figsize=(WIDTH_IN, WIDTH_IN * 0.97))
        grid = figure.subplots(count, count, squeeze=False)
        for row in range(count):
            for column in range(count):
                axes = grid[row, column]
                if column > row:
                    axes.remove()
                    continue
                axes.grid(False)
                if row == column:
                    _draw_alone(axes, law, values[:, row], row, ranges[row], logged[row])
                else:
                    axes.plot(
                        shown[:, column], shown[:, row], "o", color=BLUE, ms=1.8, alpha=0.25, mew=0, rasterized=True
                    )
                    axes.plot(
                        law.params[column].value, law.params[row].value, "*", color=ORANGE, ms=9, mec="white", mew=0.6
                    )
                    _few_ticks(axes, "y", ranges[row], logged[row], named=column == 0)
                _few_ticks(axes, "x", ranges[column], logged[column], named=row == count - 1)
                if row == count - 1:
                    axes.set_xlabel(_symbol(names[column]))
                if column == 0 and row > 0:
                    axes.set_ylabel(_symbol(names[row]))
        figure.align_labels()
        entries = [
            Line2D([], [], color=BLUE, marker="o", ls="", ms=4, label="bootstrap refit"),
            Line2D([], [], color=ORANGE, marker="*", ls="", ms=10, label="best fit"),
            Line2D([], [], color=INK, lw=1, ls="--", label="95 % interval reported"),
        ]
        figure.legend(handles=entries, loc="upper right", bbox_to_anchor=(0.98, 0.97))
    return figure


def plot_profile(law: Law) -> Figure:
    """The profile of the first two exponents together, and of each alone with the thresholds that end its interval.

    Raises:
        ConfigError: if the form has fewer than two exponents.
    """
    columns = [k for k, parameter in enumerate(law.form.parameters) if parameter.kind == "exponent"][:2]
    if len(columns) < 2:
        raise ConfigError(f"form {law.form.name} has fewer than two exponents; there is no joint profile to draw")
    profile, values = law.uncertainty.profile, numerical(lambda theta: theta)
    freedom, best = profile.noise.freedom, law.optimum.theta[columns]
    ends = profile.intervals(values, len(law.optimum.theta), JOINT_LEVELS[-1])
    spans = [
        (ends[k].low - 0.5 * (b - ends[k].low), ends[k].high + 0.5 * (ends[k].high - b))
        for k, b in zip(columns, best, strict=True)
    ]
    if law.samples is not None:  # so that the cloud can be compared
        clouds = np.percentile(law.samples.theta[:, columns], [1, 99], axis=0).T
        spans = [(min(low, a), max(high, b)) for (low, high), (a, b) in zip(spans, clouds, strict=True)]
    spans = [(max(low, 0.0), high) for low, high in spans]
    x, y = (np.linspace(*span, PLANE_POINTS) for span in spans)
    targets = np.stack(np.meshgrid(x, y), -1).reshape(-1, 2)
    joint = profile.plane(values, (columns[0], columns[1]), targets).reshape(PLANE_POINTS, PLANE_POINTS) / 2
    names = [_symbol(law.params[k].name) for k in columns]
    with house_style():
        figure = Figure(figsize=(WIDTH_IN, 3.7))
        mosaic = figure.subplot_mosaic([["joint", "0"], ["joint", "1"]], width_ratios=[1.25, 1])
        axes = mosaic["joint"]
        axes.grid(False)
        thresholds = [float(fdtri(2, freedom, level)) for level in JOINT_LEVELS]
        axes.contourf(x, y, joint, levels=[0, *thresholds], colors=BLUE, alpha=0.12)
        for threshold in thresholds[:-1]:
            axes.contourf(x, y, joint, levels=[0, threshold], colors=BLUE, alpha=0.18)
        lines = axes.contour(x, y, joint, levels=thresholds, colors=BLUE, linewidths=1.2)
        axes.clabel(
            lines,
            fmt={t: f"{100 * level:.0f} %" for t, level in zip(thresholds, JOINT_LEVELS, strict=True)},
            fontsize=8.5,
        )
        if law.samples is not None:
            cloud = law.samples.theta[:SHOWN_SAMPLES, columns]
            axes.plot(*cloud.T, "o", color=MUTED, ms=1.8, alpha=0.35, mew=0, rasterized=True, zorder=1)
            figure.legend(
                handles=[
                    Line2D([], [], color=MUTED, marker="o", ls="", ms=3, label="bootstrap refits, for comparison")
                ],
                loc="outside lower left",
            )
        axes.plot(*best, "*", color=ORANGE, ms=13, mec="white", mew=0.8)
        axes.set_xlim(*spans[0])
        axes.set_ylim(*spans[1])
        axes.set_xlabel(f"{names[0]}, exponent of {law.form.parameters[columns[0]].axes[0]}")
        axes.set_ylabel(f"{names[1]}, exponent of {law.form.parameters[columns[1]].axes[0]}")
        for place, (column, span, name) in enumerate(zip(columns, spans, names, strict=True)):
            _draw_profile(mosaic[str(place)], law, column, span, name)
    return figure


def _draw_profile(axes: Axes, law: Law, column: int, span: tuple[float, float], name: str) -> None:
    profile = law.uncertainty.profile
    at, rise = profile.curve(numerical(lambda theta: theta), column, np.linspace(*span, CURVE_POINTS))
    order = np.argsort(at)
    threshold = float(fdtri(1, profile.noise.freedom, 0.95))
    axes.plot(at[order], rise[order], color=BLUE)
    axes.axhline(threshold, color=INK, lw=1, ls="--")
    axes.annotate(
        "95 %",
        (0.3, threshold),
        xycoords=axes.get_yaxis_transform(),
        xytext=(0, 2),
        textcoords="offset points",
        ha="center",
        fontsize=8.5,
    )
    fine = np.linspace(*span, 400)
    height = np.interp(fine, at[order], rise[order])
    axes.fill_between(fine, 0, height, where=list(height <= threshold), color=BLUE, alpha=0.15, lw=0)
    axes.axvline(float(law.optimum.theta[column]), color=ORANGE, lw=1.2)
    axes.set_xlim(span)
    axes.set_ylim(0, 2.2 * threshold)
    axes.yaxis.set_major_locator(MaxNLocator(4, integer=True))
    axes.xaxis.set_major_locator(MaxNLocator(4))
    axes.set_xlabel(name)
    axes.set_ylabel("rise (F)")


def _draw_alone(
    axes: Axes, law: Law, samples: FloatArray, column: int, ends: tuple[float, float], logged: bool
) -> None:
    edges = np.geomspace(*ends, 31) if logged else np.linspace(*ends, 31)
    axes.hist(samples, bins=list(edges), color=BLUE, alpha=0.55)
    for end in law.params[column].ci95 or ():
        if ends[0] <= end <= ends[1]:
            axes.axvline(end, color=INK, lw=1, ls="--")
    axes.axvline(law.params[column].value, color=ORANGE, lw=1.4)
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)


def _range(samples: FloatArray, best: float) -> tuple[float, float]:
    """What is shown of a parameter: all but the outermost samples, and the best fit."""
    low, high = np.percentile(samples, [0.5, 99.5])
    low, high = min(float(low), best), max(float(high), best)
    if low > 0 and high / low > DECADES_APART:
        return widened(low, high, 0.05)
    margin = 0.05 * (high - low) or 0.05 * abs(best) or 0.1
    return low - margin, high + margin


def _few_ticks(axes: Axes, which: str, ends: tuple[float, float], logged: bool, *, named: bool) -> None:
    axis = axes.xaxis if which == "x" else axes.yaxis
    if logged:
        (axes.set_xscale if which == "x" else axes.set_yscale)("log")
        axis.set_major_locator(FixedLocator(_apart(round_numbers(*ends, 4), ends)))
        axis.set_minor_formatter(NullFormatter())
        axis.set_minor_locator(FixedLocator([]))
        axis.set_major_formatter(lambda value, _: size_text(value))
    else:
        axis.set_major_locator(MaxNLocator(2 if which == "x" else 3, steps=[1, 2, 5, 10]))
    (axes.set_xlim if which == "x" else axes.set_ylim)(*ends)
    axis.set_tick_params(labelsize=8)
    if not named:
        axis.set_tick_params(labelbottom=False, labelleft=False)


def _apart(ticks: FloatArray, ends: tuple[float, float]) -> list[float]:
    """Those ticks whose numbers do not run into each other on a logarithmic axis an inch long."""
    length = np.log(ends[1] / ends[0])
    kept: list[float] = []
    for tick in ticks.tolist():
        if not kept or np.log(tick / kept[-1]) > 0.3 * length:
            kept.append(tick)
    return kept


def _symbol(name: str) -> str:
    return GREEK.get(name, name)
