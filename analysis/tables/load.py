"""From somebody's table to the runs that can be fitted: those are kept, all others listed with the reason."""

from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import NoReturn

import numpy as np
import pandas as pd

from analysis.arrays import FloatArray
from analysis.tables.files import read_frame
from analysis.tables.kinds import rows_with
from analysis.tables.table import AXES, FLOPS_PER_PARAMETER_AND_SAMPLE, LOSS_COLUMN, Excluded, RunTable, derived_data
from scaling.errors import ConfigError, DataError

MOST_HINTS = 3


@dataclass(frozen=True)
class Columns:
    """Which column stands for what.

    Attributes:
        named: the column of the loss and of each axis that is needed, named or there.
        needed: those without which there is nothing to fit.
        derives_data: D = C / (6 N).
    """

    named: dict[str, str]
    needed: frozenset[str]
    derives_data: bool


def load_runs(
    source: str | Path | pd.DataFrame,
    *,
    loss: str | None = None,
    axes: tuple[str, ...] = ("N", "D"),
    only: Mapping[str, str] | None = None,
    **columns: str | None,
) -> RunTable:
    """Read a CSV, JSONL or Parquet table, a study's directory (its runs.parquet) or a DataFrame.

    Every row that cannot be fitted is listed in `excluded`, even if that is all of them.

    Args:
        loss: column of the loss; test_loss if None.
        axes: which axes are needed (keys of AXES); a row is not excluded for lacking another.
        only: column and value of the rows that are meant, e.g. {"model": "egnn"}; others are not listed as excluded.
        columns: num_params, data_size, flops, width, depth, epochs: the column of each axis, its own by default.
            Where flops is given without data_size, D = C / (6 N). Any unit; a law's coefficients are in that unit.
    Raises:
        ConfigError: if a column is not in the table, stands for two things, or does not hold the value of `only`.
        DataError: if the file cannot be read, is empty, holds more than MAX_RUNS rows, or text in a number column.
    """
    frame, name = read_frame(source)
    meant = rows_with(frame, only or {}, name)
    chosen = _choose(frame, loss, axes, columns)
    _check(frame, name, chosen, axes)
    reasons = _unfinished(frame)
    numbers, named = _read(frame, name, chosen, reasons)
    for key in ("loss", *AXES):
        if key == "loss" or key in axes:
            _exclude_unusable(reasons, numbers[key], named[key])
    runs = _names(frame)
    _exclude_duplicates(reasons, frame, runs)
    mask = meant & np.array([reason is None for reason in reasons])
    return RunTable(
        frame[mask].reset_index(drop=True),
        tuple(run for run, kept in zip(runs, mask, strict=True) if kept),
        {key: numbers[key][mask] for key in AXES if key in numbers},
        numbers["loss"][mask],
        {key: named[key] for key in (*AXES, "loss") if key in numbers},
        tuple(Excluded(runs[row], reason) for row in np.flatnonzero(meant) if (reason := reasons[row])),
        name,
    )


def _choose(frame: pd.DataFrame, loss: str | None, axes: tuple[str, ...], columns: Mapping[str, str | None]) -> Columns:
    """The columns that the options of `load_runs` ask for."""
    options = {axis.option: key for key, axis in AXES.items()}
    if unknown := set(columns) - set(options):
        raise ConfigError(f"{', '.join(sorted(unknown))} names no axis; choose from {', '.join(options)}")
    given = {options[option]: column for option, column in columns.items() if column is not None}
    derived = "D" in axes and "C" in given and "D" not in given
    named = {"loss": loss or LOSS_COLUMN} | {
        key: given.get(key, axis.column)
        for key, axis in AXES.items()
        if (key in axes or key in given or axis.column in frame) and not (derived and key == "D")
    }
    needed = {"loss", *axes, *given, *(("N",) if derived else ())} - ({"D"} if derived else set())
    return Columns(named, frozenset(needed), derived)


def _check(frame: pd.DataFrame, name: str, chosen: Columns, axes: tuple[str, ...]) -> None:
    """Raise ConfigError for a column that stands for two things, or that is needed and missing."""
    named, needed = chosen.named, chosen.needed
    for key, column in named.items():
        if twice := [other for other in named if other != key and named[other] == column and {other, key} <= needed]:
            raise ConfigError(f"one column stands for two things: {key} = {column}, {twice[0]} = {column}")
        if key in needed and column not in frame.columns:
            _raise_missing(frame, name, key, named, axes)


