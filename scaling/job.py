"""What a SLURM job runs, on its first node: one run after another of a list, until none is left.

python -m scaling.job studies/NAME/slurm/FOLDER

All jobs of a shape have the same list; claims keep them off each other's runs. Shortly before the time limit, and when
it is preempted (SIGUSR1), a job has its runs leave a checkpoint, and puts itself back into the queue.
"""

import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

from scaling import slurm
from scaling.config import RunConfig
from scaling.data.manifest import read_manifest
from scaling.errors import RunError, ScalingError
from scaling.launch import run_all, slots
from scaling.runs.files import read_json
from scaling.runs.store import RunDir
from scaling.worker import DATA_VARIABLE

REQUEUE, STOP = signal.SIGUSR1, signal.SIGTERM
#: SLURM ends a job that it has put back into the queue.
LAST_WAIT_S = 60


def main() -> int:
    """Compute the list; exit code 0 unless a run failed."""
    asked: list[int] = []
    for sign in (REQUEUE, STOP):
        signal.signal(sign, lambda signum, _frame: asked.append(signum))
    folder = Path(sys.argv[1])
    names: list[str] = read_json(folder / "job.json", lambda found: list(found["runs"]), remedy="submit again")
    runs = [RunDir(folder.parent.parent / name) for name in names]
    runs = [run for run in runs if run.status().state not in ("done", "failed")]
    print(
        f"job {slurm.own_job()} on {os.environ.get('SLURM_JOB_NODELIST', 'this machine')}: {len(runs)} runs", flush=True
    )
    if not runs:
        return 0
    config = runs[0].config()
    stage_data(config)
    failed = 0
    with closing(
        run_all(runs, slots=slots(config), threads=config.train.num_threads, waits_for_others=False)
    ) as events:
        for event in events:
            if event.run is not None:
                failed += event.state == "failed"
                print(f"{event.state}  {event.run.run_id}  {event.failure}", flush=True)
            if asked:
                break
    if REQUEUE in asked and STOP not in asked:
        print("back into the queue", flush=True)
        slurm.requeue(slurm.own_job())
        time.sleep(LAST_WAIT_S)
    return 1 if failed or asked else 0


def stage_data(config: RunConfig) -> None:
    """Copy the data to every node of the job, where `launcher.slurm.stage_to` says so; whole or not at all.

    Raises:
        RunError: if it cannot be copied.
    """
    at = os.path.expandvars(config.launcher.slurm.stage_to)
    if not at:
        return
    data = Path(config.data.path).absolute()
    here = Path(at) / f"gnn-scaling-{read_manifest(data).digest[:16]}"
    command = [sys.executable, "-m", "scaling.job", "--copy", str(data), str(here)]
    ended = subprocess.run(
        slurm.on_each_node(config.launcher.nodes, command), check=False, capture_output=True, text=True
    )
    if ended.returncode:
        raise RunError(f"launcher.slurm.stage_to={config.launcher.slurm.stage_to}: {ended.stderr.strip()}")
    os.environ[DATA_VARIABLE] = str(here)


def copy(data: Path, here: Path) -> None:
    """Copy a directory unless it is there; of several that do so at once, the first one counts."""
    if here.exists():
        return
    draft = here.with_name(f".{here.name}.{os.getpid()}")
    try:
        shutil.copytree(data, draft)
        draft.rename(here)
    except OSError:
        if not here.exists():
            raise
    finally:
        shutil.rmtree(draft, ignore_errors=True)


if __name__ == "__main__":
    try:
        if sys.argv[1] == "--copy":
            copy(Path(sys.argv[2]), Path(sys.argv[3]))
            sys.exit()
        sys.exit(main())
    except ScalingError as error:
        sys.exit(f"error: {error}")
