"""Staged runs on this machine: side by side, each in a process of its own, claimed, watched, and never left behind.

Processes are forked from one server that has already imported torch and DeepSpeed, so that a run starts in milliseconds
and still shares no state with the runs before it.
"""

import ctypes
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess

from scaling.errors import ScalingError
from scaling.runs.claim import Claim, holder
from scaling.runs.store import RunDir

#: Exit code of a process that found its run claimed by another one.
HELD = 75
POLL_S = 0.5

#: glibc gives every tensor over 32 MB back to the kernel and pays for its pages again at the next one; memory kept
#: makes steps on large batches faster. Read by the C library at process start.
ALLOCATOR = {
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": "100000000000",
    "MALLOC_TOP_PAD_": "67108864",
}


@dataclass(frozen=True)
class Event:
    """Something a watcher may show: `run` has ended in `state` (done or failed), or None: time has passed."""

    run: RunDir | None
    state: str = ""


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
    active: dict[int, tuple[BaseProcess, RunDir, str]] = {}
    try:
        while waiting or held or active:
            while waiting and free_slots:
                run, slot = waiting.popleft(), free_slots.pop()
                process = context.Process(target=_run_claimed, args=(run, slot), name=run.run_id)
                process.start()
                active[process.sentinel] = process, run, slot
            for sentinel in wait(list(active), timeout=POLL_S) if active else _pause():
                process, run, slot = active.pop(sentinel)  # type: ignore[index]
                process.join()
                free_slots.append(slot)
                if process.exitcode == HELD:
                    held.append(run)
                else:
                    yield Event(run, _settle(run, process.exitcode or 0))
            free = [run for run in held if holder(run.path) is None]
            held = [run for run in held if run not in free]
            waiting.extend(free)
            yield Event(None)
    finally:
        for process, _, _ in active.values():
            process.terminate()
        for process, _, _ in active.values():
            process.join()


def _pause() -> list[int]:
    time.sleep(POLL_S)
    return []


def _settle(run: RunDir, exitcode: int) -> str:
    """The state a run's process left it in; a process that died without a word has failed."""
    status = run.status()
    if status.state in ("done", "failed"):
        return status.state
    how = f"killed by {signal.Signals(-exitcode).name}" if exitcode < 0 else f"exit code {exitcode}"
    hint = "; out of memory?" if exitcode == -signal.SIGKILL else ""
    run.write_status(
        "failed",
        step=status.step,
        num_steps=status.num_steps,
        attempts=status.attempts,
        failure=f"the process ended early ({how}{hint}); see {run.path / 'log.txt'}",
    )
    return "failed"


def _run_claimed(run: RunDir, devices: str) -> None:
    """The body of a run's process."""
    if devices:
        os.environ["CUDA_VISIBLE_DEVICES"] = devices
    threading.Thread(target=_die_with_parent, daemon=True).start()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    claim = Claim.take(run.path)
    if claim is None:
        sys.exit(HELD)
    with claim:
        status = run.status()
        if status.state == "done":
            return
        for left_over in run.path.glob("failure-rank*.json"):
            left_over.unlink()
        attempts = status.attempts + 1
        run.write_status("running", step=status.step, num_steps=status.num_steps, attempts=attempts)
        with (run.path / "log.txt").open("a") as log:
            os.dup2(log.fileno(), 1)
            os.dup2(log.fileno(), 2)
        failure = _compute(run)
        if failure:
            print(failure, flush=True)
            before = run.status()
            run.write_status("failed", step=before.step, num_steps=before.num_steps, attempts=attempts, failure=failure)


def _compute(run: RunDir) -> str:
    """Run all ranks; returns why they failed, or "" if they did not."""
    from scaling.worker import first_failure, work

    ranks = run.config().launcher.ranks
    if ranks == 1:
        try:
            work(run)
        except ScalingError as error:
            return str(error)
        except Exception:
            return first_failure(run)
        return ""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={ranks}"]
    ended = subprocess.run(
        [*command, "-m", "scaling.worker", str(run.path)],
        check=False,
        preexec_fn=_be_told_of_parents_death,
        start_new_session=True,  # Ctrl-C is not for it
    )
    return "" if ended.returncode == 0 else first_failure(run) or f"torchrun ended with exit code {ended.returncode}"


def _die_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    wait([parent.sentinel])
    os._exit(1)


def _be_told_of_parents_death() -> None:
    """Ask the kernel (Linux) to end this process when its parent dies, however it dies."""
    if sys.platform == "linux":
        pr_set_pdeathsig = 1
        ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGTERM)
