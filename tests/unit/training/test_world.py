"""Where a run computes: a GPU that was asked for and is not there is an error, and never the CPU in silence."""

import os
import subprocess
import sys

import pytest
import torch

from scaling.errors import ConfigError
from scaling.training import world
from scaling.training.world import World, require_gpu


@pytest.fixture(autouse=True)
def nothing_chosen(monkeypatch):
    """A machine without a GPU, on which the user has not chosen the CPU."""
    monkeypatch.setattr(world, "ASKED_ACCELERATOR", "")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


@pytest.mark.parametrize(
    ("visible", "gpus_per_rank", "asked"),
    [("0", 0, "CUDA_VISIBLE_DEVICES=0"), ("2,3", 0, "CUDA_VISIBLE_DEVICES=2,3"), ("", 1, "gpus_per_rank=1")],
)
def test_gpu_that_was_asked_for_and_is_not_there_is_an_error(visible, gpus_per_rank, asked, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    with pytest.raises(ConfigError) as refused:
        World.join(gpus_per_rank=gpus_per_rank)
    assert f"{asked} asks for a GPU, but torch {torch.__version__}" in str(refused.value)
    assert "DS_ACCELERATOR=cpu" in str(refused.value)


@pytest.mark.parametrize("visible", ["", "-1", "NoDevFiles", None])
def test_where_nobody_asks_the_cpu_is_taken(visible, monkeypatch):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert World.join(gpus_per_rank=0).device.type == "cpu"


def test_cpu_that_was_chosen_is_taken_whatever_the_launcher_gives(monkeypatch):
    monkeypatch.setattr(world, "ASKED_ACCELERATOR", "cpu")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    assert World.join(gpus_per_rank=1).device.type == "cpu"


def test_children_see_what_the_user_has_chosen_and_not_what_the_engine_set():
    """Ranks are started by processes that have imported the engine; they must still notice that a GPU is missing."""
    asked = "import os, scaling.training.engine; print(os.environ.get('DS_ACCELERATOR'))"
    for chosen in (None, "cpu"):
        environment = {key: value for key, value in os.environ.items() if key != "DS_ACCELERATOR"}
        environment |= {"DS_ACCELERATOR": chosen} if chosen else {}
        done = subprocess.run(
            [sys.executable, "-c", asked], env=environment, capture_output=True, text=True, check=True
        )
        assert done.stdout.split() == [str(chosen)]


def test_gpu_that_is_there_is_no_error_and_one_that_is_not_is(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    with pytest.raises(ConfigError):
        require_gpu(1)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert require_gpu(1) is None
