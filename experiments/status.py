"""What is done, running, waiting, failed, and why: python -m experiments.status studies/NAME [--json]"""

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path

from experiments.command import command
from scaling.runs.store import STATES, run_dirs


@command
def main() -> int:
    """Print the standing of every run; exit code 1 if one failed."""
    parser = argparse.ArgumentParser(description=__doc__, prog="python -m experiments.status")
    parser.add_argument("study_dir", type=Path, metavar="studies/NAME")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of a table")
    arguments = parser.parse_args()
    statuses = {run.run_id: run.status() for run in run_dirs(arguments.study_dir)}
    counts = {state: sum(s.state == state for s in statuses.values()) for state in STATES}
    if arguments.json:
        print(json.dumps({"counts": counts, "runs": {k: asdict(s) for k, s in statuses.items()}}, indent=1))
    else:
        width = max(map(len, statuses))
        for run_id, s in statuses.items():
            where = f"{s.step}/{s.num_steps}" if s.num_steps else "-"
            why = s.failure.strip().splitlines()[-1] if s.failure else ""
            print(f"{run_id:{width}}  {s.state:8} {where:>13}  {why}")
        print(", ".join(f"{n} {state}" for state, n in counts.items()))
    return 1 if counts["failed"] else 0


if __name__ == "__main__":
    sys.exit(main())
