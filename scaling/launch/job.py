"""What a SLURM job runs, on its first node: one run after another of a list, until none is left.

python -m scaling.launch.job studies/NAME/slurm/FOLDER

All jobs of a shape have the same list; claims keep them off each other's runs. Shortly before the time limit, and when
it is preempted (SIGUSR1), a job has its runs leave a checkpoint, and puts itself back into the queue.
"""

import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import closing
from pathlib import Path

from scaling.config import RunConfig
from scaling.data import read_manifest
from scaling.errors import RunError, ScalingError
from scaling.launch import slurm
from scaling.launch.pool import Event, run_all, slots
from scaling.launch.worker import DATA_VARIABLE
from scaling.runs import OUT_OF_MEMORY, RunDir, read_json

REQUEUE, STOP = signal.SIGUSR1, signal.SIGTERM
#: So long before its end a job goes back into the queue, whether all runs have stopped or not.
LAST_S = 20.0
#: SLURM ends a job that it has put back into the queue.
LAST_WAIT_S = 60
#: A job on which this many runs in a row fail before they have made a step leaves the others to other nodes.
MAX_FAILED_AT_START = 3


def main() -> int:
    """Compute the list; exit code 0 unless a run failed.

    Raises:
        RunError: if none can be computed here: a broken node, which is always free, would soon have failed them all.
    """
    asked: list[int] = []
    for sign in (REQUEUE, STOP):
        signal.signal(sign, lambda signum, _frame: asked.append(signum))
    folder = Path(sys.argv[1])
    listed = read_json(folder / "job.json", lambda found: dict(found), remedy="submit again")
    shape = listed["nodes"], listed["ranks"]
    left = [RunDir(folder.parent.parent / name) for name in listed["runs"]]
    configs = {run: run.config() for run in left if run.status().state not in ("done", "failed")}
    # A later submission may have given a run another shape, and jobs of its own.
    runs = [run for run, config in configs.items() if (config.launcher.nodes, config.launcher.ranks) == shape]
    nodes = os.environ.get("SLURM_JOB_NODELIST", "")
    print(f"job {slurm.own_job()} on {nodes}: {len(runs)} runs", flush=True)
    if not runs:
        return 0
    config, launcher = configs[runs[0]], configs[runs[0]].launcher
    stage_data(config)
    on_cpus = [""] * max(1, launcher.workers)  # as many as the job has asked for
    side_by_side = slots(config) if launcher.slurm.gpus_per_rank else on_cpus
    failed, in_a_row = 0, 0
    begun_at = {run: run.status().step for run in runs}
    with closing(run_all(runs, slots=side_by_side, threads=config.train.num_threads, waits_for_others=False)) as events:
        for event in events:
            if event.run is not None:
                failed += event.state == "failed"
                print(f"{event.state}  {event.run.run_id}  {event.failure}", flush=True)
                in_a_row = failed_at_start(event, begun_at, in_a_row)
                if in_a_row >= MAX_FAILED_AT_START and not any(is_on_its_way(run, begun_at[run]) for run in runs):
                    raise RunError(
                        f"{in_a_row} runs in a row failed on {nodes} before they had made a step; the others are left "
                        "to other jobs, or to the next submission; if the node is at fault, keep off it: "
                        f"""'launcher.slurm.options=["--exclude={nodes}"]'; the last one: {event.failure}"""
                    )
            if asked:
                # Not every run may stop in time: the job goes back into the queue all the same.
                in_time = max(launcher.slurm.stop_s - LAST_S, launcher.slurm.stop_s / 2)
                late = threading.Timer(in_time, go_back, asked)
                late.daemon = True
                late.start()
                break
    go_back(*asked)
    return 1 if failed or asked else 0


def failed_at_start(event: Event, begun_at: dict[RunDir, int], before: int) -> int:
    """How many runs in a row this job has seen fail before a step, this one included.

    What was too large for the memory says nothing of the node, and what another job has seen nothing of this one.
    """
    assert event.run is not None
    status = event.run.status()
    if status.job != slurm.own_job() or status.cause == OUT_OF_MEMORY:
        return before
    return before + 1 if event.state == "failed" and status.step <= begun_at[event.run] else 0


def is_on_its_way(run: RunDir, begun_at: int) -> bool:
    """Whether this job computes a run now, and has brought it further."""
    status = run.status()
    return status.state == "running" and status.job == slurm.own_job() and status.step > begun_at


def go_back(*asked: int) -> None:
    """Put this job back into the queue, which ends it, if that is what it was asked for first."""
    if asked and asked[0] == REQUEUE:
        print("back into the queue", flush=True)
        slurm.requeue(slurm.own_job())
        time.sleep(LAST_WAIT_S)


def stage_data(config: RunConfig) -> None:
    """Copy the data to every node of the job, where `launcher.slurm.stage_to` says so; whole or not at all.

    Raises:
        RunError: if it cannot be copied.
    """
    site = config.launcher.slurm
    if not site.stage_to:
        return
    data = Path(config.data.path).absolute()
    here = f"{site.stage_to}/gnn-scaling-{read_manifest(data).digest[:16]}"  # variables are those of each node
    command = ["-m", "scaling.launch.job", "--copy", str(data), here]
    on_nodes = slurm.on_each_node(config.launcher.nodes, site.python or shlex.quote(sys.executable), command)
    ended = subprocess.run(on_nodes, check=False, capture_output=True, text=True)
    if ended.returncode:
        said = [line for line in ended.stderr.splitlines() if line.startswith(slurm.ERROR)]
        why = "; ".join(sorted({line.removeprefix(slurm.ERROR) for line in said})) or " ".join(ended.stderr.split())
        raise RunError(f"launcher.slurm.stage_to={site.stage_to}: the data could not be copied: {why}")
    os.environ[DATA_VARIABLE] = here


def copy(data: Path, to: str) -> None:
    """Copy a directory unless it is there; of several that do so at once, the first one counts.

    Raises:
        RunError: if the path has a variable that this node does not know, or it cannot be written.
    """
    here, node = Path(os.path.expandvars(to)), socket.gethostname()
    if "$" in str(here):
        raise RunError(f"{here}: there is no such variable on {node}")
    if here.exists():
        return
    draft = here.with_name(f".{here.name}.{os.getpid()}")
    try:
        shutil.copytree(data, draft)
        draft.rename(here)
    except OSError as error:
        if not here.exists():
            why = f"{error.filename}: {error.strerror}" if error.strerror else error.args[0][0][2]  # of a shutil.Error
            raise RunError(f"{here} on {node}: {why}; name a directory of the nodes with room for the data") from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)


if __name__ == "__main__":
    try:
        if sys.argv[1] == "--copy":
            copy(Path(sys.argv[2]), sys.argv[3])
            sys.exit()
        sys.exit(main())
    except ScalingError as error:
        sys.exit(f"{slurm.ERROR}{error}")
