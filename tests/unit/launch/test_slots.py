"""How many runs fit side by side, and that a job which asked for GPUs never trains on CPUs in silence."""

import os
from dataclasses import replace

import pytest
import torch

from scaling.config import LauncherConfig, RunConfig, SlurmConfig
from scaling.errors import ConfigError, RunError
from scaling.launch import pool
from scaling.launch.pool import slots


def run_with(**launcher) -> RunConfig:
    return replace(RunConfig(), launcher=LauncherConfig(**launcher))


ON_GPUS = {"kind": "slurm", "slurm": SlurmConfig(gpus_per_rank=1, ranks_per_node=4)}


@pytest.mark.parametrize(
    ("accelerator", "visible", "words"),
    [
        ("cpu", "0", "DS_ACCELERATOR=cpu is set, unset it"),
        ("cuda", "0", f"torch {torch.__version__} is built for"),
        ("cuda", "", f"torch {torch.__version__} is built for"),
    ],
)
def test_job_that_asked_for_gpus_and_sees_none_is_refused(accelerator, visible, words, monkeypatch):
    monkeypatch.setenv("DS_ACCELERATOR", accelerator)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    with pytest.raises(RunError) as refused:
        slots(run_with(**ON_GPUS))
    assert "launcher.slurm.gpus_per_rank=1, but no GPU can be seen" in str(refused.value)
    assert words in str(refused.value)
    assert "launcher=slurm_cpu" in str(refused.value)


def test_runs_share_the_gpus_of_a_job_by_their_names(monkeypatch):
    monkeypatch.setenv("DS_ACCELERATOR", "cuda")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,3,5,7")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    assert slots(run_with(**ON_GPUS, ranks=2)) == ["2,3", "5,7"]
    with pytest.raises(ConfigError, match=r"launcher\.ranks=8 must be at most 4"):
        slots(run_with(kind="local", ranks=8))


def test_runs_on_cpus_take_the_cores_by_ranks_and_threads(monkeypatch):
    monkeypatch.setenv("DS_ACCELERATOR", "cpu")
    monkeypatch.setattr(pool, "_cores", lambda: 8)
    assert slots(run_with()) == [""] * 8
    assert slots(run_with(ranks=2)) == [""] * 4
    assert slots(replace(run_with(ranks=2), train=replace(RunConfig().train, num_threads=4))) == [""]
    assert slots(run_with(workers=3)) == [""] * 3


def test_cores_of_another_node_do_not_reach_this_one(monkeypatch):
    here = len(os.sched_getaffinity(0))
    monkeypatch.setenv("SLURM_CPUS_ON_NODE", str(here + 62))
    assert slots(run_with()) == [""] * here
    monkeypatch.setenv("SLURM_CPUS_ON_NODE", "1")
    assert slots(run_with()) == [""]
