"""Figure of the best learning rate of each model size."""

import numpy as np
from matplotlib.figure import Figure

from analysis.plots.sizes import DOT, axis_name, loss_name
from analysis.plots.style import INK, WIDTH_IN, house_style, log_axis, shades, widened
from analysis.study import LearningRates
from analysis.tables import RunTable
from analysis.texts import count_text, size_text
from scaling.errors import ConfigError


def plot_learning_rates(table: RunTable, found: LearningRates | None) -> Figure:
    """Left: loss against the rate, a parabola for each model size, its minimum as a star; right: the minima against N.

    A minimum outside the rates tried is no minimum: that size has no star.

    Raises:
        ConfigError: if the table does not vary the rate.
    """
    if found is None:
        raise ConfigError("the table holds no size that was run with three learning rates or more")
    sizes = found.sizes
    colors = shades(len(sizes))
    rates = np.concatenate([size.rates for size in sizes])
    loss = np.concatenate([size.loss for size in sizes])
    with house_style():
        figure = Figure(figsize=(WIDTH_IN, 4.4))
        left, right = figure.subplots(1, 2, width_ratios=(1.25, 1))
        for size, color in zip(sizes, colors, strict=True):
            x = np.log(np.geomspace(size.rates[0], size.rates[-1], 80))
            left.plot(np.exp(x), np.exp(np.polyval(size.coefficients, x)), color=color)
            left.plot(size.rates, size.loss, "o", color=color, label=count_text(size.num_params), **DOT)
            if size.best is not None:
                lowest = float(np.exp(np.polyval(size.coefficients, np.log(size.best))))
                left.plot(size.best, lowest, "*", color=color, ms=14, mec=INK, mew=0.8, zorder=5)
                if size.ci95:
                    right.plot([size.num_params] * 2, size.ci95, color=color, lw=1.6)
                right.plot(size.num_params, size.best, "*", color=color, ms=14, mec=INK, mew=0.8)
        log_axis(left, "x", *widened(rates.min(), rates.max()), most=5)
        log_axis(left, "y", *widened(loss.min(), loss.max()))
        left.set_xlabel(found.column.replace("_", " "))
        left.set_ylabel(loss_name(table))
        numbers = np.array([size.num_params for size in sizes])
        low, high = widened(numbers.min(), numbers.max(), 0.12)
        if found.factor is not None and found.slope is not None:
            line = np.array([low, high])
            right.plot(line, found.factor * line ** found.slope[0], color=INK, lw=1.2, ls="--", zorder=1)
            text = f"∝ N to the {found.slope[0]:.3f} ± {found.slope[1]:.1g}"
            right.set_title(text, fontsize=10)
        log_axis(right, "x", low, high, size_text, most=4)
        log_axis(right, "y", *widened(rates.min(), rates.max()))
        right.set_xlabel(axis_name(table, "N"))
        right.set_ylabel(f"best {found.column.replace('_', ' ')}")
        handles = left.get_legend_handles_labels()
        figure.legend(*handles, title=axis_name(table, "N"), loc="outside lower center", ncols=min(len(sizes), 6))
    return figure
