"""A run that was interrupted goes on with another number of ranks, to the same losses."""

import json
import time

import pytest

from tests.distributed.runs import staged, trained
from tests.ranks import started_ranks

SETTINGS = [
    *["model.width=8", "train.batch_size=9", "optim.lr=0.005", "study.name=tiny"],
    *["train.budget.amount=15", "train.validate_every=5", "train.checkpoint_every=5"],  # more would amplify rounding
]


def of_ranks(tiny_data, root, ranks: int, zero_stage: int, graph: int = 1):
    logistics = [f"launcher.ranks={ranks}", f"zero.stage={zero_stage}", f"parallel.graph={min(graph, ranks)}"]
    return staged(tiny_data, root, *SETTINGS, *logistics)


def losses_of(run) -> list[float]:
    lines = [json.loads(line) for line in run.metrics_path.read_text().splitlines()]
    return [line["val_loss"] for line in lines if "val_loss" in line] + [run.result().test_loss]


def break_off(run) -> None:
    """Compute until the first checkpoint is there, then kill all ranks."""
    deadline = time.monotonic() + 100
    with started_ranks("scaling.launch.worker", run.config().launcher.ranks, str(run.path), log=run.path / "log.txt"):
        while not list(run.checkpoints.glob("step-*")) and time.monotonic() < deadline:
            time.sleep(0.002)
    assert not run.result_path.exists(), "killed before its end"


@pytest.fixture(scope="module")
def undisturbed(tiny_data, tmp_path_factory) -> list[float]:
    return losses_of(trained(of_ranks(tiny_data, tmp_path_factory.mktemp("undisturbed"), ranks=1, zero_stage=0)))


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
    break_off(of_ranks(tiny_data, tmp_path, before, zero_stage, graph))
    run = trained(of_ranks(tiny_data, tmp_path, after, zero_stage, graph))
    assert "resumed at step" in (run.path / "log.txt").read_text()
    assert losses_of(run) == pytest.approx(undisturbed, rel=1e-5)
