"""Options that commands share: which table, which columns, which fit."""

import argparse
from collections.abc import Mapping
from pathlib import Path

from analysis.fitting import DEFAULT_REPLICATES, FitChoice, Law
from analysis.forms import FORMS, find_form
from analysis.study import Groups, Results, group_runs
from analysis.tables import AXES, LOSS_COLUMN, MODEL, RunTable, load_runs, read_frame, rows_with
from scaling.errors import ConfigError

POOLED = "none"


def add_table(parser: argparse.ArgumentParser) -> None:
    """The table, its columns, and rows to leave out; see `read_table`."""
    parser.add_argument("table", help="CSV, JSONL or Parquet file, or a study's directory")
    for key, axis in AXES.items():
        derived = "; without --data-size D = C / (6 N)" if key == "C" else ""
        what = f"column of {key} (default {axis.column}){derived}"
        parser.add_argument(f"--{axis.option.replace('_', '-')}", metavar="COL", help=what)
    parser.add_argument("--loss", metavar="COL", help=f"column of the loss (default {LOSS_COLUMN})")
    parser.add_argument("--drop-highest", type=int, default=0, metavar="K", help="leave out the K highest losses")
    what = "the rows that hold this value alone, e.g. model=egnn; may be given several times"
    parser.add_argument("--only", action="append", default=[], type=_condition, metavar="COL=VALUE", help=what)


def add_fit(parser: argparse.ArgumentParser) -> None:
    """The form, the objective and the bootstrap; see `read_law`."""
    parser.add_argument("--form", default="chinchilla", help=f"one of {', '.join(FORMS)} (default chinchilla)")
    add_objective(parser)


def add_objective(parser: argparse.ArgumentParser) -> None:
    """All of `add_fit` but the form."""
    parser.add_argument("--axis", choices=tuple(AXES), help="axis of a one-axis form (default N)")
    parser.add_argument("--objective", default="huber", help="huber, lad or least_squares (default huber)")
    parser.add_argument(
        "--delta",
        type=float,
        help="Huber's delta in log loss (default 1e-3 from 100 runs on, below that 1.345 x the scatter)",
    )
    parser.add_argument(
        "--bootstrap", type=int, default=DEFAULT_REPLICATES, metavar="B", help="refits (0: none, or at least 100)"
    )
    parser.add_argument("--seed", type=_seed, default=0, help="of the bootstrap, at least 0")


def add_by(parser: argparse.ArgumentParser) -> None:
    """The column whose values get a law each; see `read_groups`."""
    what = f"column whose values get a law each (default {MODEL} if that holds several; {POOLED}: one law for all)"
    parser.add_argument("--by", metavar="COL", help=what)


def add_beside(parser: argparse.ArgumentParser) -> None:
    """Further tables to compare with; see `read_results`."""
    what = "a further table of the same columns, whose law is drawn beside this one's; may be given several times"
    parser.add_argument("--beside", action="append", default=[], metavar="TABLE", help=what)


def read_table(options: argparse.Namespace, axes: tuple[str, ...], only: Mapping[str, str] | None = None) -> RunTable:
    """The table of `add_table`'s options, of which these axes are needed, and these rows alone if `only` is given."""
    columns = {axis.option: getattr(options, axis.option) for axis in AXES.values()}
    only = {**dict(options.only), **(only or {})}
    table = load_runs(options.table, loss=options.loss, axes=axes, only=only, **columns)
    return table.drop_highest(options.drop_highest)


def read_law(options: argparse.Namespace) -> Law:
    """The fit that the options of `add_table` and `add_fit` ask for."""
    return read_results(options).law


def read_results(options: argparse.Namespace) -> Results:
    """The table and the fit of `add_table`, `add_fit` and `add_beside`, and what follows from them on demand."""
    axes = find_form(options.form, options.axis).axes
    beside = {
        Path(other).resolve().stem: read_table(argparse.Namespace(**{**vars(options), "table": other}), axes)
        for other in getattr(options, "beside", ())
    }
    return Results(
        read_table(options, axes), fit_choice(options), beside=beside, name=Path(options.table).resolve().stem
    )


def read_groups(options: argparse.Namespace) -> Groups | None:
    """The table and the fit of `add_table`, `add_fit` and `add_by` for each kind of runs; None for one law of all."""
    if options.by == POOLED or (options.by is None and getattr(options, "beside", ())):
        return None
    if getattr(options, "beside", ()):
        raise ConfigError(f"--by={options.by} and --beside both lay laws side by side; give one of them")
    axes = find_form(options.form, options.axis).axes
    frame, source = read_frame(options.table)
    meant = frame[rows_with(frame, dict(options.only), source)]
    return group_runs(meant, options.by, lambda only: read_table(options, axes, only), fit_choice(options), source)


def check_folder(option: str, folder: Path) -> None:
    """Raise ConfigError, before anything is computed, for a folder inside one that does not exist: a typing mistake."""
    if not folder.absolute().parent.is_dir():
        raise ConfigError(f"{option}: {folder} cannot be made, since {folder.parent} does not exist; make that first")


def fit_choice(options: argparse.Namespace) -> FitChoice:
    """The fit that the options of `add_fit` ask for."""
    return FitChoice(options.form, options.axis, options.objective, options.delta, options.bootstrap, options.seed)


def _condition(text: str) -> tuple[str, str]:
    column, sign, value = text.partition("=")
    if not (column and sign and value):
        raise argparse.ArgumentTypeError(f"{text} must be a column and a value, e.g. model=egnn")
    return column, value


def _seed(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text} must be a whole number, at least 0")
    return int(text)
