"""Somebody's table of runs, read: sizes, losses, what kinds of runs there are, what was left out and why."""

from analysis.tables.files import MAX_RUNS, read_frame
from analysis.tables.kinds import (
    MIXED_COLUMNS,
    MODEL,
    SETTING,
    kinds_of,
    listed,
    mixed_kinds,
    rows_with,
    searched_sizes,
    varied_settings,
)
from analysis.tables.load import load_runs
from analysis.tables.table import (
    AXES,
    FLOPS_PER_PARAMETER_AND_SAMPLE,
    LOSS_COLUMN,
    Axis,
    Excluded,
    RunTable,
    distinct_sizes,
    numbers,
    same_size,
)

__all__ = [
    "AXES",
    "FLOPS_PER_PARAMETER_AND_SAMPLE",
    "LOSS_COLUMN",
    "MAX_RUNS",
    "MIXED_COLUMNS",
    "MODEL",
    "SETTING",
    "Axis",
    "Excluded",
    "RunTable",
    "distinct_sizes",
    "kinds_of",
    "listed",
    "load_runs",
    "mixed_kinds",
    "numbers",
    "read_frame",
    "rows_with",
    "same_size",
    "searched_sizes",
    "varied_settings",
]
