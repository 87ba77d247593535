"""Run records -> one table: python -m experiments.collect studies/NAME"""

import argparse
import sys
from pathlib import Path

import pandas as pd

from experiments.command import command
from scaling.runs.store import STATES, collect


def write_table(table: pd.DataFrame, study_dir: Path) -> None:
    """Write runs.parquet and runs.csv, each whole or not at all."""
    for name, write in (("runs.parquet", table.to_parquet), ("runs.csv", table.to_csv)):
        temporary = study_dir / f".{name}"
        write(temporary, index=False)
        temporary.replace(study_dir / name)


@command
def main() -> int:
    """Collect a study; runs that are not done are rows without results."""
    parser = argparse.ArgumentParser(description=__doc__, prog="python -m experiments.collect")
    parser.add_argument("study_dir", type=Path, metavar="studies/NAME")
    study_dir = parser.parse_args().study_dir
    table = collect(study_dir)
    write_table(table, study_dir)
    found = table["status"].value_counts()
    counts = ", ".join(f"{found[state]} {state}" for state in STATES if state in found)
    print(f"{study_dir / 'runs.parquet'}: {len(table)} runs, {counts}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
