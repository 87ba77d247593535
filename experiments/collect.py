"""Run records -> one table: python -m experiments.collect studies/NAME [studies/OTHER ... --out DIR]"""

import argparse
import sys
from pathlib import Path

import pandas as pd

from experiments.command import command
from scaling.errors import ConfigError
from scaling.runs import STATES, collect


def write_table(table: pd.DataFrame, directory: Path) -> None:
    """Write runs.parquet and runs.csv, each whole or not at all."""
    for name, write in (("runs.parquet", table.to_parquet), ("runs.csv", table.to_csv)):
        temporary = directory / f".{name}"
        write(temporary, index=False)
        temporary.replace(directory / name)


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
    table = pd.concat([collect(study_dir) for study_dir in study_dirs], ignore_index=True)
    again = table["run_id"].duplicated()
    if again.any():
        print(f"in more than one study, taken once: {', '.join(table.loc[again, 'run_id'])}")
        table = table[~again]
    out.mkdir(parents=True, exist_ok=True)
    write_table(table, out)
    found = table["status"].value_counts()
    counts = ", ".join(f"{found[state]} {state}" for state in STATES if state in found)
    print(f"{out / 'runs.parquet'}: {len(table)} runs, {counts}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
