"""Figure of the profile of a law's exponents: together, and each alone with its interval."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator
from scipy.special import fdtri

from analysis.fitting import Law, numerical
from analysis.plots.style import BLUE, INK, MUTED, ORANGE, WIDTH_IN, house_style
from analysis.plots.trust.corner import SHOWN_SAMPLES, symbol
from scaling.errors import ConfigError

JOINT_LEVELS = (0.5, 0.9, 0.95)
PLANE_POINTS = 25
CURVE_POINTS = 31


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
    names = [symbol(law.params[k].name) for k in columns]
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
