"""Figure of a law's surface: lines of equal loss in the plane of N and D, and how well they are known."""

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from analysis.fitting import Law
from analysis.plots.laws.curves import BAND_POINTS
from analysis.plots.sizes import axis_name, depth_legend, depth_markers
from analysis.plots.style import INK, ORANGE, WIDTH_IN, house_style, log_axis, loss_levels, widened
from analysis.texts import number_text, size_text
from scaling.errors import ConfigError

FARTHER = 10.0  # times the largest runs: as far as predictions are asked for
ERRORS = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0)  # per cent, at which shades change
TINY = 1e-300


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
        depth_legend(figure, law.table, ORANGE)
    return figure
