"""Read anybody's table of runs: what can be fitted is kept, all else is listed with its reason."""

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import NoReturn

import numpy as np
import pandas as pd

from analysis.forms.terms import FloatArray
from scaling.errors import ConfigError, DataError

SAME_SIZE = 1e-6
"""Relative difference below which two sizes are one size (a size that went through text is rounded)."""
READERS = {
    ".csv": lambda path: pd.read_csv(path, index_col=False, skipinitialspace=True),
    ".jsonl": lambda path: pd.read_json(path, lines=True),
    ".parquet": pd.read_parquet,
}


@dataclass(frozen=True)
class Axis:
    """An axis of a law: its column unless another is named, the option that names it, what it is."""

    column: str
    option: str
    meaning: str


AXES = {
    "N": Axis("num_params", "num_params", "parameters"),
    "D": Axis("train_structures", "data_size", "data"),
    "C": Axis("train_flops", "flops", "training FLOPs"),
    "width": Axis("width", "width", "width"),
    "depth": Axis("depth", "depth", "depth"),
    "epochs": Axis("epochs", "epochs", "epochs"),
}
LOSS_COLUMN = "test_loss"
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
MOST_VALUES = 6  # of a mixed column that are written out
MOST_HINTS = 3
OTHER_SEPARATORS = {";": "semicolons", "\t": "tabs", "|": "bars"}
MAX_RUNS = 20_000
"""A table of runs has a row a run. More rows are steps or checkpoints, which are no independent observations."""
FLOPS_PER_PARAMETER_AND_SAMPLE = 6.0
"""C = 6 N D. Source: Kaplan et al. 2020, arXiv:2001.08361, sec. 2.1."""


@dataclass(frozen=True)
class Excluded:
    """A row that is not fitted, and why."""

    run: str
    reason: str


@dataclass(frozen=True)
class RunTable:
    """The runs to be fitted, in table order, and those left out.

    Attributes:
        frame: the kept rows with all columns of the source.
        run: (M,) name of each kept row: its run_id, or `row 3` (counted from 1, header not counted).
        sizes: for each axis that was read (a key of AXES) its (M,) values.
        loss: (M,) positive, finite.
        columns: which column (or formula) each axis and `loss` were read from.
        excluded: what was left out.
        source: where the table came from.
    """

    frame: pd.DataFrame
    run: tuple[str, ...]
    sizes: dict[str, FloatArray]
    loss: FloatArray
    columns: dict[str, str]
    excluded: tuple[Excluded, ...]
    source: str

    def __len__(self) -> int:
        return len(self.run)

    def axis(self, name: str) -> FloatArray:
        """(M,) sizes along an axis, NaN throughout if the table was loaded without it."""
        return self.sizes.get(name, np.full(len(self), np.nan))

    @property
    def derives_data(self) -> bool:
        """Whether D was derived from the column of C, as C / (6 N)."""
        return {"N", "D", "C"} <= set(self.columns) and self.columns["D"] == _derived(self.columns)

    @property
    def num_params(self) -> FloatArray:
        """(M,) N."""
        return self.axis("N")

    @property
    def data_size(self) -> FloatArray:
        """(M,) D."""
        return self.axis("D")

    def keep(self, mask: np.ndarray) -> "RunTable":
        """The runs where `mask` (M,) is true; the others are not listed as excluded."""
        return RunTable(
            self.frame[mask].reset_index(drop=True),
            tuple(name for name, kept in zip(self.run, mask, strict=True) if kept),
            {name: sizes[mask] for name, sizes in self.sizes.items()},
            self.loss[mask],
            self.columns,
            self.excluded,
            self.source,
        )

    def drop_highest(self, count: int) -> "RunTable":
        """Leave out the `count` runs of highest loss, and list them.

        Raises:
            ConfigError: if count is negative, or no run would be left.
        """
        if not 0 <= count < max(len(self), 1):
            raise ConfigError(f"drop_highest={count} must be at least 0 and below the number of runs, {len(self)}")
        highest = np.argsort(-self.loss, kind="stable")[:count]
        mask = np.ones(len(self), dtype=bool)
        mask[highest] = False
        dropped = [Excluded(self.run[i], f"one of the {count} highest losses ({self.loss[i]:.4g})") for i in highest]
        kept = self.keep(mask)
        return RunTable(**{**vars(kept), "excluded": (*self.excluded, *dropped)})


def numbers(table: RunTable, column: str) -> FloatArray:
    """(M,) a column of the source, NaN where it holds no number or is not there."""
    if column not in table.frame:
        return np.full(len(table), np.nan)
    values: FloatArray = pd.to_numeric(table.frame[column], errors="coerce").to_numpy(dtype=float, na_value=np.nan)
    return values


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
    for key, column in named.items():
        if twice := [other for other in named if other != key and named[other] == column and {other, key} <= needed]:
            raise ConfigError(f"one column stands for two things: {key} = {column}, {twice[0]} = {column}")
        if key in needed and column not in frame.columns:
            _raise_missing(frame, name, key, named, axes)
    runs = (
        [str(value) for value in frame["run_id"]] if "run_id" in frame else [f"row {i + 1}" for i in range(len(frame))]
    )
    reasons = _unfinished(frame)
    numbers = {
        key: _numbers(frame, column, reasons, name, strict=key in needed)
        for key, column in named.items()
        if column in frame.columns
    }
    if derived:
        with np.errstate(divide="ignore", invalid="ignore"):
            numbers["D"] = numbers["C"] / (FLOPS_PER_PARAMETER_AND_SAMPLE * numbers["N"])
        named["D"] = _derived(named)
    for key in ("loss", *AXES):
        if key == "loss" or key in axes:
            _exclude_unusable(reasons, numbers[key], named[key])
    _exclude_duplicates(reasons, frame, runs)
    mask = meant & np.array([reason is None for reason in reasons])
    excluded = tuple(Excluded(runs[row], reason) for row in np.flatnonzero(meant) if (reason := reasons[row]))
    return RunTable(
        frame[mask].reset_index(drop=True),
        tuple(run for run, kept in zip(runs, mask, strict=True) if kept),
        {key: numbers[key][mask] for key in AXES if key in numbers},
        numbers["loss"][mask],
        {key: named[key] for key in (*AXES, "loss") if key in numbers},
        excluded,
        name,
    )


