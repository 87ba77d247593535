"""What makes the runs of several tables unlike, so that a difference of their laws may be one of that."""

import re
from collections.abc import Mapping

import pandas as pd

from analysis.tables import MIXED_COLUMNS, SETTING, RunTable, numbers

YARDSTICKS = re.compile(
    r"test_structures|data_digest|dataset|source|domain|task|loss_\w*scale\w*|train\.\w+_weight", re.IGNORECASE
)
"""Columns that say by what a loss is measured: where they differ, losses are different quantities."""
WEIGHTS = re.compile(r"train\.\w+_weight")
"""Of these, those of which the loss itself is made, also where they are what parts the table."""
OWN = ("model.", "optim.")
"""Configuration keys of which every architecture has its own."""
TRAINING = ("steps", "samples_seen")
DIGITS = 6  # of numbers that count as equal
SHOWN_LETTERS = 12  # of a value that is a digest


def unlike_losses(by: str, tables: Mapping[str, RunTable]) -> tuple[str, ...]:
    """A caution if losses of different tables are not one quantity; `by` is the column whose values name them."""
    first = next(iter(tables.values())).frame
    columns = [name for name in map(str, first) if YARDSTICKS.fullmatch(name) and (name != by or WEIGHTS.fullmatch(by))]
    differing = [f"{column} ({text})" for column in columns if (text := _differing(column, tables))]
    if not differing:
        return ()
    return (
        f"Losses are NOT comparable between values of {by}, as these differ: {'; '.join(differing)}. A law "
        "belongs to its test set and its loss: losses are not compared below, and a difference of exponents may be "
        "one of test set or loss.",
    )


def unlike_runs(by: str, tables: Mapping[str, RunTable]) -> tuple[str, ...]:
    """A caution for each further way in which the runs of different tables are unlike."""
    found = []
    for column in map(str, next(iter(tables.values())).frame):
        what = MIXED_COLUMNS.get(column.lower(), "")
        if SETTING.fullmatch(column) and not column.startswith(OWN):
            what = column
        beside = column.lower() not in ("study", "experiment") and not YARDSTICKS.fullmatch(column)
        if what and beside and column != by and (text := _differing(column, tables)):
            found.append(f"They differ in more than {by}: {what} ({text}).")
    for column in TRAINING:
        if text := _trained_differently(column, tables):
            found.append(
                f"Runs on the same data were not trained equally long: {column} differ ({text}). A difference may "
                "be one of training length."
            )
            break
    return tuple(found)


def _differing(column: str, tables: Mapping[str, RunTable]) -> str | None:
    """The values of a column in each table, None where all hold the same."""
    held = {name: _values(table.frame, column) for name, table in tables.items() if len(table)}
    if len(set(map(tuple, held.values()))) < 2:
        return None
    return "; ".join(f"{name} {', '.join(v[:SHOWN_LETTERS] for v in found) or '–'}" for name, found in held.items())


def _trained_differently(column: str, tables: Mapping[str, RunTable]) -> str | None:
    """What a column holds in each table, None where runs on the same data hold the same."""
    held: dict[str, dict[str, set[float]]] = {}
    for name, table in tables.items():
        if len(table) and column in table.frame:
            held[name] = {}
            for data, value in zip(table.data_size, numbers(table, column), strict=True):
                held[name].setdefault(f"{data:.{DIGITS}g}", set()).add(float(value))
    shared = set.intersection(*map(set, held.values())) if held else set()
    spans = {name: set().union(*(found[data] for data in shared)) for name, found in held.items()}
    if all(len({frozenset(found[data]) for found in held.values()}) == 1 for data in shared):
        return None
    return "; ".join(
        f"{name} {min(v):,.0f}" + (f" to {max(v):,.0f}" if len(v) > 1 else "") for name, v in spans.items()
    )


def _values(frame: pd.DataFrame, column: str) -> list[str]:
    held = frame[column].dropna() if column in frame else []
    return sorted({f"{value:.{DIGITS}g}" if isinstance(value, float) else str(value) for value in held})
