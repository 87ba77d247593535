"""Staged runs on this machine: side by side, each in a process of its own, claimed, watched, and never left behind.

Processes are forked from one server that has already imported torch and DeepSpeed, so that a run starts in milliseconds
and still shares no state with the runs before it.
"""

import multiprocessing
import os
import re
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path

from scaling.errors import ScalingError
from scaling.runs.claim import TOKEN_VARIABLE, Claim, holder
from scaling.runs.store import RunDir
from scaling.worker import die_with_parent, first_failure, let_children_die_with_me, reason, work

POLL_S = 0.5

#: glibc gives every tensor over 32 MB back to the kernel and pays for its pages again at the next one; memory kept
#: makes steps on large batches faster. Read by the C library at process start.
ALLOCATOR = {
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": "100000000000",
    "MALLOC_TOP_PAD_": "67108864",
}

#: A rank in torchrun's report of those that failed.
RANK_ENDED = re.compile(r"rank +: (\d+) .*\n +exitcode +: (-?\d+) ")


@dataclass(frozen=True)
class Event:
    """Something a watcher may show: `run` has ended in `state` (done or failed), or None: time has passed.

    failure: why it failed, in one line; a second command may meanwhile have changed what stands in the run's status.
    """

    run: RunDir | None
    state: str = ""
    failure: str = ""


@dataclass(frozen=True)
class _Active:
    """A run being computed. listener: where its process says how it ended."""

    run: RunDir
    slot: str
    process: BaseProcess
    listener: Connection


def run_all(runs: Sequence[RunDir], *, slots: Sequence[str], threads: int) -> Iterator[Event]:
    """Bring all runs to an end: done ones are left alone, others run in as many slots at a time, in the given order.

    A run that another process works on is waited for. A run that fails does not stop the others.

    Args:
        slots: for each run side by side the devices it may see, as in CUDA_VISIBLE_DEVICES; "" on a CPU.
        threads: of one rank.
    Yields:
        an event for each run that ends, and one every half second.
    """
    os.environ.update({key: os.environ.get(key, value) for key, value in ALLOCATOR.items()})
    if threads:
        os.environ["OMP_NUM_THREADS"] = str(threads)
    # A process that is forked after its server has seen a GPU cannot use it.
    context = multiprocessing.get_context("spawn" if any(slots) else "forkserver")
    if not any(slots):
        context.set_forkserver_preload(["scaling.training.loop"])
    waiting, held, free_slots = deque(runs), list[RunDir](), list(slots)
    active: dict[int, _Active] = {}
    try:
        while waiting or held or active:
            while waiting and free_slots:
                run, slot = waiting.popleft(), free_slots.pop()
                listener, teller = context.Pipe(duplex=False)
                process = context.Process(target=_run_claimed, args=(run, slot, teller), name=run.run_id)
                process.start()
                teller.close()
                active[process.sentinel] = _Active(run, slot, process, listener)
            for sentinel in wait(list(active), timeout=POLL_S) if active else _pause():
                ended = active.pop(sentinel)  # type: ignore[arg-type]
                ended.process.join()
                free_slots.append(ended.slot)
                event = _outcome(ended)
                if event is None:
                    held.append(ended.run)
                else:
                    yield event
            free = [run for run in held if holder(run.path) is None]
            held = [run for run in held if run not in free]
            waiting.extend(free)
            yield Event(None)
    finally:
        for running in active.values():
            running.process.terminate()
        for running in active.values():
            running.process.join()


def _pause() -> list[int]:
    time.sleep(POLL_S)
    return []


def _outcome(ended: _Active) -> Event | None:
    """How a run ended, in the words of its process if it left any; None if another process holds the run."""
    try:
        with ended.listener as listener:
            if not listener.poll():
                raise EOFError
            failure = listener.recv()
    except (EOFError, OSError):
        failure = _settle(ended)
    if failure == "":
        ended.run.tidy()
        return Event(ended.run, "done")
    return None if failure is None else Event(ended.run, "failed", failure)


