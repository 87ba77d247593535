"""How the runs of a study are brought to an end: on this machine, by jobs of a cluster, or by hand."""

import os
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tqdm import tqdm

from experiments.status import wait
from scaling.config import RunConfig
from scaling.launch import job_name, options_left_out, run_all, slots, submit, validate_jobs
from scaling.runs import RunDir


def execute(runs: Sequence[RunDir], config: RunConfig) -> int:
    """Compute what is not done, showing progress; returns how many runs failed."""
    # SIGTERM interrupts it as Ctrl-C does: runs stop behind a checkpoint.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    todo = []
    for run in runs:
        if run.status().state == "done":
            run.tidy()
        else:
            run.try_again()
            todo.append(run)
    print(f"{runs[0].path.parent}: {len(runs)} runs, {len(runs) - len(todo)} done already", flush=True)
    if not todo:
        return 0
    failed = 0
    started = time.monotonic()
    with tqdm(total=len(todo), unit="run", desc="training", dynamic_ncols=True) as bar:
        for event in run_all(todo, slots=slots(config), threads=config.train.num_threads):
            if event.run is None:
                bar.set_postfix_str(_progress(todo))
                continue
            if event.state == "done":
                result = event.run.result()
                bar.write(f"  done    {event.run.run_id}  test loss {result.test_loss:.4f}  {result.wall_s:.0f} s")
            else:
                failed += 1
                why = [line for line in event.failure.splitlines() if line.strip()]
                bar.write(f"  FAILED  {event.run.run_id}  {why[-1] if why else 'for no reason given'}")
            bar.update(1)
    print(f"{len(todo) - failed} runs done, {failed} failed, {time.monotonic() - started:.0f} s")
    return failed


def send(runs: Sequence[RunDir], config: RunConfig) -> int:
    """Submit what no job is on the way to, and return at once, or with launcher.slurm.wait when all jobs have ended.

    Returns how many runs are not done although their jobs have ended.
    """
    study_dir = runs[0].path.parent
    done = sum(run.status().state == "done" for run in runs)
    arrays = submit(runs)
    said = ", ".join(arrays) or "nothing"
    if not arrays and done < len(runs):
        said += ": jobs are on the way to the others, with the options that they were submitted with"
    print(f"{study_dir}: {len(runs)} runs, {done} done already; submitted: {said}", flush=True)
    if ignored := options_left_out(os.environ):
        print(f"not handed on to the jobs: {', '.join(ignored)}; say it by launcher.slurm.*", flush=True)
    if done < len(runs):
        print(f"to watch: python -m experiments.status {study_dir} --watch")
        print(f"to end:   scancel --name={job_name(study_dir)}", flush=True)
    if config.launcher.slurm.wait and (left := wait(study_dir, runs)):
        print(f"{left} runs are not done; why: python -m experiments.status {study_dir}")
        return left
    return 0


def _progress(runs: Sequence[RunDir]) -> str:
    statuses = [run.status() for run in runs]
    running = [s for s in statuses if s.state == "running" and s.num_steps]
    return ", ".join(f"{s.step}/{s.num_steps}" for s in running) + " steps" if running else "starting"


def show_commands(runs: Sequence[RunDir], config: RunConfig) -> int:
    """Print what starts the ranks of each run that is not done, for clusters that this program knows nothing of."""
    ranks = config.launcher.ranks
    print(f"{runs[0].path.parent}: {len(runs)} runs; on each of K nodes, k from 0, NODE0 the name of the first one:")
    for run in runs:
        if run.status().state != "done":
            print(
                f"  torchrun --nnodes=K --node-rank=k --nproc-per-node={ranks}/K --master-addr=NODE0 "
                f"--master-port=29500 -m scaling.launch.worker {run.path}"
            )
    return 0


def _require_slots(runs: Sequence[RunDir], configs: Sequence[RunConfig]) -> None:
    slots(configs[0])


def _require_nothing(runs: Sequence[RunDir], configs: Sequence[RunConfig]) -> None:
    """Ranks are started elsewhere."""


@dataclass(frozen=True)
class Launcher:
    """validate: raises if runs could not be computed so, before they are written down. compute: takes runs in the order
    in which they are to begin, and returns how many did not end as they should. waits: whether it then stays until they
    have ended, so that a sweeper that draws gets their losses."""

    validate: Callable[[Sequence[RunDir], Sequence[RunConfig]], None]
    compute: Callable[[Sequence[RunDir], RunConfig], int]
    waits: Callable[[RunConfig], bool]


#: By `launcher.kind`; the names stand in `scaling.logistics.LAUNCHERS` too.
LAUNCHERS = {
    "local": Launcher(_require_slots, execute, lambda config: True),
    "slurm": Launcher(validate_jobs, send, lambda config: config.launcher.slurm.wait),
    "torchrun": Launcher(_require_nothing, show_commands, lambda config: False),
}
