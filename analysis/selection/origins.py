"""Where a table is cut to hold its larger runs out: runs up to a size are fitted, larger ones are predicted.

Legend of shapes: M runs.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from analysis.arrays import BoolArray, FloatArray
from analysis.tables import RunTable, distinct_sizes, same_size
from scaling.errors import ConfigError, DataError

REACH = 2.0
"""Factor in size, by default, within which runs beyond an origin are predicted."""
MOST_ORIGINS = 4
FEWEST_RUNS = 6
"""An origin with fewer fitted runs says more of chance than of the form."""
FEWEST_SIZES = 3
HELD_OUT_SHARE = 0.1
"""Share of the runs that one origin alone should hold out: a few runs are covered, or not, by chance."""
MOST_RUNS = 2_000
"""Forms are fitted dozens of times: minutes beyond this many runs."""
SAME = 1 + 1e-6  # a size may be a little off where it went through text


@dataclass(frozen=True)
class Origin:
    """Where the table is cut: runs (M,) up to `size` along `axis` are fitted, those within reach beyond predicted.

    `axis` is "width" where N is made of several widths and depths, see `cut_axis`.
    """

    axis: str
    size: float
    fitted: BoolArray
    held_out: BoolArray


def rolling_origins(table: RunTable, axes: Sequence[str], reach: float) -> tuple[Origin, ...]:
    """At most MOST_ORIGINS for each axis, from the largest size down, the nearest first.

    They lie the square root of `reach` apart, or a size where sizes are farther apart. Held out are the runs within
    `reach` of the origin, at least the next size.

    Raises:
        ConfigError: if the reach is not above 1.
    """
    if not 1 < reach < np.inf:
        raise ConfigError(f"reach={reach:g} must be above 1: the factor in size by which runs are predicted ahead")
    origins: list[Origin] = []
    for axis in dict.fromkeys(cut_axis(table, axis) for axis in axes):
        sizes = cut_sizes(table, axis)
        distinct = distinct_sizes(sizes)
        last, end = len(distinct) - 1, distinct[-1]
        for _ in range(MOST_ORIGINS):
            end = end / np.sqrt(reach)
            last = min(last - 1, int(np.searchsorted(distinct, end * SAME, side="right")) - 1)
            if last + 1 < FEWEST_SIZES:
                break
            top = max(distinct[last] * reach, distinct[last + 1]) * SAME
            fitted = sizes <= distinct[last] * SAME
            if fitted.sum() < FEWEST_RUNS:
                break
            origins.append(Origin(axis, float(distinct[last]), fitted, ~fitted & (sizes <= top)))
    return tuple(origins)


def largest_origin(table: RunTable, axis: str) -> Origin:
    """The origin beyond which the largest sizes lie, as few of them as make up HELD_OUT_SHARE of the runs.

    All runs beyond it are held out, whatever they leave to be fitted. The axis has two sizes or more.
    """
    cut = cut_axis(table, axis)
    sizes = cut_sizes(table, cut)
    for size in distinct_sizes(sizes)[:0:-1]:
        held_out = (sizes >= size) | same_size(sizes, size)
        if held_out.mean() >= HELD_OUT_SHARE:
            break
    return Origin(cut, float(sizes[~held_out].max()), ~held_out, held_out)


def cut_axis(table: RunTable, axis: str) -> str:
    """The axis itself; but "width" for N where the runs differ in width and depth.

    The largest N alone would be the widest model at the largest depth; the largest width is held out at every depth.
    """
    shape = ["width", "depth"]
    if axis != "N" or not set(shape) <= set(table.frame):
        return axis
    known = table.frame[shape]
    return "width" if known.notna().all(axis=None) and (known.nunique() > 1).all() else axis


def cut_sizes(table: RunTable, axis: str) -> FloatArray:
    """(M,) each run's size along an axis of `cut_axis`."""
    return table.axis(axis) if axis in table.sizes else table.frame[axis].to_numpy(dtype=float)


def require_few_runs(table: RunTable) -> None:
    """Raise DataError for more runs than forms are fitted to again and again."""
    if len(table) > MOST_RUNS:
        raise DataError(
            f"{table.source}: {len(table):,} runs are more than {MOST_RUNS:,}, which forms are compared on; keep "
            "each run's last checkpoint, or checkpoints evenly spaced in the logarithm of size"
        )
