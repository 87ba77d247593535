"""Figure of the size beyond which more of one axis hardly helps."""

import numpy as np
from matplotlib.figure import Figure

from analysis.compute import DEFAULT_SHARE, saturation
from analysis.fitting import Law
from analysis.plots.decisions.bands import POINTS, RUN, draw_ends, finite_ends
from analysis.plots.sizes import axis_name
from analysis.plots.style import BLUE, MUTED, WIDTH_IN, house_style, log_axis, widened
from analysis.texts import size_text
from scaling.errors import ConfigError


def plot_saturation(law: Law, axis: str = "N", *, share: float = DEFAULT_SHARE) -> Figure:
    """Against the other axis, the size beyond which all further growth of `axis` lowers the loss by `share`.

    Raises:
        ConfigError: if the law does not have both axes, or the exponents behind it are not identified.
    """
    other = {"N": "D", "D": "N"}.get(axis, "")
    if not {axis, other} <= set(law.form.axes):
        raise ConfigError(f"form {law.form.name} has the axes {', '.join(law.form.axes)}; this figure needs N and D")
    sampled = law.table.axis(other)
    given = np.geomspace(*widened(sampled.min(), sampled.max(), 0.08), POINTS)
    found = saturation(law, axis, share=share, given=given)
    if found.problems:
        raise ConfigError(f"no saturation can be drawn: {'; '.join(found.problems)}")
    own = law.table.axis(axis)
    with house_style():
        figure = Figure(figsize=(WIDTH_IN, 4.4))
        axes = figure.add_subplot()
        draw_ends(axes, given, found.size)
        axes.plot(given, found.size.value, color=BLUE, label=f"{100 * share:g} % of the loss left to gain from {axis}")
        axes.plot(sampled, own, color=MUTED, alpha=0.75, label="runs", **RUN)
        ends = finite_ends(found.size)
        log_axis(axes, "x", float(given[0]), float(given[-1]), size_text)
        log_axis(axes, "y", *widened(min(own.min(), ends.min()), max(own.max(), ends.max())), size_text)
        axes.set_xlabel(axis_name(law.table, other))
        axes.set_ylabel(axis_name(law.table, axis))
        figure.legend(loc="outside lower center", ncols=2)
    return figure
