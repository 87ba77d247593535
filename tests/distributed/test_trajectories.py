"""The numbers do not depend on the machine: ranks, micro-batches, stages and checkpointing leave the losses alone."""

import json
from pathlib import Path

import pytest

from tests.distributed.runs import staged, trained

STEPS = 8
COMMON = [
    "model.width=8",
    f"train.budget.amount={STEPS}",
    "train.batch_size=9",
    "train.validate_every=4",
    "optim.lr=0.02",
]
GEMNET = ["model=gemnet_t", "model.depth=1", "optim.lr=0.002"]
RUNS = {
    "reference": [],
    "two ranks": ["launcher.ranks=2"],
    "micro-batches": ["train.max_edges=500"],
    "both, stage 2, checkpointing": [
        *["launcher.ranks=2", "train.max_edges=500", "zero.stage=2", "zero.checkpointing=1"],
    ],
    "stage 1, loader process": ["zero.stage=1", "data.num_workers=1"],
    "another seed": ["seed=1"],
    "bf16": ["train.precision=bf16"],
    "stage 3, two ranks": ["zero.stage=3", "launcher.ranks=2", "zero.checkpointing=2", "train.max_edges=500"],
    "batches shared by two ranks, micro-batches": ["parallel.graph=2", "launcher.ranks=2", "train.max_edges=500"],
    "gemnet_t": [*GEMNET],
    "gemnet_t, batches shared, stage 2": [*GEMNET, "parallel.graph=2", "launcher.ranks=2", "zero.stage=2"],
    "direct": ["model.forces=direct"],
    "direct, stage 3, two ranks": ["model.forces=direct", "zero.stage=3", "launcher.ranks=2"],
}


@pytest.fixture(scope="module")
def losses(tiny_data, shared) -> dict[str, list[float]]:
    """Validation losses along the way, the last training loss and the test loss of each of RUNS."""

    def train_all(root: Path) -> None:
        runs = {
            name: staged(tiny_data, root, f"study.name=s{number}", *COMMON, *overrides)
            for number, (name, overrides) in enumerate(RUNS.items())
        }
        found = {name: _losses(trained(run)) for name, run in runs.items()}
        (root / "losses.json").write_text(json.dumps(found))

    return json.loads((shared("trajectories", train_all) / "losses.json").read_text())


def _losses(run) -> list[float]:
    lines = [json.loads(line) for line in run.metrics_path.read_text().splitlines()]
    found = [line["val_loss"] for line in lines if "val_loss" in line]
    assert len(found) == STEPS // 4
    return [*found, *(line["train_loss"] for line in lines if "train_loss" in line), run.result().test_loss]


@pytest.mark.parametrize(
    "name",
    [
        *["two ranks", "micro-batches", "both, stage 2, checkpointing", "stage 1, loader process"],
        *["stage 3, two ranks", "batches shared by two ranks, micro-batches"],
    ],
)
def test_losses_are_those_of_one_rank_and_one_micro_batch(losses, name):
    assert losses[name] == pytest.approx(losses["reference"], rel=1e-5)


def test_batches_of_gemnet_may_be_shared(losses):
    assert losses["gemnet_t, batches shared, stage 2"] == pytest.approx(losses["gemnet_t"], rel=1e-5)


def test_stage_3_follows_stage_0_with_direct_forces(losses):
    assert losses["direct, stage 3, two ranks"] == pytest.approx(losses["direct"], rel=1e-5)


def test_bf16_stays_within_three_percent_of_fp32(losses):
    assert losses["bf16"] == pytest.approx(losses["reference"], rel=0.03)
    assert losses["bf16"] != pytest.approx(losses["reference"], rel=1e-6), "the control: it did compute in bf16"


def test_another_seed_gives_other_losses(losses):
    """The control: the tolerance does tell trajectories apart."""
    assert losses["another seed"] != pytest.approx(losses["reference"], rel=1e-3)
