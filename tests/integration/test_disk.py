"""The disk that a plan states is what a run takes, while it trains and when it is done."""

from dataclasses import replace

import pytest

from scaling.config import BudgetConfig, DataConfig, RunConfig, TrainConfig, ZeroConfig
from scaling.data.shards import ShardSet
from scaling.models.egnn import EGNNConfig
from scaling.planning import data_of, plan_run
from scaling.planning.disk import KEPT, disk_of
from scaling.planning.rate import Rate
from scaling.runs.identity import run_id
from scaling.runs.store import RunDir
from scaling.training import checkpoint
from scaling.training.checkpoint import Checkpoints
from scaling.training.loop import train
from scaling.training.world import World


def size_of(run: RunDir) -> int:
    return sum(path.stat().st_size for path in run.checkpoints.rglob("*") if path.is_file())


@pytest.fixture
def run_of(tiny_data, tmp_path):
    def staged(zero: ZeroConfig) -> tuple[RunConfig, RunDir]:
        often = TrainConfig(BudgetConfig(amount=40), batch_size=8, validate_every=10, checkpoint_every=10)
        data = DataConfig(path=str(tiny_data), cutoff_ang=4.5)
        config = replace(RunConfig(), data=data, model=EGNNConfig(width=128, depth=2), train=often, zero=zero)
        run = RunDir(tmp_path / run_id(config, ShardSet(tiny_data).manifest.digest))
        run.stage(config)
        return config, run

    return staged


@pytest.mark.parametrize("stage", [0, 1, 2, 3])
def test_disk_of_a_run_is_stated_within_5_percent(run_of, stage, monkeypatch):
    config, run = run_of(ZeroConfig(stage))
    seen, thin = [0], Checkpoints._thin

    def noted(self, progress):
        seen.append(size_of(run))
        thin(self, progress)

    monkeypatch.setattr(Checkpoints, "_thin", noted)
    train(config, run, World.join())
    run.tidy()
    row = plan_run(config, data_of(config), Rate(((1, 1e9),)), device="cpu", limit=2**34)
    best = {line for line in run.metrics_path.read_text().splitlines() if "val_loss" in line}
    assert len(best) == 4
    assert max(seen) == pytest.approx(row["disk_bytes_training"], rel=0.05)
    assert size_of(run) == pytest.approx(row["disk_bytes_kept"], rel=0.05)
    other = disk_of(row["num_params"], zero_stage=1 if stage in (0, 3) else 0, steps=40, train=config.train)
    assert max(seen) != pytest.approx(other.training_bytes, rel=0.05), "the control: the stage is seen"


def test_numbers_of_files_that_are_kept_are_those_of_the_checkpoints():
    assert KEPT == checkpoint.KEPT
