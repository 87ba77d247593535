"""What a run learns from and by what it is judged: its own structures, and the same measure at every fraction."""

import shutil
from types import SimpleNamespace

import numpy as np
import pytest

from scaling.config import DataConfig, RunConfig
from scaling.data import Baseline
from scaling.data.baseline import _least_squares
from scaling.data.preparation import prepare
from scaling.data.sources.mixed import Mixed
from scaling.training.losses import Loss
from scaling.training.task import Task
from tests.unit.training.runs import losses, trained


def test_a_fraction_learns_from_its_own_labels_and_is_judged_as_the_whole(tiny_data):
    config = RunConfig(data=DataConfig(path=str(tiny_data), fraction=0.25))
    task = Task.of(config)
    own, whole = (Baseline.fit(task.shards, part, task.edges[part]) for part in (task.train, task.split.train))
    np.testing.assert_array_equal(task.baseline.reference_ev, own.reference_ev)
    assert task.train_loss == Loss.of(config.train, own)
    assert task.judge_loss == Loss.of(config.train, whole)
    assert own.force_mae_ev_per_ang != whole.force_mae_ev_per_ang, "the control"
    assert np.abs(own.reference_ev - whole.reference_ev).max() > 1e-3, "the control"


def test_parts_of_a_mixed_set_weigh_in_the_loss_as_they_were_given(tiny_data, tmp_path):
    shutil.copytree(tiny_data, tmp_path / "other")
    found = {}
    for weight in (1.0, 3.0):
        out = tmp_path / f"mixed-{weight:g}"
        prepare(Mixed(paths=[str(tiny_data), str(tmp_path / "other")], weights=[1.0, weight]), out, progress=False)
        task = Task.of(RunConfig(data=DataConfig(path=str(out))))
        assert task.loss_weight[1] / task.loss_weight[0] == pytest.approx(weight)
        assert task.loss_weight[task.shards.source[task.train]].mean() == pytest.approx(1.0)
        found[weight] = losses(trained(out, tmp_path / "studies", ["train.budget.amount=4"]))
    assert found[3.0] != pytest.approx(found[1.0], rel=1e-4), "weights reach the steps"


@pytest.mark.parametrize("count", [60, 2000, 11_001])
def test_references_of_one_composition_are_of_least_norm(count):
    """However many rows are folded, their rounding is not taken for a second composition."""
    ethanol = np.array([6, 2, 1])
    energy = -4200 + np.random.default_rng(0).normal(size=count)
    shards = SimpleNamespace(
        manifest=SimpleNamespace(parts=["one"], elements=[1, 6, 8]),
        energy=energy,
        source=np.zeros(count, np.uint8),
        compositions=lambda some: ((part, np.tile(ethanol, (len(part), 1))) for part in np.array_split(some, 3)),
    )
    found = _least_squares(shards, np.arange(count))[0]
    assert found @ ethanol == pytest.approx(energy.mean())
    np.testing.assert_allclose(found, energy.mean() * ethanol / (ethanol @ ethanol), rtol=1e-9)
