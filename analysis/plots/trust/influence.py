"""Figure of influence: which runs an exponent rests on."""

from typing import Any

import numpy as np
from matplotlib.figure import Figure

from analysis.arrays import FloatArray
from analysis.fitting import Law, noteworthy
from analysis.plots.sizes import axis_name, greek, loss_name, size_axis
from analysis.plots.style import BLUE, MUTED, ORANGE, WIDTH_IN, house_style, log_axis, widened
from analysis.texts import size_text
from scaling.errors import ConfigError

MOST_PANELS = 4
MOST_NAMED = 3
CROWD = 100  # runs from which points are small


def plot_influence(law: Law, influence: dict[str, FloatArray]) -> Figure:
    """DFBETAS of exponents and floor against the size they belong to; beyond the dashed lines a run deserves a look.

    Args:
        influence: (M,) per parameter, of `analysis.fitting.influence.dfbetas`.
    Raises:
        ConfigError: if there is none of an exponent or a floor.
    """
    shown = [p for p in law.form.parameters if p.kind in ("exponent", "floor") and p.name in influence][:MOST_PANELS]
    if not shown:
        raise ConfigError("there is no influence on an exponent or a floor to draw")
    limit = noteworthy(len(law.table))
    size: Any = {"ms": 5.5, "mec": "white", "mew": 0.6} if len(law.table) <= CROWD else {"ms": 3.5, "mew": 0}
    with house_style():
        figure = Figure(figsize=(WIDTH_IN, 0.4 + 1.9 * len(shown)))
        panels = figure.subplots(len(shown), 1, squeeze=False).ravel()
        for axes, parameter in zip(panels, shown, strict=True):
            values = influence[parameter.name]
            sizes = law.table.axis(parameter.axes[0]) if parameter.axes else law.table.loss
            axes.axhline(0, color=MUTED, lw=1)
            for sign in (-limit, limit):
                axes.axhline(sign, color=MUTED, lw=0.9, ls="--")
            far = np.abs(values) > limit
            for mask, color in ((~far, BLUE), (far, ORANGE)):
                axes.plot(sizes[mask], values[mask], "o", color=color, **size)
            low, high = widened(sizes.min(), sizes.max(), 0.1)
            if parameter.axes:
                size_axis(axes, law.table, parameter.axes[0], (low, high))
            else:
                log_axis(axes, "x", low, high)
            axes.set_xlabel(axis_name(law.table, parameter.axes[0]) if parameter.axes else loss_name(law.table))
            axes.set_title(greek(parameter.name), fontsize=10)
            reach = 1.3 * max(np.abs(values).max(), limit)
            axes.set_ylim(-reach, reach)
            named: list[int] = []
            for i in np.argsort(-np.abs(values), kind="stable")[: 3 * MOST_NAMED]:
                apart = all(
                    abs(values[i] - values[j]) > 0.2 * reach
                    or abs(np.log(sizes[i] / sizes[j])) > 0.3 * np.log(high / low)
                    for j in named
                )
                if far[i] and apart and len(named) < MOST_NAMED:
                    named.append(int(i))
                    right = np.log(sizes[i] / low) > 0.6 * np.log(high / low)
                    axes.annotate(
                        _sizes_text(law, int(i)),
                        (sizes[i], values[i]),
                        xytext=(-6 if right else 6, 0),
                        textcoords="offset points",
                        ha="right" if right else "left",
                        va="center",
                        fontsize=8,
                    )
        figure.supylabel("change without the run (standard errors)", fontsize=10.5)
    return figure


def _sizes_text(law: Law, run: int) -> str:
    return ", ".join(f"{axis} {size_text(law.table.axis(axis)[run])}" for axis in law.form.axes)
