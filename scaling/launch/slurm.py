"""SLURM's own commands: what a cluster is asked, and what it says of jobs."""

import os
import re
import shlex
import shutil
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from scaling.errors import ConfigError, RunError
from scaling.launch.environment import submission_environment

#: A controller that is restarted, or busy, is asked again for so long.
PATIENCE_S = 120.0
#: A command that prints nothing for so long is given up.
ANSWER_S = 60.0
#: What SLURM's commands say while the controller cannot be reached.
AWAY = re.compile(r"Unable to contact|[Cc]onnection (refused|reset|timed out)|timed out|try again|not respond|DBD conn")
NODE_NUMBER = "$SLURM_NODEID"
#: How the line of a log begins that says why a job ended.
ERROR = "error: "
#: Of a batch script's options, those that no cluster refuses.
UNREMARKABLE_OPTIONS = ("--job-name", "--ntasks-per-node", "--signal", "--output", "--open-mode", "--requeue")
#: A cause of a failure for each of SLURM's end states that are none of the run's own.
ENDS = {
    "OUT_OF_MEMORY": "out of memory",
    "TIMEOUT": "time limit",
    "DEADLINE": "time limit",
    "NODE_FAIL": "node failure",
    "BOOT_FAIL": "node failure",
    "PREEMPTED": "preempted",
    "CANCELLED": "cancelled",
    "FAILED": "killed",
}


@dataclass(frozen=True)
class Job:
    """A job that SLURM has not yet forgotten. id: as in 12_3. state: PENDING, RUNNING, ... comment: its folder's name.
    reason: why it waits."""

    id: str
    state: str
    comment: str
    reason: str


def own_job() -> str:
    """The job that this process is part of, as in 12 or 12_3; "" outside SLURM."""
    if "SLURM_ARRAY_JOB_ID" in os.environ:
        return f"{os.environ['SLURM_ARRAY_JOB_ID']}_{os.environ['SLURM_ARRAY_TASK_ID']}"
    return os.environ.get("SLURM_JOB_ID", "")


def first_node() -> str:
    """The node on which a job's batch script runs."""
    return os.environ["SLURMD_NODENAME"]


def on_each_node(nodes: int, python: str, arguments: Sequence[str]) -> list[str]:
    """Run Python once on each of the job's nodes; if it fails on one, it is ended on all.

    Args:
        python: a command of the shell. arguments: words; NODE_NUMBER in one is replaced by the node's.
    """
    cpus = os.environ.get("SLURM_CPUS_PER_TASK", "1")  # srun no longer takes it from its job
    srun = ["srun", f"--nodes={nodes}", f"--ntasks={nodes}", "--ntasks-per-node=1", f"--cpus-per-task={cpus}"]
    srun += ["--kill-on-bad-exit=1", "--cpu-bind=none", "--export=ALL"]  # also in a job submitted with --export=NONE
    words = " ".join(word if NODE_NUMBER in word else shlex.quote(word) for word in arguments)
    return [*srun, "bash", "-c", f"exec {python} {words}"]


def live_jobs(name: str) -> list[Job]:
    """Jobs of this name that wait or run.

    Raises:
        RunError: if SLURM does not answer.
    """
    said = ask("squeue", "--noheader", "--array", f"--name={name}", "--format=%i|%T|%k|%r")
    return [Job(*line.strip().split("|", 3)) for line in said.splitlines() if line.count("|") >= 3]


def accounted(jobs: Sequence[str]) -> dict[str, str]:
    """SLURM's state of each job, as in its accounting; nothing where a cluster keeps none."""
    if not jobs or shutil.which("sacct") is None:
        return {}
    try:
        said = ask("sacct", "--allocations", "--noheader", "--parsable2", f"--jobs={','.join(jobs)}", "-oJobID,State")
    except RunError:
        return {}
    return {job: state.split()[0] for job, state in (line.split("|") for line in said.splitlines()) if state}


def end_of(job: str) -> str:
    """Why a job ended for the last time, in the words of ENDS; "" if it did not, or nobody knows."""
    if shutil.which("sacct") is None:
        return ""
    try:
        said = ask("sacct", "-D", "--allocations", "--noheader", "--parsable2", f"--jobs={job}", "-oState")
    except RunError:
        return ""
    ended = [ENDS[word.split()[0]] for word in said.splitlines() if word and word.split()[0] in ENDS]
    return ended[-1] if ended else ""


