"""Run records -> one table: python -m experiments.collect studies/NAME [studies/OTHER ... --out DIR]"""

import argparse
import io
import sys
from pathlib import Path

import pandas as pd

from experiments.command import command
from scaling.errors import ConfigError
from scaling.runs import STATES, collect, digest_of, write_atomic


def write_table(table: pd.DataFrame, directory: Path) -> None:
    """Write runs.parquet and runs.csv, each whole or not at all."""
    parquet = io.BytesIO()
    table.to_parquet(parquet, index=False)
    write_atomic(directory / "runs.parquet", parquet.getvalue())
    write_atomic(directory / "runs.csv", table.to_csv(index=False))


def _collected(study_dir: Path) -> pd.DataFrame:
    """The table of a study, with what each run computes: the same in two studies, whatever its name there."""
    table = collect(study_dir)
    has_config = [(study_dir / name / "config.yaml").exists() for name in table["run_id"]]
    computed = [
        (digest_of(study_dir / name) if known else None) or str(study_dir / name)
        for name, known in zip(table["run_id"], has_config, strict=True)
    ]
    return table.assign(computed=computed)


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
    if len(study_dirs) == 1:
        table = collect(study_dirs[0])
    else:
        table = pd.concat([_collected(study_dir) for study_dir in study_dirs], ignore_index=True)
        again = table.pop("computed").duplicated()
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
