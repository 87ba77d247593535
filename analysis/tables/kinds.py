"""What kinds of runs share a table: the columns that must hold one value for one law to be meant."""

import re
from collections.abc import Mapping
from itertools import pairwise

import numpy as np
import pandas as pd

from analysis.arrays import FloatArray
from analysis.tables.table import RunTable, distinct_sizes, numbers, same_size
from scaling.errors import ConfigError

MODEL = "model"
MIXED_COLUMNS = {
    "study": "studies",
    "experiment": "experiments",
    MODEL: "model families",
    "forces": "ways of making forces",
    "precision": "precisions",
    "data_digest": "data sets",
    "dataset": "data sets",
    "source": "sources",
    "domain": "domains",
    "task": "tasks",
    "condition": "conditions",
}
"""Columns, however capitalised, that must hold one value for one law to be meant."""
MOST_VALUES = 6
"""Values of a column that a message lists."""
SETTING = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)+")
"""The name of a column that holds a key of the runs' configuration, e.g. optim.lr."""
SIZE_COLUMNS = ("num_params", "width", "depth", "fraction", "train_structures")
"""Sizes that other settings may follow, besides the axes of the law."""
ALIKE = 1.25
"""Sizes within this factor count as one where a setting is asked whether it follows them: a width that is chosen for a
number of parameters, or a budget in whole steps, meets its goal about so well."""
RATE_COLUMNS = ("learning_rate", "lr", "peak_lr")
FEWEST_RATES = 3
"""Learning rates at one size from which the runs are a search for the best one."""


def rows_with(frame: pd.DataFrame, only: Mapping[str, str], name: str) -> np.ndarray:
    """(rows,) mask of the rows that hold these values, as text, in these columns; see `load_runs` for errors."""
    mask = np.ones(len(frame), dtype=bool)
    for column, value in only.items():
        kinds = kinds_of(frame, column, name)
        if value not in kinds:
            raise ConfigError(f"{name}: column {column!r} holds no {value!r}; choose one of {listed(kinds)}")
        mask &= (frame[column].notna() & (frame[column].astype(str) == value)).to_numpy()
    return mask


def kinds_of(frame: pd.DataFrame, column: str, name: str) -> list[str]:
    """The different values of a column as text, in order; ConfigError if there is no such column."""
    if column not in frame:
        raise ConfigError(f"{name} has no column {column!r}. Present: {', '.join(map(str, frame.columns))}")
    return sorted(set(map(str, frame[column].dropna())))


def listed(kinds: list[str]) -> str:
    """The values in one line, at most MOST_VALUES of them."""
    more = [f"{len(kinds) - MOST_VALUES} more"] if len(kinds) > MOST_VALUES else []
    return ", ".join([*kinds[:MOST_VALUES], *more])


def mixed_kinds(table: RunTable) -> dict[str, list[str]]:
    """The values of each of MIXED_COLUMNS that holds several.

    A column that differs from run to run names runs, not kinds.
    """
    found = {}
    for name in MIXED_COLUMNS:
        for column in [one for one in table.frame if str(one).lower() == name and one not in table.columns.values()]:
            kinds = kinds_of(table.frame, column, table.source)
            if 1 < len(kinds) < len(table):
                found[str(column)] = kinds
    return found


def varied_settings(table: RunTable, axes: tuple[str, ...]) -> dict[str, list[str]]:
    """The values of each configuration key that differs among the runs and is neither an axis nor follows a size.

    A key follows a size where it rises or falls with it, one value for one size (within ALIKE), as a derived width
    does. A key that only repeats a column of `mixed_kinds` (train.precision that of precision), or has one value for
    each model family, is left out: that column is named in its place.
    """
    frame, mixed = table.frame, mixed_kinds(table)
    sizes = [table.axis(axis) for axis in axes] + [numbers(table, column) for column in SIZE_COLUMNS]
    named = [column for column in mixed if column.lower() == MODEL]
    found = {}
    for column in [str(one) for one in frame if SETTING.fullmatch(str(one)) and one not in table.columns.values()]:
        kinds = kinds_of(frame, column, table.source)
        repeats = column.rpartition(".")[2] in {name.lower() for name in mixed}
        by_family = any((frame.groupby(name)[column].nunique() <= 1).all() for name in named)
        if len(kinds) < 2 or repeats or by_family:
            continue
        values = numbers(table, column)
        if not any(_follows(values, size) for size in sizes):
            found[column] = kinds if np.isnan(values).any() else _in_order(values, frame[column])
    return found


def searched_sizes(table: RunTable) -> tuple[str | None, list[tuple[float, float, np.ndarray]]]:
    """The column of the learning rate, and each N with the largest D at which it was run with FEWEST_RATES or more.

    With each its runs, a mask (M,). D is NaN where the table has none.
    """
    column = next((name for name in RATE_COLUMNS if name in table.frame), None)
    if column is None or "N" not in table.sizes:
        return column, []
    rates = numbers(table, column)
    usable = np.isfinite(rates) & (rates > 0)
    found = []
    for size in distinct_sizes(table.num_params):
        model = usable & same_size(table.num_params, size)
        for data_size in distinct_sizes(table.data_size)[::-1] if "D" in table.sizes else (np.nan,):
            mask = model & same_size(table.data_size, data_size) if np.isfinite(data_size) else model
            if len(distinct_sizes(rates[mask])) >= FEWEST_RATES:
                found.append((float(size), float(data_size), mask))
                break
    return column, found


def _follows(values: FloatArray, sizes: FloatArray) -> bool:
    """Whether the values (M,) rise or fall with the sizes (M,), one value for sizes that are nearly one."""
    if not (np.isfinite(values) & np.isfinite(sizes) & (sizes > 0)).all():
        return False
    spans = [sizes[values == value] for value in np.unique(values)]
    if any(span.max() > ALIKE * span.min() for span in spans):
        return False
    in_order = sorted(spans, key=lambda span: float(span.min()))
    apart = all(below.max() < above.min() for below, above in pairwise(in_order))
    steps = np.diff([values[sizes == span.min()][0] for span in in_order])
    return apart and bool((steps > 0).all() or (steps < 0).all())


def _in_order(values: FloatArray, column: pd.Series) -> list[str]:
    """The different numbers as the table writes them, smallest first."""
    order = np.argsort(values, kind="stable")
    return list(dict.fromkeys(str(column.iloc[row]) for row in order))
