"""Staged runs on this machine: side by side, each in a process of its own, watched, and never left behind.

Processes are forked from one server that has already imported torch and DeepSpeed, so that a run starts in milliseconds
and still shares no state with the runs before it.
"""

import multiprocessing
import os
import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess

from scaling.config import RunConfig
from scaling.errors import ConfigError, ScalingError
from scaling.launch.attempt import DONE, FAILED, HELD, STOPPED, Outcome, attempt, settled
from scaling.runs.claim import Claim, holder, last_beat
from scaling.runs.failure import Failure
from scaling.runs.store import RunDir

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
    """Something a watcher may show: `run` has ended in `state` (done or failed), or None: time has passed.

    failure: why it failed, in one line; a second command may meanwhile have changed what stands in the run's status.
    """

    run: RunDir | None
    state: str = ""
    failure: str = ""


@dataclass(frozen=True)
class _Active:
    """A run being computed. listener: where its process says how it ended. log_bytes: of its log before."""

    run: RunDir
    slot: str
    process: BaseProcess
    listener: Connection
    log_bytes: int


def slots(config: RunConfig) -> list[str]:
    """The devices of each run that fits side by side on this machine; "" for a run on CPU cores, or on many nodes.

    Raises:
        ConfigError: if a run takes more GPUs than there are.
    """
    ranks = config.launcher.ranks
    if config.launcher.nodes > 1:
        return [""]
    gpus: list[str] = []
    if os.environ.get("DS_ACCELERATOR") != "cpu":
        import torch  # takes seconds, which a command for the CPU need not wait

        here = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")  # a job's own, which need not begin with 0
        gpus = [here[gpu] if here[0] else str(gpu) for gpu in range(torch.cuda.device_count())]
    if gpus:
        fitting = [",".join(gpus[first : first + ranks]) for first in range(0, len(gpus) - ranks + 1, ranks)]
    else:
        cores = _cores()
        threads = config.train.num_threads or cores  # 0: torch takes them all
        fitting = [""] * max(1, cores // (ranks * threads))
    if not fitting:
        raise ConfigError(f"launcher.ranks={ranks} must be at most {len(gpus)}, the number of GPUs here")
    wanted = config.launcher.workers or len(fitting)
    return (fitting * wanted)[:wanted]


def _cores() -> int:
    if "SLURM_CPUS_ON_NODE" in os.environ:  # not every cluster binds a job to its cores
        return int(os.environ["SLURM_CPUS_ON_NODE"])
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def run_all(
    runs: Sequence[RunDir], *, slots: Sequence[str], threads: int, waits_for_others: bool = True
) -> Iterator[Event]:
    """Bring all runs to an end: done and failed ones are left alone, the others run in as many slots at a time.

    A run that fails does not stop the others. One that was killed goes on, unless it gets nowhere
    (`attempt.MAX_FRUITLESS`). Closing the iterator asks all runs to stop and waits for their checkpoints.

    Args:
        runs: in the order in which they begin.
        slots: for each run side by side the devices it may see, as in CUDA_VISIBLE_DEVICES; "" on a CPU.
        threads: of one rank.
        waits_for_others: whether to wait for runs that other processes work on, or to leave them to those, once their
            heartbeat has shown that they live.
    Yields:
        an event for each run that ends, and one every half second.
    """
    os.environ.update({key: os.environ.get(key, value) for key, value in ALLOCATOR.items()})
    if threads:
        os.environ["OMP_NUM_THREADS"] = str(threads)
    # A process that is forked after its server has seen a GPU cannot use it.
    context = multiprocessing.get_context("spawn" if any(slots) else "forkserver")
    if not any(slots):
        context.set_forkserver_preload(["scaling.launch.server", "scaling.training.loop"])
    waiting, free_slots = deque(runs), list(slots)
    held: dict[RunDir, float] = {}  # by their last heartbeat before this process had nothing else to do
    active: dict[int, _Active] = {}
    try:
        while waiting or held or active:
            while waiting and free_slots:
                run = waiting.popleft()
                status = run.status()
                if status.state in (DONE, FAILED):
                    yield Event(run, status.state, status.failure)
                elif holder(run.path) is not None:
                    held[run] = last_beat(run.path)
                else:
                    slot, log = free_slots.pop(), run.path / "log.txt"
                    log_bytes = log.stat().st_size if log.exists() else 0
                    listener, teller = context.Pipe(duplex=False)
                    process = context.Process(target=attempt, args=(run, slot, teller), name=run.run_id)
                    process.start()
                    teller.close()
                    active[process.sentinel] = _Active(run, slot, process, listener, log_bytes)
            for sentinel in wait(list(active), timeout=POLL_S) if active else _pause():
                ended = active.pop(sentinel)  # type: ignore[arg-type]
                ended.process.join()
                free_slots.append(ended.slot)
                outcome = _outcome(ended)
                if outcome.state == HELD:
                    held[ended.run] = last_beat(ended.run.path)
                elif outcome.state == STOPPED:
                    waiting.append(ended.run)
                else:
                    yield Event(ended.run, outcome.state, outcome.failure.message if outcome.failure else "")
            is_idle = not waiting and not active
            for run, beat in list(held.items()):
                if holder(run.path) is None:
                    waiting.append(run)
                    del held[run]
                elif waits_for_others or not is_idle:
                    held[run] = last_beat(run.path)
                elif last_beat(run.path) > beat:  # its holder has shown that it lives
                    del held[run]
            yield Event(None)
    finally:
        for running in active.values():
            running.process.terminate()
        for running in active.values():
            running.process.join()


def _pause() -> list[int]:
    time.sleep(POLL_S)
    return []


def _outcome(ended: _Active) -> Outcome:
    """How a run ended, in the words of its process if it left any."""
    try:
        with ended.listener as listener:
            if not listener.poll():
                raise EOFError
            outcome: Outcome = listener.recv()
    except (EOFError, OSError):
        outcome = _settle(ended)
    if outcome.state == DONE:
        ended.run.tidy()
    return outcome


def _settle(ended: _Active) -> Outcome:
    """Write down that a process died without a word."""
    run = ended.run
    failure = Failure.of_exit("the process", ended.process.exitcode or 0, run.path / "log.txt", begin=ended.log_bytes)
    try:
        claim = Claim.take(run.path)
        if claim is None:
            return Outcome(HELD)
        with claim:
            return Outcome(DONE) if run.status().state == DONE else settled(run, failure)
    except (OSError, ScalingError) as error:
        also = Failure.of(error, run).message
        return Outcome(FAILED, replace(failure, message=f"{failure.message}; {also}"))
