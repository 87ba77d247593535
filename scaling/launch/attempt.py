"""One attempt at a run, in a process of its own: claimed, computed by its ranks, and its outcome recorded."""

import multiprocessing
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import threading
import time
import traceback
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from pathlib import Path

from scaling.config import LauncherConfig
from scaling.errors import Interrupted, ScalingError
from scaling.launch import slurm
from scaling.launch.environment import leave_world, without_world
from scaling.launch.processes import die_with_parent, let_children_die_with_me
from scaling.runs import KILLED, TOKEN_VARIABLE, Claim, Failure, RunDir, first_failure, log_tail, stopping

PREEMPTED, NODE_FAILURE = slurm.ENDS["PREEMPTED"], slurm.ENDS["NODE_FAIL"]
DONE, FAILED, STOPPED, HELD = "done", "failed", "stopped", "held"
#: Attempts in a row that may be killed without a newer checkpoint before a run is given up.
MAX_FRUITLESS = 3
#: What ranks may take on this machine to leave a checkpoint when they are asked to stop.
STOP_S = 300
#: What a file of another node may take to be seen on this one.
FILES_ARRIVE_S = 5.0

#: A rank in torchrun's report of those that failed.
RANK_ENDED = re.compile(r"rank +: (\d+) .*\n +exitcode +: (-?\d+) ")


@dataclass(frozen=True)
class Outcome:
    """How an attempt ended: DONE, FAILED, STOPPED (asked to, or killed: it may go on), HELD by another process."""

    state: str
    failure: Failure | None = None


def attempt(run: RunDir, devices: str, outcome_pipe: Connection) -> None:
    """The body of a run's process; its outcome is sent through the pipe."""
    stopping.listen()
    if devices:
        os.environ["CUDA_VISIBLE_DEVICES"] = devices
    leave_world()
    threading.Thread(target=_end_with_parent, daemon=True).start()
    let_children_die_with_me()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    try:
        outcome_pipe.send(_claimed(run))
    except Exception as error:
        outcome_pipe.send(Outcome(FAILED, Failure.of(error, run)))


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    wait([parent.sentinel])
    os._exit(1)


def _claimed(run: RunDir) -> Outcome:
    claim = Claim.take(run.path)
    if claim is None:
        return Outcome(HELD)
    with claim:
        os.environ[TOKEN_VARIABLE] = claim.token
        if run.status().state == "done":
            return Outcome(DONE)
        try:
            failure = _begin(run) or _compute(run)
        except Interrupted:
            return Outcome(STOPPED)
        except Exception as error:
            if not isinstance(error, ScalingError):
                with suppress(OSError):
                    traceback.print_exc()
            failure = Failure.of(error, run)
        if run.result_path.exists():  # also where a rank stumbled on its way out
            return Outcome(DONE)
        if not claim.is_mine():
            return Outcome(HELD)
        failure = failure or Failure(f"ended without a result; see {run.path / 'log.txt'}")
        with suppress(OSError):  # a full disk: the parent learns of it all the same
            print(failure.message, file=sys.stderr, flush=True)
            return settled(run, failure)
        return Outcome(FAILED, failure)


def settled(run: RunDir, failure: Failure) -> Outcome:
    """Write down why an attempt failed; a run that was killed may go on, if it got further or has attempts left.

    Raises:
        OSError: if the directory cannot be written.
    """
    before = run.status()
    is_further = run.newest_checkpoint() > before.reached
    if failure.cause == KILLED and (is_further or before.fruitless < MAX_FRUITLESS):
        run.write_status("waiting", **_reason(failure))
        return Outcome(STOPPED, failure)
    run.write_status("failed", **_reason(failure))
    return Outcome(FAILED, failure)


def _reason(failure: Failure) -> dict[str, str]:
    return {"failure": failure.message, "cause": failure.cause, "traceback": failure.traceback}


