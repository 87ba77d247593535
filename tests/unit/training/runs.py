"""Tiny runs, trained in this process."""

import json
from dataclasses import replace
from typing import Any

from omegaconf import OmegaConf

from scaling.config import validated
from scaling.data.shards import ShardSet
from scaling.runs.identity import run_id
from scaling.runs.store import RunDir
from scaling.training.loop import train
from scaling.training.world import World

COMMON = ["model.width=8", "optim.lr=0.02", "train.batch_size=9", "train.budget.amount=12", "train.validate_every=4"]


def trained(data, root, overrides=(), **replaced: Any) -> RunDir:
    """A run that is done; `replaced`: parts of its configuration, of types that overrides cannot name."""
    config = validated(OmegaConf.from_dotlist([*COMMON, f"data.path={data}", f"study.root={root}", *overrides]))
    config = replace(config, **replaced)
    run = RunDir(root / run_id(config, ShardSet(data).manifest.digest))
    run.stage(config)
    train(config, run, World.join())
    return run


def losses(run: RunDir) -> list[float]:
    """Validation losses along the way, the last training loss and the test loss."""
    lines = [json.loads(line) for line in run.metrics_path.read_text().splitlines()]
    found = [line["val_loss"] for line in lines if "val_loss" in line]
    return [*found, *(line["train_loss"] for line in lines if "train_loss" in line), run.result().test_loss]
