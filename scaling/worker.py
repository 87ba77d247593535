"""What every rank runs: reads one resolved config, knows neither Hydra nor SLURM.

python -m scaling.worker RUN_DIR                                    (one rank)
torchrun --nproc-per-node 2 -m scaling.worker RUN_DIR               (more)
"""

import json
import os
import sys
import traceback
from pathlib import Path

from scaling.errors import ScalingError
from scaling.runs.files import write_json
from scaling.runs.store import RunDir


def failure_path(run: RunDir, rank: int) -> Path:
    """Where a rank leaves the reason of its failure."""
    return run.path / f"failure-rank{rank}.json"


def first_failure(run: RunDir) -> str:
    """The reason of the rank that failed first, or "" if none left one."""
    reasons = sorted(run.path.glob("failure-rank*.json"), key=lambda path: path.stat().st_mtime_ns)
    if not reasons:
        return ""
    said = json.loads(reasons[0].read_text())
    return str(said["message"])


def work(run: RunDir) -> None:
    """Compute this rank's part of a run.

    Raises:
        ScalingError: for what a user can mend. Any failure is also written to `failure_path`.
    """
    rank = int(os.environ.get("RANK", 0))
    try:
        from scaling.training.engine import World
        from scaling.training.loop import train

        train(run.config(), run, World.join())
    except Exception as error:
        message = str(error) if isinstance(error, ScalingError) else traceback.format_exc()
        write_json(failure_path(run, rank), {"type": type(error).__name__, "message": message})
        raise


def main() -> None:
    """Command line of one rank."""
    try:
        work(RunDir(Path(sys.argv[1])))
    except ScalingError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
