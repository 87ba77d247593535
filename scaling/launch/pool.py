"""Staged runs on this machine: side by side, each in a process of its own, watched, and never left behind.

Processes are forked from one server that has already imported torch and DeepSpeed, so that a run starts in milliseconds
and still shares no state with the runs before it.
"""

import multiprocessing
import os
import socket
import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess

from scaling.config import RunConfig
from scaling.errors import ConfigError, RunError, ScalingError
from scaling.launch.attempt import DONE, FAILED, HELD, STOPPED, Outcome, attempt, settled
from scaling.runs import Claim, Failure, RunDir, holder, last_beat

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
        RunError: if the job has asked its cluster for GPUs and there are none to be seen.
    """
    launcher = config.launcher
    if launcher.nodes > 1:
        return [""]
    gpus = _gpus()
    if launcher.kind == "slurm" and launcher.slurm.gpus_per_rank and not gpus:
        raise RunError(
            f"launcher.slurm.gpus_per_rank={launcher.slurm.gpus_per_rank}, but no GPU can be seen on "
            f"{socket.gethostname()}: {_why_no_gpu()}; or train on CPUs: launcher=slurm_cpu"
        )
    if gpus:
        firsts = range(0, len(gpus) - launcher.ranks + 1, launcher.ranks)
        fitting = [",".join(gpus[first : first + launcher.ranks]) for first in firsts]
    else:
        cores = _cores()
        threads = config.train.num_threads or cores  # 0: torch takes them all
        fitting = [""] * max(1, cores // (launcher.ranks * threads))
    if not fitting:
        raise ConfigError(f"launcher.ranks={launcher.ranks} must be at most {len(gpus)}, the number of GPUs here")
    wanted = launcher.workers or len(fitting)
    return (fitting * wanted)[:wanted]


def _gpus() -> list[str]:
    """The GPUs that this process may use, as CUDA_VISIBLE_DEVICES names them."""
    if os.environ.get("DS_ACCELERATOR") == "cpu":
        return []
    import torch  # takes seconds, which a command for the CPU need not wait

    here = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")  # a job's own, which need not begin with 0
    return [here[gpu] if here[0] else str(gpu) for gpu in range(torch.cuda.device_count())]


def _why_no_gpu() -> str:
    if os.environ.get("DS_ACCELERATOR") == "cpu":
        return "DS_ACCELERATOR=cpu is set, unset it"
    import torch

    if torch.version.cuda is None and torch.version.hip is None:
        return f"torch {torch.__version__} is built for CPUs, install a build for the node's GPUs"
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "not set")
    return (
        f"torch {torch.__version__} is built for CUDA {torch.version.cuda}, CUDA_VISIBLE_DEVICES is {visible}; see "
        "what nvidia-smi says there of the driver and the devices"
    )


def _cores() -> int:
    here = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(here, int(os.environ.get("SLURM_CPUS_ON_NODE", here)))  # not every cluster binds a job to its cores


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
    pool = _Pool(runs, slots)
    try:
        while not pool.is_empty():
            yield from pool.begin()
            yield from pool.reap()
            pool.look_at_held(waits_for_others)
            yield Event(None)
    finally:
        pool.stop()


class _Pool:
    """Runs that wait for a slot, that are computed here, and that other processes hold.

    Attributes:
        held: by the time of their last heartbeat before this process had nothing else to do.
    """

    def __init__(self, runs: Sequence[RunDir], slots: Sequence[str]) -> None:
        # A process that is forked after its server has seen a GPU cannot use it.
        self.context = multiprocessing.get_context("spawn" if any(slots) else "forkserver")
        if not any(slots):
            self.context.set_forkserver_preload(["scaling.launch.server", "scaling.training.loop"])
        self.waiting, self.free_slots = deque(runs), list(slots)
        self.held: dict[RunDir, float] = {}
        self.active: dict[int, _Active] = {}

    def is_empty(self) -> bool:
        """Whether nothing is left to do or to wait for."""
        return not (self.waiting or self.held or self.active)

    def begin(self) -> Iterator[Event]:
        """Start a process in every free slot; yields the runs that have ended already."""
        while self.waiting and self.free_slots:
            run = self.waiting.popleft()
            status = run.status()
            if status.state in (DONE, FAILED):
                yield Event(run, status.state, status.failure)
            elif holder(run.path) is not None:
                self.held[run] = last_beat(run.path)
            else:
                self._start(run, self.free_slots.pop())

    def _start(self, run: RunDir, slot: str) -> None:
        log = run.path / "log.txt"
        log_bytes = log.stat().st_size if log.exists() else 0
        listener, speaker = self.context.Pipe(duplex=False)
        process = self.context.Process(target=attempt, args=(run, slot, speaker), name=run.run_id)
        try:
            process.start()
        except (EOFError, ConnectionError) as error:
            raise RunError("the server from which runs are forked has died; the same command goes on") from error
        speaker.close()
        self.active[process.sentinel] = _Active(run, slot, process, listener, log_bytes)

    def reap(self) -> Iterator[Event]:
        """Wait a moment for processes to end; yields the runs that have come to an end with theirs."""
        if not self.active:
            time.sleep(POLL_S)
            return
        for sentinel in wait(list(self.active), timeout=POLL_S):
            ended = self.active.pop(sentinel)  # type: ignore[arg-type]
            ended.process.join()
            self.free_slots.append(ended.slot)
            outcome = _outcome(ended)
            if outcome.state == HELD:
                self.held[ended.run] = last_beat(ended.run.path)
            elif outcome.state == STOPPED:
                self.waiting.append(ended.run)
            else:
                yield Event(ended.run, outcome.state, outcome.failure.message if outcome.failure else "")

    def look_at_held(self, waits_for_others: bool) -> None:
        """Take up runs that nobody holds any more; leave the others to their holders unless they are waited for."""
        is_idle = not self.waiting and not self.active
        for run, beat in list(self.held.items()):
            if holder(run.path) is None:
                self.waiting.append(run)
                del self.held[run]
            elif waits_for_others or not is_idle:
                self.held[run] = last_beat(run.path)
            elif last_beat(run.path) > beat:  # its holder has shown that it lives
                del self.held[run]

    def stop(self) -> None:
        """Ask all runs to leave a checkpoint, and wait until they have."""
        for running in self.active.values():
            running.process.terminate()
        for running in self.active.values():
            running.process.join()


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
