"""Losses of short seeded runs stay what they were: a change that is meant to change nothing changes none of them."""

import json

import pytest
from omegaconf import OmegaConf

from scaling.config import validated
from scaling.data.shards import ShardSet
from scaling.runs.identity import run_id
from scaling.runs.store import RunDir
from scaling.training.engine import World
from scaling.training.loop import train

COMMON = [
    *["model.width=8", "optim.lr=0.02", "train.batch_size=9", "train.budget.amount=12", "train.validate_every=4"],
    *["train.force_weight=0.3", "train.energy_weight=0.7", "optim.weight_decay=0.1"],
]
#: Other processors sum in another order, which twelve steps amplify; another seed is hundreds of times farther off.
TOLERANCE = 1e-4
#: Validation losses of steps 4, 8 and 12, the last training loss and the test loss.
GOLDEN = {
    "egnn": ([], [1.31089192, 1.05867716, 1.05059982, 1.22041839, 1.05926227]),
    "egnn, direct forces, stage 2, micro-batches": (
        ["model.forces=direct", "zero.stage=2", "train.max_edges=300"],
        [1.00117810, 1.13443098, 1.05382090, 1.24917174, 1.17451749],
    ),
    "gemnet_t": (
        ["model.name=gemnet_t", "model.depth=1", "optim.lr=0.002"],
        [1.02744835, 1.09741475, 1.14117901, 1.08048258, 1.02350270],
    ),
}


def losses(tiny_data, root, overrides) -> list[float]:
    config = validated(OmegaConf.from_dotlist([*COMMON, f"data.path={tiny_data}", f"study.root={root}", *overrides]))
    run = RunDir(root / run_id(config, ShardSet(tiny_data).manifest.digest))
    run.stage(config)
    train(config, run, World.join())
    lines = [json.loads(line) for line in run.metrics_path.read_text().splitlines()]
    found = [line["val_loss"] for line in lines if "val_loss" in line]
    return [*found, *(line["train_loss"] for line in lines if "train_loss" in line), run.result().test_loss]


@pytest.mark.parametrize("name", GOLDEN)
def test_losses_are_those_of_before(name, tiny_data, tmp_path):
    overrides, golden = GOLDEN[name]
    found = losses(tiny_data, tmp_path, overrides)
    assert found == pytest.approx(golden, rel=TOLERANCE)


def test_another_seed_would_be_noticed(tiny_data, tmp_path):
    _, golden = GOLDEN["egnn"]
    assert losses(tiny_data, tmp_path, ["seed=1"]) != pytest.approx(golden, rel=10 * TOLERANCE)
