"""The rows of a file, and the mistakes by which a file would be misread."""

import warnings
from pathlib import Path

import pandas as pd

from scaling.errors import ConfigError, DataError

READERS = {
    ".csv": lambda path: pd.read_csv(path, index_col=False, skipinitialspace=True),
    ".jsonl": lambda path: pd.read_json(path, lines=True),
    ".parquet": pd.read_parquet,
}
OTHER_SEPARATORS = {";": "semicolons", "\t": "tabs", "|": "bars"}
MAX_RUNS = 20_000
"""A table of runs has a row a run. More rows are steps or checkpoints, which are no independent observations."""


def read_frame(source: str | Path | pd.DataFrame) -> tuple[pd.DataFrame, str]:
    """The rows of a file, a study's directory or a DataFrame, and its name for messages; see `load_runs` for errors."""
    if isinstance(source, pd.DataFrame):
        frame, name = source.reset_index(drop=True), "the table"
    else:
        frame, name = _read_file(_table_of(Path(source))), str(Path(source))
    if not len(frame):
        raise DataError(f"{name} holds no rows")
    if len(frame) > MAX_RUNS:
        raise DataError(
            f"{name} holds {len(frame):,} rows, more than {MAX_RUNS:,}: a table of runs has one row a run; keep each "
            "run's last checkpoint"
        )
    return frame, name


def _table_of(path: Path) -> Path:
    """The file itself, or the runs.parquet of a study's directory."""
    if path.is_dir():
        if not (path / "runs.parquet").exists():
            raise DataError(f"{path / 'runs.parquet'} is missing; write it with `python -m experiments.collect {path}`")
        return path / "runs.parquet"
    if not path.exists():
        raise DataError(f"{path} does not exist")
    return path


def _read_file(path: Path) -> pd.DataFrame:
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
    except pd.errors.ParserWarning as error:
        raise DataError(f"{path}: rows have more fields than its first line has names") from error
    except (ValueError, OSError, UnicodeDecodeError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DataError(f"{path} cannot be read as {path.suffix[1:]}: {reason}") from error
    frame.columns = [str(column).strip() for column in frame.columns]
    return frame


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
