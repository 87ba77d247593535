"""How every figure looks: colours that survive colour blindness and print, plain numbers on logarithmic axes."""

import io
import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from matplotlib import colormaps, rc_context
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from analysis.arrays import FloatArray
from analysis.texts import number_text

WIDTH_IN = 6.2
FEWEST_LEVELS = 7  # if plain round numbers give fewer lines, two digits are used
INK = "#222222"
MUTED = "#6b6b6b"
BLUE, ORANGE = "#0072B2", "#D55E00"  # Source: Okabe and Ito 2008
FAMILIES = (BLUE, ORANGE, "#009E73", "#CC79A7", "#56B4E9", "#E69F00", INK)  # without order; Okabe and Ito 2008
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
SETTINGS: Any = {
    "font.family": "DejaVu Sans",
    "font.size": 10.5,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e6e6e6",
    "grid.linewidth": 0.7,
    "axes.axisbelow": True,
    "xtick.color": INK,
    "ytick.color": INK,
    "lines.linewidth": 1.6,
    "legend.frameon": False,
    "legend.fontsize": 9.5,
    "legend.title_fontsize": 9.5,
    "svg.fonttype": "path",
    "savefig.dpi": 200,
    "figure.constrained_layout.use": True,
}


@contextmanager
def house_style() -> Iterator[None]:
    """All figures are made and saved inside this context; nothing global is changed."""
    with rc_context(SETTINGS):
        yield


def shades(count: int) -> list[str]:
    """`count` colours, dark to light, ordered like the sizes they stand for."""
    scale = colormaps["viridis"]
    return [to_hex(scale(x)) for x in np.linspace(0.02, 0.86, count)]


def log_axis(axes: Axes, which: str, low: float, high: float, text: Any = number_text, most: int = 7) -> None:
    """A logarithmic axis from low to high with at most `most` round ticks, written out."""
    axis = axes.xaxis if which == "x" else axes.yaxis
    (axes.set_xscale if which == "x" else axes.set_yscale)("log")
    (axes.set_xlim if which == "x" else axes.set_ylim)(low, high)
    axis.set_major_locator(FixedLocator(list(round_numbers(low, high, most))))
    axis.set_major_formatter(FuncFormatter(lambda value, _: text(value)))
    axis.set_minor_locator(NullLocator())


def round_numbers(low: float, high: float, most: int = 7) -> FloatArray:
    """At most `most` round numbers in [low, high], the finest series that fits."""
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    series: tuple[tuple[float, ...], ...] = (
        (1, 1.1, 1.2, 1.3, 1.4, 1.5, 1.6, 1.7, 1.8, 1.9, 2, 2.2, 2.4, 2.6, 2.8, 3, 3.5, 4, 4.5, 5, 6, 7, 8, 9),
        (1, 1.2, 1.4, 1.6, 1.8, 2, 2.5, 3, 3.5, 4, 5, 6, 7, 8, 9),
        (1, 1.5, 2, 3, 4, 5, 6, 8),
        (1, 1.5, 2, 3, 5, 7),
        (1, 2, 3, 5),
        (1, 2, 5),
        (1, 3),
        (1,),
    )
    numbers = np.array([])
    for digits in series:
        numbers = np.array([digit * 10.0**decade for decade in decades for digit in digits])
        numbers = numbers[(numbers >= low * 0.9999) & (numbers <= high * 1.0001)]
        if len(numbers) <= most:
            return numbers
    return numbers[:: math.ceil(len(numbers) / most)]


def nearest_round(values: FloatArray) -> FloatArray:
    """Each value moved to the nearest number of one or two plain digits, without repetition."""
    digits = np.array([1, 1.2, 1.5, 2, 2.5, 3, 3.5, 4, 4.5, 5, 6, 7, 8, 9, 10])
    decade = 10.0 ** np.floor(np.log10(values))
    nearest = np.abs(np.log(values[:, None] / (decade[:, None] * digits))).argmin(1)
    # Rounded so that 0.3 from two decades is one number.
    return np.unique([float(f"{value:.6g}") for value in decade * digits[nearest]])


def loss_levels(loss: FloatArray) -> FloatArray:
    """Round losses, even in the loss's quantiles over the plane, so that their lines fill it."""
    even = np.quantile(loss, np.linspace(0.04, 0.97, 11))
    levels = nearest_round(even)
    return levels if len(levels) >= FEWEST_LEVELS else np.unique([float(f"{level:.2g}") for level in even])


def widened(low: float, high: float, share: float = 0.06) -> tuple[float, float]:
    """The range made wider by `share` of its logarithmic length at both ends."""
    margin = max((high / low) ** share, 1.03)
    return low / margin, high * margin


def save_bytes(figure: Figure, kind: str, name: str) -> bytes:
    """The figure as "png", "svg" or "pdf", the same bytes for the same figure."""
    buffer = io.BytesIO()
    with rc_context({**SETTINGS, "svg.hashsalt": name}):
        metadata = {"svg": {"Date": None}, "png": {"Software": None}, "pdf": {"CreationDate": None}}[kind]
        figure.savefig(buffer, format=kind, metadata=metadata)
    return buffer.getvalue()
