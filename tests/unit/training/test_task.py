"""What a run learns from and by what it is judged: its own structures, and the same measure at every fraction."""

import shutil
from dataclasses import replace

import numpy as np
import pytest

from scaling.config import DataConfig, RunConfig
from scaling.data import Baseline, ShardSet
from scaling.data.preparation import prepare
from scaling.data.sources.emt import Emt
from scaling.data.sources.mixed import Mixed
from scaling.structure import Structure
from scaling.training.losses import Loss
from scaling.training.task import Task
from tests.unit.training.runs import losses, trained

WATER = np.array([8, 1, 1])
POSITIONS = np.array([[0.0, 0.0, 0.0], [0.96, 0.0, 0.0], [-0.24, 0.93, 0.0]])


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


def test_references_of_one_molecule_are_of_least_norm(tmp_path):
    """Whatever the rounding of thousands of rows: one composition says one number, and no more."""

    class OneMolecule(Emt):
        def read(self, task):
            for entry in super().read(task):
                if isinstance(entry, Structure):
                    shaken = np.random.default_rng(sum(map(ord, entry.record)) + len(entry.numbers)).normal(size=3)
                    atoms = {
                        "numbers": WATER,
                        "positions": POSITIONS + 0.01 * shaken[:, None],
                        "forces": np.ones((3, 3)),
                    }
                    cell = {"cell": np.zeros((3, 3)), "pbc": np.zeros(3, dtype=bool)}
                    yield replace(entry, **atoms, **cell, energy=-2079.5 + 0.1 * shaken[0])

    prepare(OneMolecule(num_structures=2000), tmp_path / "water", progress=False)
    shards = ShardSet(tmp_path / "water")
    chosen = np.arange(len(shards))
    found = Baseline.fit(shards, chosen, shards.rows["num_edges"][chosen]).reference_ev[0]
    assert found @ [2, 1] == pytest.approx(-2079.5, abs=0.1)
    assert np.abs(found).max() < 2100, "two atoms of hydrogen and one of oxygen share it"
