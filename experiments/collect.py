"""Run records -> one table: python -m experiments.collect studies/NAME [studies/OTHER ... --out DIR]"""

import argparse
import io
import sys
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from experiments.command import command
from scaling.errors import ConfigError, RunError
from scaling.runs import NAMED, STATES, collect, digest_of, write_atomic


def write_table(table: pd.DataFrame, directory: Path) -> None:
    """Write runs.parquet and runs.csv, each whole or not at all."""
    parquet = io.BytesIO()
    table.to_parquet(parquet, index=False)
    write_atomic(directory / "runs.parquet", parquet.getvalue())
    write_atomic(directory / "runs.csv", table.to_csv(index=False))


def _computed(run_dir: Path) -> str:
    """What a run computes: the same wherever it lies and whatever its name; its own where that cannot be read."""
    try:
        return digest_of(run_dir) or str(run_dir)
    except (ConfigError, RunError):
        return str(run_dir)


def _joined(study_dirs: Sequence[Path]) -> pd.DataFrame:
    """The tables of all studies; of runs that compute the same one that is done, else the first."""
    tables = [collect(study_dir) for study_dir in study_dirs]
    table = pd.concat(tables, ignore_index=True)
    run_dirs = [study_dir / name for study_dir, of in zip(study_dirs, tables, strict=True) for name in of["run_id"]]
    computed = pd.Series(map(_computed, run_dirs), index=table.index, dtype=object)
    given_name = [bool(NAMED.search(name)) for name in table["run_id"]]
    order = pd.DataFrame({"done": table["status"].eq("done"), "named": given_name}, index=table.index)
    first = order.sort_values(["done", "named"], ascending=False, kind="stable").index
    again = computed[first].duplicated().sort_index()
    if again.any():
        print(f"there more than once, left out: {', '.join(str(run_dirs[k]) for k in table.index[again])}")
    return table[~again]


@command
def main() -> int:
    """Collect studies; runs that are not done are rows without results, and one that is in two studies is one row."""
    parser = argparse.ArgumentParser(description=__doc__, prog="python -m experiments.collect")
    parser.add_argument("study_dirs", type=Path, metavar="studies/NAME", nargs="+")
    parser.add_argument("--out", type=Path, metavar="DIR", help="where the table of several studies is written")
    arguments = parser.parse_args()
    study_dirs: list[Path] = arguments.study_dirs
    if arguments.out is None and len(study_dirs) > 1:
        raise ConfigError("--out must name a directory for the table of several studies, e.g. --out studies/all")
    out = arguments.out or study_dirs[0]
    if out.exists() and not out.is_dir():
        raise ConfigError(f"--out={out} is a file; name a directory")
    table = _joined(study_dirs)
    out.mkdir(parents=True, exist_ok=True)
    write_table(table, out)
    found = table["status"].value_counts()
    counts = ", ".join(f"{found[state]} {state}" for state in STATES if state in found)
    print(f"{out / 'runs.parquet'}: {len(table)} runs, {counts}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