def _read(
    frame: pd.DataFrame, name: str, chosen: Columns, reasons: list[str | None]
) -> tuple[dict[str, FloatArray], dict[str, str]]:
    """The numbers (rows,) of the loss and of each axis that the table has, and the column or formula of each."""
    named = dict(chosen.named)
    numbers = {
        key: _numbers(frame, column, reasons, name, strict=key in chosen.needed)
        for key, column in named.items()
        if column in frame.columns
    }
    if chosen.derives_data:
        with np.errstate(divide="ignore", invalid="ignore"):
            numbers["D"] = numbers["C"] / (FLOPS_PER_PARAMETER_AND_SAMPLE * numbers["N"])
        named["D"] = derived_data(named)
    return numbers, named


def _names(frame: pd.DataFrame) -> list[str]:
    """What each row is called: its run_id, or its place."""
    if "run_id" in frame:
        return [str(value) for value in frame["run_id"]]
    return [f"row {i + 1}" for i in range(len(frame))]


def _raise_missing(
    frame: pd.DataFrame, name: str, key: str, named: Mapping[str, str], axes: tuple[str, ...]
) -> NoReturn:
    if "status" in frame and not (frame["status"] == "done").any():
        counts = ", ".join(f"{count} {status}" for status, count in frame["status"].value_counts().items())
        raise DataError(f"{name}: none of its {len(frame)} runs is done ({counts})")
    flag, column = "--" + (AXES[key].option if key in AXES else key).replace("_", "-"), named[key]
    present = ", ".join(map(str, frame.columns))
    hints = [f"{flag} {near!r}" for near in _near(frame, key, column)]
    hint = f" (perhaps {' or '.join(hints)})" if hints else ""
    others = [axis for axis in axes if axis != key and named.get(axis) in frame] if set(axes) == {"N", "D"} else []
    alone = f", or fit along {others[0]} alone: --form power_floor --axis {others[0]}" if others and key in axes else ""
    raise ConfigError(f"{name} has no column {column!r}; name it with {flag}{hint}{alone}. Present: {present}")


def _near(frame: pd.DataFrame, key: str, column: str) -> list[str]:
    """Columns that may have been meant: of nearly that name, or named after a loss where that is sought."""
    by_name = {str(one).lower(): str(one) for one in frame.columns}
    near = [by_name[name] for name in get_close_matches(column.lower(), by_name)]
    losses = [one for name, one in by_name.items() if key in name] if key == "loss" else []
    return list(dict.fromkeys([*near, *losses]))[:MOST_HINTS]


def _unfinished(frame: pd.DataFrame) -> list[str | None]:
    """A reason for each row that is not done; a table without a status column holds done runs only."""
    if "status" not in frame:
        return [None] * len(frame)
    failures = frame["failure"] if "failure" in frame else pd.Series([None] * len(frame))
    reasons: list[str | None] = []
    for status, failure in zip(frame["status"], failures, strict=True):
        if status == "done":
            reasons.append(None)
        elif status == "failed" and isinstance(failure, str) and failure.strip():
            reasons.append(f"failed: {' '.join(failure.split())}")
        else:
            reasons.append(f"not done: status is {status}")
    return reasons


def _numbers(frame: pd.DataFrame, column: str, reasons: list[str | None], name: str, *, strict: bool) -> FloatArray:
    """The column as floats; where `strict`, text in a row that is to be fitted is an error, not a gap."""
    series = frame[column]
    numbers: FloatArray = pd.to_numeric(series, errors="coerce").to_numpy(dtype=float, na_value=np.nan)
    for row in np.flatnonzero(np.isnan(numbers) & series.notna().to_numpy()) if strict else ():
        value = series.iloc[row]
        if reasons[row] is None and isinstance(value, str) and value.strip().lower() not in ("", "nan"):
            raise DataError(f"{name}: column {column!r} must hold numbers; row {row + 1} holds {value!r}")
    return numbers


def _exclude_unusable(reasons: list[str | None], numbers: FloatArray, column: str) -> None:
    for row, number in enumerate(numbers):
        if reasons[row] is None and not (np.isfinite(number) and number > 0):
            what = "is missing or not a number" if np.isnan(number) else f"= {number:g} is not finite and positive"
            reasons[row] = f"{column} {what}"


def _exclude_duplicates(reasons: list[str | None], frame: pd.DataFrame, runs: list[str]) -> None:
    """A second row of the same run_id, or, in a table without run_id, a row equal in every column."""
    keys = runs if "run_id" in frame else [row.tobytes() for row in _row_hashes(frame)]
    seen: dict[object, int] = {}
    for row, key in enumerate(keys):
        if reasons[row] is None and key in seen:
            reasons[row] = f"duplicate of row {seen[key] + 1}"
        elif reasons[row] is None:
            seen[key] = row


def _row_hashes(frame: pd.DataFrame) -> np.ndarray:
    hashes: np.ndarray = pd.util.hash_pandas_object(frame.astype(str), index=False).to_numpy()
    return hashes
