"""How numbers are written, in print and on figures; without matplotlib, so that the commands start without it."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


def size_text(size: float) -> str:
    """A count in at most three digits: 373, 14.6k, 1.16M; beyond the names of numbers 3e+20."""
    if size >= 1e15:
        return f"{size:.3g}"
    for limit, suffix in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k")):
        if size >= 0.9995 * limit:
            return f"{size / limit:.3g}{suffix}"
    return f"{size:.3g}"


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


def interval_text(value: float, ends: "Sequence[float] | NDArray[np.float64] | None") -> str:
    """`1.1 [1.01, 1.48]`: a value with its interval, where it has one."""
    return f"{value:.3g}" if ends is None else f"{value:.3g} [{ends[0]:.3g}, {ends[1]:.3g}]"


def as_sentence(words: str) -> str:
    """With a capital and a full stop."""
    return f"{words[:1].upper()}{words[1:].removesuffix('.')}."