def rows_with(frame: pd.DataFrame, only: Mapping[str, str], name: str) -> np.ndarray:
    """(rows,) mask of the rows that hold these values, as text, in these columns; see `load_runs` for errors."""
    mask = np.ones(len(frame), dtype=bool)
    for column, value in only.items():
        kinds = kinds_of(frame, column, name)
        if value not in kinds:
            raise ConfigError(f"{name}: column {column!r} holds no {value!r}; choose one of {_listed(kinds)}")
        mask &= (frame[column].notna() & (frame[column].astype(str) == value)).to_numpy()
    return mask


def kinds_of(frame: pd.DataFrame, column: str, name: str) -> list[str]:
    """The different values of a column as text, in order; ConfigError if there is no such column."""
    if column not in frame:
        raise ConfigError(f"{name} has no column {column!r}. Present: {', '.join(map(str, frame.columns))}")
    return sorted(set(map(str, frame[column].dropna())))


def _listed(kinds: list[str]) -> str:
    more = [f"{len(kinds) - MOST_VALUES} more"] if len(kinds) > MOST_VALUES else []
    return ", ".join([*kinds[:MOST_VALUES], *more])


def _derived(columns: Mapping[str, str]) -> str:
    return f"{columns['C']} / (6 {columns['N']})"


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


def mixtures(table: RunTable) -> list[str]:
    """A sentence for each way in which runs of different kinds share the table.

    A column that differs from run to run names runs, not kinds.
    """
    found = []
    for name, what in MIXED_COLUMNS.items():
        for column in [one for one in table.frame if str(one).lower() == name and one not in table.columns.values()]:
            kinds = kinds_of(table.frame, column, table.source)
            if 1 < len(kinds) < len(table):
                found.append(
                    f"One law was fitted across different {what} ({_listed(kinds)}); fit them apart to compare them "
                    f"(--by {column} of fit and report, --only {column}={kinds[0]} of any command)."
                )
    return found


def distinct_sizes(sizes: FloatArray) -> FloatArray:
    """The different sizes in ascending order; those closer than SAME_SIZE are one."""
    ordered = np.unique(sizes[np.isfinite(sizes)])
    new = np.ones(len(ordered), dtype=bool)
    new[1:] = np.diff(ordered) > SAME_SIZE * ordered[1:]
    different: FloatArray = ordered[new]
    return different


def same_size(sizes: FloatArray, size: float) -> np.ndarray:
    """(M,) mask of the runs whose size is `size`."""
    mask: np.ndarray = np.abs(sizes - size) <= 2 * SAME_SIZE * size
    return mask


def read_frame(source: str | Path | pd.DataFrame) -> tuple[pd.DataFrame, str]:
    """The rows of a file, a study's directory or a DataFrame, and its name for messages; see `load_runs` for errors."""
    if isinstance(source, pd.DataFrame):
        frame, name = source.reset_index(drop=True), "the table"
    else:
        path = Path(source)
        name = str(path)
        if path.is_dir():
            path = path / "runs.parquet"
            if not path.exists():
                raise DataError(f"{path} is missing; write it with `python -m experiments.collect {source}`")
        if not path.exists():
            raise DataError(f"{path} does not exist")
        if path.suffix not in READERS:
            raise ConfigError(
                f"{path}: {path.suffix or 'no ending'} must be one of {', '.join(READERS)}, or a study's directory"
            )
        try:
            if path.suffix == ".csv":
                _check_first_line(path)
            with warnings.catch_warnings():
                warnings.simplefilter("error", pd.errors.ParserWarning)  # a row with more fields than the header
                frame = READERS[path.suffix](path)
            frame.columns = [str(column).strip() for column in frame.columns]
        except pd.errors.ParserWarning as error:
            raise DataError(f"{path}: rows have more fields than its first line has names") from error
        except (ValueError, OSError, UnicodeDecodeError) as error:
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise DataError(f"{path} cannot be read as {path.suffix[1:]}: {reason}") from error
    if not len(frame):
        raise DataError(f"{name} holds no rows")
    if len(frame) > MAX_RUNS:
        raise DataError(
            f"{name} holds {len(frame):,} rows, more than {MAX_RUNS:,}: a table of runs has one row a run; keep each "
            "run's last checkpoint"
        )
    return frame, name


def _check_first_line(path: Path) -> None:
    """Raise DataError where the first line is not one of names with commas between them."""
    with path.open(encoding="utf-8-sig", errors="replace") as file:
        line = file.readline().strip()
    if found := [name for mark, name in OTHER_SEPARATORS.items() if mark in line and "," not in line]:
        raise DataError(f"{path}: its first line has {found[0]} between the fields; a CSV file has commas")
    fields = [field.strip().strip('"') for field in line.split(",")]
    numbers = [field for field in fields if _is_number(field)]
    if 2 * len(numbers) > len(fields):
        raise DataError(
            f"{path}: its first line holds numbers ({', '.join(numbers[:3])}); put a line with the columns' names above"
        )


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


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
