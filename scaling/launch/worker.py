"""What every rank runs: reads one resolved config, knows neither Hydra nor SLURM.

python -m scaling.launch.worker RUN_DIR                                    (one rank)
torchrun --nproc-per-node 2 -m scaling.launch.worker RUN_DIR               (more)
"""

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

from scaling.errors import Interrupted, RunError, ScalingError
from scaling.launch.environment import leave_world
from scaling.launch.processes import die_with_parent, end_at_once, let_children_die_with_me
from scaling.runs import TOKEN_VARIABLE, Claim, Failure, RunDir, holder, leave, stopping

#: A copy of the data on this node, read in place of data.path.
DATA_VARIABLE = "GNN_SCALING_DATA"

POLL_S = 2.0


def work(run: RunDir) -> None:
    """Compute this rank's part of a run; nothing if it is done.

    Raises:
        ScalingError: for what a user can mend.
        Interrupted: if it was asked to stop.
    """
    from scaling.training import World, train

    if run.status().state == "done":
        return
    config = run.config()
    if DATA_VARIABLE in os.environ:
        config = replace(config, data=replace(config.data, path=os.path.expandvars(os.environ[DATA_VARIABLE])))
    gpus_per_rank = config.launcher.slurm.gpus_per_rank if config.launcher.kind == "slurm" else 0
    world = World.join(config.parallel.graph, gpus_per_rank=gpus_per_rank)
    train(config, run, world)
    world.leave()


def _end_with_others(run: RunDir, is_failing: threading.Event) -> None:
    """End this rank soon after another one has failed: it may wait for that one in a kernel, deaf to signals."""
    while not is_failing.wait(POLL_S):
        if any(run.path.glob("failure-rank*.json")) and not is_failing.wait(POLL_S):
            os._exit(1)


@contextmanager
def _claimed(run: RunDir) -> Iterator[None]:
    """Keep other processes off the run where nobody has handed a claim down: ranks that were started by hand.

    Raises:
        RunError: if another process works on it.
    """
    if TOKEN_VARIABLE in os.environ or int(os.environ["RANK"]) > 0:
        yield
        return
    claim = Claim.take(run.path)
    if claim is None:
        raise RunError(f"{run.path} is held by another process: {holder(run.path)}; wait for its end, or end it")
    with claim:
        os.environ[TOKEN_VARIABLE] = claim.token
        try:
            yield
        except ScalingError as error:
            if not isinstance(error, Interrupted):
                run.write_status("failed", failure=str(error))
            raise
        finally:
            del os.environ[TOKEN_VARIABLE]
    run.tidy()


def main() -> None:
    """Command line of one rank; the reason of a failure is also left in a file."""
    stopping.listen()
    if "TORCHELASTIC_RUN_ID" in os.environ:
        die_with_parent(signal.SIGKILL)
    else:
        leave_world()
    let_children_die_with_me()
    run = RunDir(Path(sys.argv[1]))
    is_failing = threading.Event()
    if int(os.environ.get("WORLD_SIZE", 1)) > 1:
        threading.Thread(target=_end_with_others, args=(run, is_failing), daemon=True).start()
    try:
        with _claimed(run):
            work(run)
        end_at_once()
    except Interrupted as stopped:
        print(stopped)
        end_at_once(stopped.exit_code)
    except Exception as error:
        is_failing.set()
        with suppress(OSError):  # a full disk: the exit code tells of the failure too
            leave(Failure.of(error, run), run, int(os.environ.get("RANK", 0)))
        if isinstance(error, ScalingError):
            sys.exit(f"error: {error}")
        raise


if __name__ == "__main__":
    main()
