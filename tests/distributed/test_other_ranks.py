"""A run that was broken off goes on with another number of ranks, to the same losses."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest
from omegaconf import OmegaConf

from experiments.train import stage
from scaling.config import validated
from scaling.launch.pool import run_all

SETTINGS = [
    *["model.width=8", "train.batch_size=9", "optim.lr=0.005", "study.name=tiny"],
    *["train.budget.amount=15", "train.validate_every=5", "train.checkpoint_every=5"],  # more would amplify rounding
]


def staged(tiny_data, root, ranks: int, zero_stage: int, graph: int = 1):
    where = [f"data.path={tiny_data}", f"study.root={root}"]
    logistics = [f"launcher.ranks={ranks}", f"zero.stage={zero_stage}", f"parallel.graph={min(graph, ranks)}"]
    (run,) = stage([validated(OmegaConf.from_dotlist([*SETTINGS, *where, *logistics]))])
    return run


def compute(run) -> list[float]:
    ended = [event for event in run_all([run], slots=[""], threads=1) if event.run]
    assert [(event.state, event.failure) for event in ended] == [("done", "")]
    lines = [json.loads(line) for line in run.metrics_path.read_text().splitlines()]
    return [line["val_loss"] for line in lines if "val_loss" in line] + [run.result().test_loss]


def break_off(run, ranks: int) -> None:
    """Compute until the first checkpoint is there, then kill all ranks."""
    torchrun = [
        "-m",
        "torch.distributed.run",
        "--standalone",
        f"--nproc-per-node={ranks}",
        "-m",
        "scaling.launch.worker",
    ]
    process = subprocess.Popen([sys.executable, *torchrun, str(run.path)], start_new_session=True, stderr=-3, stdout=-3)
    deadline = time.monotonic() + 100
    while not list(run.checkpoints.glob("step-*")) and time.monotonic() < deadline:
        time.sleep(0.002)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert not run.result_path.exists(), "killed before its end"


@pytest.fixture(scope="module")
def undisturbed(tiny_data, tmp_path_factory) -> list[float]:
    return compute(staged(tiny_data, tmp_path_factory.mktemp("undisturbed"), ranks=1, zero_stage=0))


@pytest.mark.parametrize(
    ("zero_stage", "before", "after", "graph"),
    [
        (0, 2, 1, 2),
        pytest.param(1, 2, 1, 1, marks=pytest.mark.long),
        (2, 2, 1, 1),
        pytest.param(3, 2, 1, 1, marks=pytest.mark.long),
        (3, 1, 2, 2),
    ],
)
def test_run_goes_on_with_another_number_of_ranks(undisturbed, tiny_data, tmp_path, zero_stage, before, after, graph):
    """graph: how many ranks share each batch, where there are as many."""
    break_off(staged(tiny_data, tmp_path, before, zero_stage, graph), before)
    run = staged(tiny_data, tmp_path, after, zero_stage, graph)
    losses = compute(run)
    assert "resumed at step" in (run.path / "log.txt").read_text()
    assert losses == pytest.approx(undisturbed, rel=1e-5)
