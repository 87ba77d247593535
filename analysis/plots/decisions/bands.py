"""What figures of decisions share: bands of derived quantities, and how a budget is written."""

from typing import Any

import numpy as np
from matplotlib.axes import Axes

from analysis.arrays import FloatArray
from analysis.compute import Derived
from analysis.plots.style import BLUE

POINTS = 20  # each has an interval of its own
RUN: Any = {"ls": "", "marker": "o", "ms": 5, "mec": "white", "mew": 0.7}
UNSEEN = 1e6
"""A band without an end is drawn to this factor beyond what is shown."""


def draw_ends(axes: Axes, x: FloatArray, quantity: Derived) -> None:
    """The 95 % interval of a quantity as a band."""
    if quantity.ci95 is not None:
        ends = np.clip(quantity.ci95, quantity.value.min() / UNSEEN, quantity.value.max() * UNSEEN)
        axes.fill_between(x, *ends, color=BLUE, alpha=0.2, lw=0)


def finite_ends(quantity: Derived) -> FloatArray:
    """The numbers and the ends of their intervals, but those that the runs do not bound."""
    ends = quantity.value if quantity.ci95 is None else np.append(quantity.value, quantity.ci95)
    return np.asarray(ends[np.isfinite(ends) & (ends > 0)])


def flops_text(value: float) -> str:
    """A power of ten as such, other numbers with one digit before it: 10²¹, 3 × 10²¹."""
    exponent = int(np.floor(np.log10(value) + 1e-9))
    lead = value / 10.0**exponent
    power = f"$10^{{{exponent}}}$"
    return power if abs(lead - 1) < 0.005 else f"{lead:.2g} × {power}"
