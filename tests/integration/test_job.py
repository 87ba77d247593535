"""What a job of a cluster does with its list of runs; `scontrol` is a script that writes down what it was asked."""

import json
import os
import signal
import stat
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from experiments.launchers import LAUNCHERS
from experiments.train import stage
from scaling.config import BudgetConfig, DataConfig, LauncherConfig, RunConfig, SlurmConfig, StudyConfig, TrainConfig
from scaling.launch.job import failed_at_start
from scaling.launch.pool import Event
from scaling.launch.worker import DATA_VARIABLE
from scaling.models.egnn import EGNNConfig
from scaling.runs.store import RunDir
from tests.conftest import ROOT


class Job:
    """A folder as `scaling.launch.submission` writes it, and a process that works on it."""

    def __init__(self, tmp_path: Path, runs: list[RunDir], stop_s: int = 60) -> None:
        self.here, self.folder = tmp_path, runs[0].path.parent / "slurm" / "one"
        self.folder.mkdir(parents=True)
        (self.folder / "job.json").write_text(
            json.dumps({"runs": [run.run_id for run in runs], "nodes": 1, "ranks": 1})
        )
        scontrol = tmp_path / "scontrol"
        scontrol.write_text(f"#!/bin/sh\necho $@ >> {tmp_path}/asked\nkill -9 $PPID\n")  # as SLURM ends a requeued job
        scontrol.chmod(stat.S_IRWXU)

    def start(self, **variables: str) -> subprocess.Popen:
        environment = {**os.environ, "PATH": f"{self.here}:{os.environ['PATH']}", "SLURM_JOB_ID": "7", **variables}
        command = [sys.executable, "-m", "scaling.launch.job", str(self.folder)]
        return subprocess.Popen(command, cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True)

    def asked(self) -> list[str]:
        path = self.here / "asked"
        return path.read_text().splitlines() if path.exists() else []


@pytest.fixture
def runs(tiny_data, tmp_path, monkeypatch):
    """Stages runs of a number of steps, without a cluster that would look at their jobs first."""
    unseen = replace(LAUNCHERS["slurm"], validate=lambda runs, configs: None)
    monkeypatch.setitem(LAUNCHERS, "slurm", unseen)

    def make(steps: int, *widths: int, **launcher) -> list[RunDir]:
        base = RunConfig(
            data=DataConfig(path=str(tiny_data)),
            train=TrainConfig(budget=BudgetConfig(amount=steps), batch_size=2, checkpoint_every=1_000_000),
            launcher=LauncherConfig(kind="slurm", slurm=SlurmConfig(stop_s=60), **launcher),
            study=StudyConfig(root=str(tmp_path), name="study"),
        )
        return stage([replace(base, model=EGNNConfig(width=width)) for width in widths])

    return make


def test_job_computes_what_is_left_and_no_run_of_another_shape(runs, tmp_path):
    small, failed, large = runs(3, 4, 5, 6)
    job = Job(tmp_path, [small, failed, large])
    failed.write_status("failed", failure="why")
    large.stage(replace(large.config(), launcher=LauncherConfig(kind="slurm", ranks=2)))
    assert job.start().wait(timeout=200) == 0
    assert [run.status().state for run in (small, failed, large)] == ["done", "failed", "waiting"]
    assert small.status().job == "7"
    assert not job.asked()


@pytest.mark.parametrize(("sign", "asked"), [(signal.SIGUSR1, ["requeue 7"]), (signal.SIGTERM, [])])
def test_job_that_is_to_end_stops_its_runs_and_requeues_only_for_its_limit(runs, tmp_path, sign, asked):
    (run,) = runs(1_000_000, 4)
    job = Job(tmp_path, [run])
    process = job.start()
    deadline = time.monotonic() + 100
    while run.status().step == 0 and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(sign)
    process.wait(timeout=100)
    assert job.asked() == asked
    status = run.status()
    assert (status.state, status.step) == ("waiting", run.newest_checkpoint())
    assert "to go on from there" in status.failure


def test_node_on_which_every_run_fails_does_not_take_them_all(runs, tmp_path):
    several = runs(3, 4, 5, 6, 7, 8)
    job = Job(tmp_path, several)
    process = job.start(SLURM_JOB_NODELIST="n9", **{DATA_VARIABLE: "/nonexistent"})
    said = process.communicate(timeout=200)[1]
    assert process.returncode == 1
    assert [run.status().state for run in several] == ["failed"] * 3 + ["waiting"] * 2
    assert "error: 3 runs in a row failed on n9 before they had made a step" in said
    assert "--exclude=n9" in said
    assert "Traceback" not in said.splitlines()[-1]
    assert not job.asked()


@pytest.mark.parametrize(
    ("state", "status", "counted"),
    [
        ("failed", {"cause": "exception", "step": 20}, 3),
        ("failed", {"cause": "killed", "step": 0}, 3),
        ("failed", {"cause": "exception", "step": 30}, 0),
        ("failed", {"cause": "out of memory", "step": 20}, 2),
        ("failed", {"cause": "exception", "step": 20, "job": "another"}, 2),
        ("done", {"step": 20}, 0),
    ],
)
def test_only_runs_that_fail_here_before_a_step_speak_against_a_node(tmp_path, monkeypatch, state, status, counted):
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    run = RunDir(tmp_path / "run")
    run.path.mkdir()
    run.write_status("failed", **{"job": "7", **status})
    assert failed_at_start(Event(run, state), {run: 20}, 2) == counted
