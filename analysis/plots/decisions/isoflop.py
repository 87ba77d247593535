"""Figure of IsoFLOP parabolas beside the law."""

import numpy as np
from matplotlib.figure import Figure

from analysis.compute import IsoFlop
from analysis.plots.decisions.bands import RUN, flops_text
from analysis.plots.sizes import axis_name
from analysis.plots.style import MUTED, ORANGE, WIDTH_IN, house_style, log_axis, shades, widened
from analysis.texts import size_text
from scaling.errors import ConfigError

GRID = 120


def plot_isoflop(found: IsoFlop) -> Figure:
    """Loss against N for each budget with its parabola and optimum, and the surface's own curve beside it."""
    if not found.parabolas:
        raise ConfigError("no budget of these runs has an optimum of its own; see the reasons in left_out")
    table, colors = found.law.table, shades(len(found.parabolas))
    sizes = np.concatenate([table.num_params[p.rows] for p in found.parabolas])
    losses = np.concatenate([table.loss[p.rows] for p in found.parabolas])
    with house_style():
        figure = Figure(figsize=(WIDTH_IN, 4.9))
        axes = figure.add_subplot()
        for parabola, color in zip(found.parabolas, colors, strict=True):
            n = table.num_params[parabola.rows]
            grid = np.geomspace(n.min(), n.max(), GRID)
            x = np.log(grid) - parabola.centre
            label = flops_text(parabola.budget)
            axes.plot(n, table.loss[parabola.rows], color=color, alpha=0.55, **RUN)
            axes.plot(grid, parabola.coefficients @ [np.ones_like(x), x, x**2], color=color, lw=1.5, label=label)
            nd = np.exp(np.log(n * table.data_size[parabola.rows]).mean())
            extra = {axis: found.cost.epochs for axis in found.law.form.axes if axis not in ("N", "D")}
            axes.plot(grid, found.law.predict(N=grid, D=nd / grid, **extra), color=color, lw=1, ls="--")
            interval = parabola.num_params.ci95
            if interval is not None:
                axes.plot(interval, [parabola.loss] * 2, color=ORANGE, lw=1.6, zorder=5)
            axes.plot(parabola.num_params.value, parabola.loss, "*", color=ORANGE, ms=12, mec="white", zorder=6)
        axes.plot([], [], "*-", color=ORANGE, ms=12, mec="white", label="parabola's optimum")
        axes.plot([], [], color=MUTED, lw=1, ls="--", label="fitted surface")
        log_axis(axes, "x", *widened(sizes.min(), sizes.max()), size_text)
        log_axis(axes, "y", *widened(losses.min(), losses.max(), 0.05))
        axes.set_xlabel(axis_name(found.law.table, "N"))
        axes.set_ylabel(found.law.table.columns["loss"].replace("_", " "))
        figure.legend(title="FLOPs", loc="outside right center")
    return figure
