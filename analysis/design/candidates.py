"""Runs that could be made next: the table's own grid and its continuation, or what the user names.

Legend of shapes: K candidates.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from analysis.arrays import FloatArray
from analysis.compute import HOURS_COLUMN, SizeCost
from analysis.tables import RunTable, distinct_sizes, numbers, same_size
from scaling.errors import ConfigError, DataError

CLOSEST_LEVELS = 1.4
"""Sampled sizes nearer than this ratio give one candidate (published tables hold hundreds of sizes)."""
MOST_LEVELS = {1: 60, 2: 24, 3: 12}
FACTOR_BOUNDS = (1.4, 10.0)
STEP = 2.0**0.5
"""Sizes beyond the grid go by the part of its own step that is nearest to this: fine enough to meet a budget."""
WHOLE = ("width", "depth")


@dataclass(frozen=True)
class Candidates:
    """Sizes (K,) by axis, and costs (K,)."""

    sizes: dict[str, FloatArray]
    costs: FloatArray

    def __len__(self) -> int:
        return len(self.costs)


def factor_of(table: RunTable, axis: str) -> float:
    """The grid's own step along an axis: the median ratio of neighbouring sizes."""
    levels = _thinned(distinct_sizes(table.axis(axis)), 10**9)
    ratios = [high / low for low, high in pairwise(levels)]
    return float(np.clip(np.median(ratios), *FACTOR_BOUNDS)) if ratios else 2.0


def largest_data(table: RunTable) -> float | None:
    """All the data there are, where the table has fractions of them (column `fraction`)."""
    if "fraction" not in table.frame or "D" not in table.sizes:
        return None
    fraction = table.frame["fraction"].to_numpy(dtype=float)
    known = (fraction > 0) & (fraction <= 1) & np.isfinite(table.data_size)
    if not known.any():
        return None
    largest = int(np.where(known, fraction, 0.0).argmax())
    return float(table.data_size[largest] / fraction[largest])


def next_larger(table: RunTable, axes: tuple[str, ...], steps: int = 1) -> dict[str, float]:
    """The sizes `steps` steps of the grid beyond its largest corner, D as far as there are data; epochs as sampled."""
    sizes = {}
    for axis in axes:
        size = float(table.axis(axis).max())
        if axis != "epochs":
            larger = size * factor_of(table, axis) ** steps
            cap = largest_data(table) if axis == "D" else None
            size = larger if cap is None else max(size, min(larger, cap))
        sizes[axis] = float(round(size)) if axis in WHOLE else size
    return sizes


def own_grid(
    table: RunTable, axes: tuple[str, ...], cost: SizeCost, most: float, largest: Mapping[str, float]
) -> Candidates:
    """All combinations of the sampled sizes and of further ones by the grid's own step.

    None is dearer than `most`; no size is beyond `largest` of its axis (nobody wants a network a thousand times larger
    than any before it on the smallest of data sets), nor beyond the data there are.
    """
    levels = {axis: _thinned(distinct_sizes(table.axis(axis)), MOST_LEVELS.get(len(axes), 8)) for axis in axes}
    smallest = {axis: float(values[0]) for axis, values in levels.items()}
    for axis in axes:
        if axis == "epochs":
            continue
        end = min(largest[axis], (largest_data(table) if axis == "D" else None) or np.inf)
        step, reached = factor_of(table, axis), [float(levels[axis][-1])]
        factor = step ** (1 / max(round(np.log(step) / np.log(STEP)), 1))
        while reached[-1] * CLOSEST_LEVELS <= end:
            size = min(reached[-1] * factor, end)
            size = float(round(size)) if axis in WHOLE else size
            if float(cost({**smallest, axis: size})[0]) > most:
                break
            reached.append(size)
        levels[axis] = np.concatenate([levels[axis], reached[1:]])
    found = _product(levels)
    costs = cost(found)
    affordable = costs <= most * (1 + 1e-9)
    return Candidates({axis: sizes[affordable] for axis, sizes in found.items()}, costs[affordable])


