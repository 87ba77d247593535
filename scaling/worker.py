"""What every rank runs: reads one resolved config, knows neither Hydra nor SLURM.

python -m scaling.worker RUN_DIR                                    (one rank)
torchrun --nproc-per-node 2 -m scaling.worker RUN_DIR               (more)
"""

import ctypes
import json
import os
import signal
import sys
from contextlib import suppress
from pathlib import Path

from scaling.errors import ScalingError
from scaling.runs.files import write_json
from scaling.runs.store import RunDir

#: Of a failure's text; what is longer stands in the log.
LONGEST = 2000

_libc = ctypes.CDLL(None) if sys.platform == "linux" else None


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


def reason(error: Exception, run: RunDir) -> str:
    """Why a run failed, in one line; of what nobody foresaw the log holds the traceback."""
    if isinstance(error, ScalingError):
        text, where = str(error), ""
    elif isinstance(error, OSError) and error.strerror:
        text, where = f"{error.filename or run.path}: {error.strerror}", ""
    else:
        text, where = f"{type(error).__name__}: {error}", f"; see {run.path / 'log.txt'}"
    return " ".join(text.split())[:LONGEST] + where


def work(run: RunDir) -> None:
    """Compute this rank's part of a run.

    Raises:
        ScalingError: for what a user can mend.
    """
    from scaling.training.engine import World
    from scaling.training.loop import train

    world = World.join()
    train(run.config(), run, world)
    world.leave()


def die_with_parent(sign: signal.Signals) -> None:
    """Ask the kernel (Linux) to end this process when its parent dies, however it dies."""
    pr_set_pdeathsig = 1
    if _libc is not None:
        _libc.prctl(pr_set_pdeathsig, sign)


def let_children_die_with_me() -> None:
    """Loader processes, which are forked, shall not outlive a rank that is killed."""
    os.register_at_fork(after_in_child=lambda: die_with_parent(signal.SIGKILL))


def end_at_once() -> None:
    """End a rank that has done its work without the interpreter's farewell: communication threads may abort in it."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


def main() -> None:
    """Command line of one rank; the reason of a failure is also written to `failure_path`."""
    if "TORCHELASTIC_RUN_ID" in os.environ:
        die_with_parent(signal.SIGKILL)
    let_children_die_with_me()
    run = RunDir(Path(sys.argv[1]))
    try:
        work(run)
        end_at_once()
    except Exception as error:
        said = {"type": type(error).__name__, "message": reason(error, run)}
        with suppress(OSError):  # a full disk: the exit code tells of the failure too
            write_json(failure_path(run, int(os.environ.get("RANK", 0))), said)
        if isinstance(error, ScalingError):
            sys.exit(f"error: {error}")
        raise


if __name__ == "__main__":
    main()
