"""How every figure looks: colours that survive colour blindness and print, plain numbers on logarithmic axes.

Matplotlib is loaded when something is drawn: commands that print write their numbers with these functions too.
"""

import io
import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from analysis.forms.terms import FloatArray
from analysis.texts import size_text as size_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WIDTH_IN = 6.2
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
    from matplotlib import rc_context

    with rc_context(SETTINGS):
        yield


def shades(count: int) -> list[str]:
    """`count` colours, dark to light, ordered like the sizes they stand for."""
    from matplotlib import colormaps
    from matplotlib.colors import to_hex

    scale = colormaps["viridis"]
    return [to_hex(scale(x)) for x in np.linspace(0.02, 0.86, count)]


def count_text(count: float) -> str:
    """A count written out as far as that is short: 1,024, 14.6M."""
    return f"{count:,.0f}" if 100 <= count < 1e6 else size_text(count)


def power_text(value: float) -> str:
    """A count too large for names of numbers, as training FLOPs: 10¹⁸, 3×10²⁰."""
    exponent = math.floor(math.log10(value) + 1e-12)
    raised = str(exponent).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))
    mantissa = f"{value / 10.0**exponent:.3g}"
    return f"10{raised}" if mantissa == "1" else f"{mantissa}×10{raised}"


def number_text(value: float) -> str:
    """A loss without needless zeros or exponents: 0.05, 1.2, 2e-06."""
    return f"{value:.2g}" if value < 100 else f"{value:.3g}"


def log_axis(axes: "Axes", which: str, low: float, high: float, text: Any = number_text, most: int = 7) -> None:
    """A logarithmic axis from low to high with at most `most` round ticks, written out."""
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

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


def widened(low: float, high: float, share: float = 0.06) -> tuple[float, float]:
    """The range made wider by `share` of its logarithmic length at both ends."""
    margin = max((high / low) ** share, 1.03)
    return low / margin, high * margin


def save_bytes(figure: "Figure", kind: str, name: str) -> bytes:
    """The figure as "png", "svg" or "pdf", the same bytes for the same figure."""
    from matplotlib import rc_context

    buffer = io.BytesIO()
    with rc_context({**SETTINGS, "svg.hashsalt": name}):
        metadata = {"svg": {"Date": None}, "png": {"Software": None}, "pdf": {"CreationDate": None}}[kind]
        figure.savefig(buffer, format=kind, metadata=metadata)
    return buffer.getvalue()