def check(script: Path) -> None:
    """Have SLURM look at a batch script without submitting it.

    Raises:
        ConfigError: with what it says of it, what was asked of it, and what the cluster has.
    """
    try:
        _sbatch("--test-only", str(script))
    except ConfigError as error:
        lines = [line for line in script.read_text().splitlines() if line.startswith("#SBATCH ")]
        asked = [word for line in lines if not (word := line.removeprefix("#SBATCH ")).startswith(UNREMARKABLE_OPTIONS)]
        keys = "launcher.slurm, launcher.ranks and launcher.workers"
        raise ConfigError(f"{error}; asked for by {keys}: {' '.join(asked)}") from error


def submit(script: Path, num_tasks: int, *, name: str, comment: str) -> list[str]:
    """Submit an array; more tasks than an array may have become several. Returns the arrays' ids.

    Raises:
        ConfigError: with what SLURM says against it.
    """
    most = max_array_size()
    sizes = [min(most, num_tasks - first) for first in range(0, num_tasks, most)]
    before = {job.id.partition("_")[0] for job in live_jobs(name)}
    return [_submit_array(script, size, name=name, comment=comment, before=before) for size in sizes]


def _submit_array(script: Path, size: int, *, name: str, comment: str, before: set[str]) -> str:
    try:
        said = _sbatch("--parsable", f"--array=0-{size - 1}", f"--comment={comment}", str(script))
        array = said.strip().splitlines()[-1].partition(";")[0]
    except RunError:  # no answer: it may have been taken in all the same
        new = {job.id.partition("_")[0] for job in live_jobs(name) if job.comment == comment} - before
        if not new:
            raise
        array = new.pop()
    before.add(array)
    return array


def max_array_size() -> int:
    """How many tasks one array may have."""
    found = re.search(r"MaxArraySize\s*=\s*(\d+)", ask("scontrol", "show", "config"))
    return max(1, int(found[1]) - 1) if found else 1000


def requeue(job: str) -> None:
    """Put this process's own job back into the queue, which ends it.

    Raises:
        RunError: if SLURM refuses.
    """
    ask("scontrol", "requeue", job)


def is_here() -> bool:
    """Whether jobs can be submitted from this machine."""
    return shutil.which("sbatch") is not None


def _sbatch(*arguments: str) -> str:
    try:
        return ask("sbatch", *arguments)
    except RunError as error:
        if AWAY.search(str(error)):
            raise
        raise ConfigError(f"{error}; partitions here: {_partitions()}") from error


def _partitions() -> str:
    """The cluster's, each with its kinds of nodes."""
    kinds: dict[str, list[str]] = {}
    for line in ask("sinfo", "--noheader", "--format=%R|%D|%c|%m|%G|%l").splitlines():
        name, count, cpus, megabytes, gpus, limit = line.strip().split("|")
        also = "" if gpus == "(null)" else f", {gpus}"
        kinds.setdefault(name, []).append(f"{count} nodes of {cpus} cpus, {megabytes} MB{also}, limit {limit}")
    return ", ".join(f"{name} ({'; '.join(nodes)})" for name, nodes in sorted(kinds.items()))


def ask(*command: str) -> str:
    """What one of SLURM's commands prints; asked again while the controller is away.

    Raises:
        RunError: with its own words, if it fails.
    """
    deadline, pause = time.monotonic() + PATIENCE_S, 1.0
    while True:
        try:
            seen = submission_environment(os.environ)
            ended = subprocess.run(command, capture_output=True, text=True, check=False, timeout=ANSWER_S, env=seen)
        except FileNotFoundError as error:
            raise RunError(
                f"there is no {command[0]} on this machine; go to one from which jobs are submitted"
            ) from error
        except subprocess.TimeoutExpired:
            said = f"timed out after {ANSWER_S:.0f} s"
        else:
            if ended.returncode == 0:
                return ended.stdout
            said = " ".join(ended.stderr.split()) or f"exit code {ended.returncode}"
        # A submission without an answer may have been taken in: its caller looks.
        if command[0] == "sbatch" and "--parsable" in command and AWAY.search(said) and "timed out" in said:
            raise RunError(f"SLURM does not answer: {said}")
        if not AWAY.search(said) or time.monotonic() > deadline:
            raise RunError(f"{command[0]}: {said}")
        time.sleep(pause)
        pause = min(2 * pause, 15.0)