def _begin(run: RunDir) -> Failure | None:
    """Count the attempt; returns why there is none: the ones before got nowhere."""
    for left_over in run.path.glob("failure-rank*.json"):
        left_over.unlink()
    before, newest = run.status(), run.newest_checkpoint()
    fruitless = before.fruitless if newest <= before.reached else 0
    if fruitless and before.job and slurm.end_of(before.job) in (PREEMPTED, NODE_FAILURE):
        fruitless -= 1  # not the run's own doing
    if fruitless >= MAX_FRUITLESS:
        why = slurm.end_of(before.job) if before.job else ""
        said = before.failure if before.failure != "interrupted" else ""
        tried = f"given up after {fruitless} attempts that did not get past step {newest}"
        last = said or (f"job {before.job}: {why}" if why else "the process or its machine died")
        return Failure(f"{tried}; the last: {last}", why or before.cause or KILLED)
    counted = {"attempts": before.attempts + 1, "fruitless": fruitless + 1, "reached": newest}
    run.write_status("running", step=before.step, num_steps=before.num_steps, job=slurm.own_job(), **counted)
    with (run.path / "log.txt").open("a") as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
    return None


def _compute(run: RunDir) -> Failure | None:
    """Run all ranks; returns why they failed.

    Raises:
        Interrupted: if they were asked to stop.
    """
    launcher = run.config().launcher
    if launcher.ranks > 1:
        return _compute_by_torchrun(run, launcher)
    from scaling.launch.worker import work  # itself a command: `python -m` warns of one that its package has imported

    work(run)
    return None


def _compute_by_torchrun(run: RunDir, launcher: LauncherConfig) -> Failure | None:
    log = run.path / "log.txt"
    begin = log.stat().st_size
    process = subprocess.Popen(
        _torchrun(run, launcher),
        env=without_world(os.environ),
        preexec_fn=lambda: die_with_parent(signal.SIGTERM),
        start_new_session=True,  # Ctrl-C is not for it
    )
    has_terminated = False
    while process.poll() is None:
        if stopping.is_asked() and not has_terminated:
            process.terminate()
            has_terminated = True
        with suppress(subprocess.TimeoutExpired):
            process.wait(timeout=0.2)
    if process.returncode == 0:
        return None
    said = _first_failure(run, launcher)
    if run.status().state == "waiting" or (has_terminated and said is None):
        raise Interrupted(f"{run.path} was asked to stop")
    if said is not None and said.cause != KILLED:
        return said
    return _killed_rank(log, begin) or said or Failure.of_exit("torchrun", process.returncode, log, begin=begin)


def _first_failure(run: RunDir, launcher: LauncherConfig) -> Failure | None:
    deadline = time.monotonic() + (FILES_ARRIVE_S if launcher.nodes > 1 else 0)
    while (said := first_failure(run)) is None and time.monotonic() < deadline:
        time.sleep(0.5)
    return said


def _torchrun(run: RunDir, launcher: LauncherConfig) -> list[str]:
    """The command that starts all ranks; over several nodes, one torchrun on each of the job's."""
    torchrun = ["-m", "torch.distributed.run", f"--nproc-per-node={launcher.ranks // launcher.nodes}"]
    torchrun.append(f"--shutdown-timeout={launcher.slurm.stop_s if launcher.kind == 'slurm' else STOP_S}")
    worker = ["-m", "scaling.launch.worker", str(run.path)]
    if launcher.nodes == 1:
        return [sys.executable, *torchrun, "--standalone", *worker]
    with socket.socket() as free:
        free.bind(("", 0))
        port = free.getsockname()[1]
    meeting = [f"--nnodes={launcher.nodes}", f"--master-addr={slurm.first_node()}", f"--master-port={port}"]
    meeting.append(f"--node-rank={slurm.NODE_NUMBER}")
    python = launcher.slurm.python or shlex.quote(sys.executable)
    return slurm.on_each_node(launcher.nodes, python, [*torchrun, *meeting, *worker])


def _killed_rank(log: Path, begin: int) -> Failure | None:
    """Which rank was killed, if torchrun says so in the log from there on; the others then fail too, for want of it."""
    for rank, exitcode in reversed(RANK_ENDED.findall(log_tail(log, begin))):  # the first to fail stands last
        # A rank that misses another one may abort, and torchrun terminates those that are left.
        if int(exitcode) < 0 and -int(exitcode) not in (signal.SIGABRT, signal.SIGTERM):
            return Failure.of_exit(f"rank {rank}", int(exitcode), log, begin=begin)
    return None