def given_candidates(
    table: RunTable, axes: tuple[str, ...], cost: SizeCost, given: Mapping[str, ArrayLike] | pd.DataFrame
) -> Candidates:
    """Candidates that the user names: lists of sizes by axis (all their combinations), or a table with a row each.

    A table's columns are called like the axes or like those of the runs; its own device_hours are taken as they are.

    Raises:
        ConfigError: if an axis is missing or unknown.
        DataError: if a size is not a positive number, or there are none.
    """
    if isinstance(given, pd.DataFrame):
        columns = {axis: axis if axis in given else table.columns.get(axis, axis) for axis in axes}
        if missing := [axis for axis, column in columns.items() if column not in given]:
            raise ConfigError(f"the candidates have no column {missing[0]} or {columns[missing[0]]}")
        sizes = {axis: _numbers(given[column], column) for axis, column in columns.items()}
        costs = cost(sizes)
        if HOURS_COLUMN in given and cost.unit == "device-hours":
            costs = _numbers(given[HOURS_COLUMN], HOURS_COLUMN)
        return Candidates(sizes, costs)
    if set(given) != set(axes):
        raise ConfigError(f"candidates give sizes of {', '.join(given) or 'nothing'}; the form needs {', '.join(axes)}")
    sizes = _product({axis: _numbers(given[axis], axis) for axis in axes})
    return Candidates(sizes, cost(sizes))


def _numbers(values: ArrayLike, name: str) -> FloatArray:
    numbers = np.atleast_1d(np.asarray(pd.to_numeric(pd.Series(np.ravel(np.asarray(values))), errors="coerce"), float))
    if not len(numbers):
        raise DataError(f"candidates: {name} holds no sizes")
    if bad := [i for i, number in enumerate(numbers) if not (np.isfinite(number) and number > 0)]:
        raise DataError(f"candidates: {name} must hold positive numbers; entry {bad[0] + 1} is {numbers[bad[0]]:g}")
    return numbers


def _product(levels: Mapping[str, FloatArray]) -> dict[str, FloatArray]:
    grids = np.meshgrid(*levels.values(), indexing="ij")
    return {axis: grid.ravel() for axis, grid in zip(levels, grids, strict=True)}


def _thinned(sizes: FloatArray, most: int) -> FloatArray:
    """Sizes at least CLOSEST_LEVELS apart, the largest kept, no more than `most`."""
    ratio = max(CLOSEST_LEVELS, (sizes[-1] / sizes[0]) ** (1 / most) if len(sizes) > most else 0.0)
    kept = [sizes[-1]]
    for size in sizes[-2::-1]:
        if kept[-1] / size >= ratio:
            kept.append(size)
    return np.array(kept[::-1])


def in_words(table: RunTable, sizes: Mapping[str, float]) -> str:
    """Width, depth and fraction that come nearest to the sizes, "" where the table does not have them."""
    words = [_network(table, sizes["N"])] if "N" in sizes else []
    everything = largest_data(table)
    if "D" in sizes and everything is not None:
        share = sizes["D"] / everything
        words.append(f"fraction {share:.3g}" if share <= 1.01 else f"{share:.3g} x all the data ({everything:,.0f})")
    return ", ".join(word for word in words if word)


def _network(table: RunTable, num_params: float) -> str:
    """The sampled network of this size or, at each sampled depth, the width whose size comes nearest."""
    frame = table.frame
    if "width" not in frame or "depth" not in frame or table.columns["N"] != "num_params":
        return ""
    width, depth = numbers(table, "width"), numbers(table, "depth")
    if not np.isfinite(width * depth).all():
        return ""
    same = same_size(table.num_params, num_params)
    if same.any():
        return f"width {width[same][0]:g}, depth {depth[same][0]:g}"
    options = []
    for level in np.unique(depth):
        known = depth == level
        widths, first = np.unique(width[known], return_index=True)
        if len(widths) < 2:
            continue
        log_widths, log_sizes = np.log(widths), np.log(table.num_params[known][first])
        # Beyond the sampled widths N is taken to grow as between the last two.
        part = slice(-2, None) if num_params > table.num_params[known].max() else slice(None)
        slope = np.diff(log_widths)[-1] / np.diff(log_sizes)[-1]
        beyond = log_widths[-1] + slope * (np.log(num_params) - log_sizes[-1])
        within = np.interp(np.log(num_params), log_sizes, log_widths)
        found = max(round(float(np.exp(beyond if part.start else within))), 1)
        options.append(f"width {found} at depth {level:g}")
    return " or ".join(options[-2:])
