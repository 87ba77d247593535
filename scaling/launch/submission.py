"""Runs -> jobs of a SLURM cluster: one array for each shape of job, and only for what no job is on the way to."""

import hashlib
import json
import re
import shlex
import sys
import time
from collections import defaultdict
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from scaling.config import LauncherConfig, RunConfig
from scaling.errors import ConfigError
from scaling.launch import slurm
from scaling.runs import RunDir, alone, holder, read_json, write_atomic, write_json

#: Below a study's directory: a folder for each array, with its list of runs, its batch script and its logs.
JOBS = "slurm"


def job_name(study_dir: Path) -> str:
    """The name of a study's jobs: readable, and that of no other study."""
    path = str(study_dir.resolve())
    return f"{re.sub('[^A-Za-z0-9._-]', '_', study_dir.resolve().name)}-{hashlib.sha256(path.encode()).hexdigest()[:8]}"


@dataclass(frozen=True)
class Coming:
    """A job on the way to a run, and the shape that it has."""

    job: slurm.Job
    nodes: int
    ranks: int


def live(study_dir: Path) -> dict[str, list[Coming]]:
    """The study's jobs that wait or run, by the run that they are for.

    Raises:
        RunError: if SLURM does not answer.
    """
    found: dict[str, list[Coming]] = defaultdict(list)
    by_folder = defaultdict(list)
    for job in slurm.live_jobs(job_name(study_dir)):
        if job.state != "COMPLETING":  # takes up no more runs
            by_folder[job.comment].append(job)
    for name, jobs in by_folder.items():
        with suppress(FileNotFoundError):  # somebody has removed the folder
            listed = read_json(study_dir / JOBS / name / "job.json", lambda it: dict(it), remedy="remove its folder")
            for run in listed["runs"]:
                found[run] += [Coming(job, listed["nodes"], listed["ranks"]) for job in jobs]
    return dict(found)


def validate_jobs(runs: Sequence[RunDir], configs: Sequence[RunConfig]) -> None:
    """Have SLURM look at the jobs of the runs that are not done, before these are written down.

    Raises:
        ConfigError: if SLURM refuses one, in its words, or is not on this machine.
        RunError: if SLURM does not answer.
    """
    if not slurm.is_here():
        raise ConfigError(
            "launcher.kind=slurm must be given where jobs are submitted: there is no sbatch on this machine; go to a "
            "login node, or use launcher=local"
        )
    left = [config.launcher for run, config in zip(runs, configs, strict=True) if not run.result_path.exists()]
    for launcher in {(each.nodes, each.ranks): each for each in left}.values():
        with TemporaryDirectory() as folder:
            script = Path(folder) / "job.sbatch"
            script.write_text(batch_script(launcher, Path(folder), name="check"))
            slurm.check(script)


def submit(runs: Sequence[RunDir]) -> list[str]:
    """Submit jobs for the runs that are not done and that no job is on the way to; returns the ids of the arrays.

    Runs that have failed are tried again.

    Raises:
        ConfigError: if SLURM refuses, in its words.
        RunError: if SLURM does not answer.
    """
    study_dir = runs[0].path.parent
    jobs_dir = study_dir / JOBS
    jobs_dir.mkdir(exist_ok=True)
    with alone(jobs_dir):  # two people may submit at once
        covered = live(study_dir)
        missing: dict[tuple[int, int], list[RunDir]] = defaultdict(list)
        launchers: dict[tuple[int, int], LauncherConfig] = {}
        for run in runs:
            state = run.status().state
            if state == "done" or holder(run.path) is not None:
                continue
            launcher = run.config().launcher
            shape = launcher.nodes, launcher.ranks
            has_job = any((each.nodes, each.ranks) == shape for each in covered.get(run.run_id, []))
            if state == "failed" or not has_job:  # jobs do not try again what has failed
                missing[shape].append(run)
                launchers[shape] = launcher
        for members in missing.values():  # what fails again must not keep the others waiting
            members.sort(key=lambda run: run.status().state == "failed")
        folders = {shape: _write(jobs_dir, missing[shape], launchers[shape]) for shape in sorted(missing)}
        arrays: list[str] = []
        for shape, folder in folders.items():
            for run in missing[shape]:
                run.try_again()
            count = min(launchers[shape].slurm.jobs or len(missing[shape]), len(missing[shape]))
            arrays += slurm.submit(folder / "job.sbatch", count, name=job_name(study_dir), comment=folder.name)
        return arrays


def _write(jobs_dir: Path, runs: Sequence[RunDir], launcher: LauncherConfig) -> Path:
    """A folder with all that an array of jobs needs."""
    nodes, ranks = launcher.nodes, launcher.ranks
    begun = time.strftime("%Y%m%d-%H%M%S")
    ids = [run.run_id for run in runs]
    mark = hashlib.sha256(json.dumps([begun, ids]).encode()).hexdigest()[:4]
    folder = jobs_dir / f"{begun}-{nodes}x{ranks // nodes}-{mark}"
    folder.mkdir()
    write_json(folder / "job.json", {"runs": ids, "nodes": nodes, "ranks": ranks})
    script = batch_script(launcher, folder, name=job_name(jobs_dir.parent))
    write_atomic(folder / "job.sbatch", script)
    return folder


def batch_script(launcher: LauncherConfig, folder: Path, *, name: str) -> str:
    """What `sbatch` is given: what one run asks of a node, as often as runs are side by side; they share its GPUs."""
    site, ranks = launcher.slurm, launcher.ranks // launcher.nodes
    on_cpus = ranks * max(1, launcher.workers)
    memory = f"{round(1024 * site.mem_gb_per_rank * on_cpus)}M" if site.mem_gb_per_rank else None
    asked = {
        "job-name": name,
        "partition": site.partition,
        "account": site.account,
        "qos": site.qos,
        "constraint": site.constraint,
        "time": site.time_min,
        "nodes": launcher.nodes,
        "ntasks-per-node": 1,
        "cpus-per-task": site.cpus_per_rank * on_cpus,
        "gpus-per-node": site.gpus_per_rank * ranks or None,
        "mem": memory,
        "signal": f"B:USR1@{site.stop_s}",
        "output": str(folder.absolute()).replace("%", "%%") + "/%A_%a.txt",
        "open-mode": "append",
    }
    python = site.python or shlex.quote(sys.executable)
    lines = [f"#SBATCH --{key}={shlex.quote(str(value))}" for key, value in asked.items() if value is not None]
    lines += ["#SBATCH --requeue", *(f"#SBATCH {option}" for option in site.options), "", "set -e"]
    lines += ["trap '' USR1 # until scaling.launch.job listens, it would end the job", *site.setup]
    lines += [
        f"cd {shlex.quote(str(Path.cwd()))}",
        f"exec {python} -m scaling.launch.job {shlex.quote(str(folder.absolute()))}",
    ]
    return "\n".join(["#!/usr/bin/env bash", *lines, ""])
