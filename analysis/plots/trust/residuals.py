"""Figure of a law's residuals."""

import numpy as np
from matplotlib.figure import Figure

from analysis.fitting import Law
from analysis.plots.sizes import axis_name, size_axis, size_groups
from analysis.plots.style import INK, MUTED, WIDTH_IN, house_style, shades, widened


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