def _settle(ended: _Active) -> str | None:
    """Write down that a process died without a word; returns as `_attempt` does."""
    run, exitcode = ended.run, ended.process.exitcode or 0
    hint = "; out of memory?" if exitcode == -signal.SIGKILL else ""
    failure = f"the process ended early ({_how(exitcode)}{hint}); see {run.path / 'log.txt'}"
    try:
        claim = Claim.take(run.path)
        if claim is None:
            return None
        with claim:
            if run.status().state == "done":
                return ""
            _record(run, failure)
    except (OSError, ScalingError) as error:
        return f"{failure}; {reason(error, run)}"
    return failure


def _how(exitcode: int) -> str:
    return f"killed by {signal.Signals(-exitcode).name}" if exitcode < 0 else f"exit code {exitcode}"


def _run_claimed(run: RunDir, devices: str, teller: Connection) -> None:
    """The body of a run's process."""
    if devices:
        os.environ["CUDA_VISIBLE_DEVICES"] = devices
    threading.Thread(target=_end_with_parent, daemon=True).start()
    let_children_die_with_me()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    try:
        teller.send(_attempt(run))
    except Exception as error:
        teller.send(reason(error, run))


def _attempt(run: RunDir) -> str | None:
    """Compute a run; returns why it failed, "" if it is done, None if another process holds it."""
    claim = Claim.take(run.path)
    if claim is None:
        return None
    with claim:
        os.environ[TOKEN_VARIABLE] = claim.token
        if run.status().state == "done":
            return ""
        failure = _compute(run)
        if failure and claim.is_mine() and run.status().state == "done":
            return ""  # a rank stumbled on its way out
        if not failure and not run.result_path.exists():
            failure = f"ended without a result; see {run.path / 'log.txt'}"
        if failure and not claim.is_mine():
            return None
        if failure:
            with suppress(OSError):  # a full disk: the parent is told all the same
                print(failure, file=sys.stderr, flush=True)
                _record(run, failure)
        return failure


def _begin(run: RunDir) -> None:
    for left_over in run.path.glob("failure-rank*.json"):
        left_over.unlink()
    before = run.status()
    run.write_status("running", step=before.step, num_steps=before.num_steps, attempts=before.attempts + 1)
    with (run.path / "log.txt").open("a") as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)


def _record(run: RunDir, failure: str) -> None:
    before = run.status()
    run.write_status("failed", step=before.step, num_steps=before.num_steps, attempts=before.attempts, failure=failure)


def _compute(run: RunDir) -> str:
    """Run all ranks; returns why they failed, or "" if they did not."""
    try:
        _begin(run)
        ranks = run.config().launcher.ranks
        if ranks > 1:
            return _compute_by_torchrun(run, ranks)
        work(run)
    except Exception as error:
        if not isinstance(error, ScalingError):
            with suppress(OSError):
                traceback.print_exc()
        return reason(error, run)
    return ""


def _compute_by_torchrun(run: RunDir, ranks: int) -> str:
    log = run.path / "log.txt"
    begin = log.stat().st_size
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={ranks}"]
    ended = subprocess.run(
        [*command, "-m", "scaling.worker", str(run.path)],
        check=False,
        preexec_fn=lambda: die_with_parent(signal.SIGTERM),
        start_new_session=True,  # Ctrl-C is not for it
    )
    if ended.returncode == 0:
        return ""
    return (
        _killed_rank(log, begin) or first_failure(run) or f"torchrun ended early ({_how(ended.returncode)}); see {log}"
    )


def _killed_rank(log: Path, begin: int) -> str:
    """Which rank was killed, if torchrun says so in the log from there on; the others then fail too, for want of it."""
    with log.open("rb") as file:
        file.seek(begin)
        report = file.read().decode(errors="replace")
    for rank, exitcode in RANK_ENDED.findall(report):
        # A rank that misses another one may abort, and torchrun terminates those that are left.
        if int(exitcode) < 0 and -int(exitcode) not in (signal.SIGABRT, signal.SIGTERM):
            hint = "; out of memory?" if int(exitcode) == -signal.SIGKILL else ""
            return f"rank {rank} ended early ({_how(int(exitcode))}{hint}); see {log}"
    return ""


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    wait([parent.sentinel])
    os._exit(1)
