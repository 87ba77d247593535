"""What a run reports as it goes, and to whom."""

import importlib.util
import json
import math

import pytest

from scaling import logistics
from scaling.config import TrackingConfig
from scaling.errors import ConfigError
from scaling.training import tracking
from scaling.training.tracking import MetricsLog, Trackers, build_tracker
from tests.unit.training.runs import trained

has_tensorboard = importlib.util.find_spec("tensorboard") is not None


def test_number_that_is_not_finite_becomes_null_and_the_log_goes_on(tmp_path):
    log = MetricsLog(tmp_path / "metrics.jsonl", keep_bytes=0)
    log.log(1, {"val_loss": math.nan})
    log.log(2, {"val_loss": 0.5, "lr": math.inf})
    log.close()
    lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == [
        {"step": 1, "val_loss": None},
        {"step": 2, "val_loss": 0.5, "lr": None},
    ]


def test_log_is_cut_back_to_where_the_checkpoint_was(tmp_path):
    path = tmp_path / "metrics.jsonl"
    log = MetricsLog(path, keep_bytes=0)
    log.log(1, {})
    kept = log.num_bytes()
    log.log(2, {})
    log.close()
    again = MetricsLog(path, keep_bytes=kept)
    again.log(3, {})
    again.close()
    assert [json.loads(line)["step"] for line in path.read_text().splitlines()] == [1, 3]


class Listed:
    """A tracker that keeps what it is given."""

    found: list
    is_closed = False

    def __init__(self, run, first_step):
        self.first_step, self.found = first_step, []

    def log(self, step, values):
        self.found.append((step, values))

    def close(self):
        self.is_closed = True


def test_new_tracker_is_one_entry_and_sees_what_metrics_jsonl_holds(tiny_data, tmp_path, monkeypatch):
    made = []
    monkeypatch.setattr(logistics, "TRACKERS", (*logistics.TRACKERS, "listed"))
    monkeypatch.setitem(tracking.TRACKERS, "listed", lambda run, first: made.append(Listed(run, first)) or made[0])
    run = trained(tiny_data, tmp_path, ["train.budget.amount=4"], tracking=TrackingConfig("listed"))
    (listed,) = made
    assert listed.first_step == 1
    assert listed.is_closed
    lines = [json.loads(line) for line in run.metrics_path.read_text().splitlines()]
    assert [{"step": step, **values} for step, values in listed.found] == lines
    assert {"train_loss", "val_loss"} <= {key for line in lines for key in line}


def test_tracking_does_not_enter_the_identity_of_a_run(tiny_data, tmp_path):
    plain, tracked = ([*overrides, "train.budget.amount=2"] for overrides in ([], ["tracking.name=none"]))
    assert trained(tiny_data, tmp_path / "a", plain).run_id == trained(tiny_data, tmp_path / "b", tracked).run_id


def test_ranks_but_the_first_report_nothing(tmp_path):
    others = Trackers.build(TrackingConfig(), tmp_path, step=0, keep_bytes=0, is_first=False)
    others.log(1, train_loss=1.0)
    assert others.num_bytes() == 0
    others.close()
    assert list(tmp_path.iterdir()) == []


def test_unknown_tracker_is_refused_with_what_is_allowed(tmp_path):
    with pytest.raises(ConfigError, match=r"tracking\.name=wandb must be one of none, tensorboard"):
        TrackingConfig("wandb")
    assert {*logistics.TRACKERS} == {"none", *tracking.TRACKERS}


@pytest.mark.skipif(has_tensorboard, reason="tensorboard is installed")
def test_tracker_whose_package_is_missing_is_refused_with_the_way_out(tmp_path):
    with pytest.raises(ConfigError, match=r"tracking\.name=tensorboard needs .* pip install .*, or set tracking\.name"):
        build_tracker(TrackingConfig("tensorboard"), tmp_path, 1)


@pytest.mark.skipif(not has_tensorboard, reason="tensorboard is not installed")
def test_tensorboard_gets_the_numbers_of_each_step(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    tracker = build_tracker(TrackingConfig("tensorboard"), tmp_path, 1)
    tracker.log(50, {"train_loss": 0.5, "structures": [1, 2]})
    tracker.log(100, {"train_loss": 0.25})
    tracker.close()
    found = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert found.Tags()["scalars"] == ["train_loss"]
    assert [(event.step, event.value) for event in found.Scalars("train_loss")] == [(50, 0.5), (100, 0.25)]
