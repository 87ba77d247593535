"""A family of networks in a file of its own trains, is planned and collected like the others."""

import json

import pandas as pd
import pytest
import torch
from omegaconf import OmegaConf

from scaling.config import validated
from scaling.errors import ConfigError
from scaling.models import build
from scaling.models.config import FAMILIES, family
from scaling.models.counting import parameters_of, training_flops, with_width
from tests.conftest import run_process
from tests.unit.models.test_physics import crystal, graphs


@pytest.fixture
def toy(monkeypatch):
    """The family, known in this process for as long as the test takes."""
    monkeypatch.setitem(FAMILIES, "toy", "tests.reference.toy_family:ToyConfig")
    return family("toy")


def known(command: str, *arguments: str):
    """A command in whose processes the family is known."""
    return run_process("tests.reference.toy_family", command, *arguments)


def test_family_is_planned_trained_and_collected(tiny_data, tmp_path):
    where = [f"data.path={tiny_data}", f"study.root={tmp_path}", "study.name=s"]
    asked = ["model=toy", "model.num_bumps=5", "model.width=4", "train.budget.amount=4", "train.validate_every=2"]
    planned = known("experiments.plan", *where, *asked, "plan.flops_per_s=1e9")
    assert planned.returncode == 0, planned.stderr
    trained = known("experiments.train", *where, *asked)
    assert trained.returncode == 0, trained.stderr
    collected = known("experiments.collect", str(tmp_path / "s"))
    assert collected.returncode == 0, collected.stderr
    row = pd.read_parquet(tmp_path / "s" / "runs.parquet").iloc[0]
    (plan,) = json.loads((tmp_path / "s" / "plan.json").read_text())["runs"]
    assert (row["model"], row["width"], row["status"]) == (plan["model"], plan["width"], "done") == ("toy", 4, "done")
    assert row["num_params"] == plan["num_params"] > 0
    assert row["num_params_embedding"] == plan["num_params_embedding"] > 0
    assert row["test_loss"] > 0


def test_family_that_is_not_registered_is_refused_with_those_that_are():
    """The control."""
    with pytest.raises(ConfigError, match=r"model\.name=toy must be one of egnn, dimenetpp, gemnet_t"):
        validated(OmegaConf.create({"model": {"name": "toy"}}))


def test_typo_among_its_keys_and_a_key_of_another_family_are_refused(toy):
    with pytest.raises(ConfigError, match=r"model\.num_bump is not a key; did you mean model\.num_bumps\?"):
        validated(OmegaConf.create({"model": {"name": "toy", "num_bump": 3}}))
    with pytest.raises(ConfigError, match=r"model\.num_bumps=3 must be left out for model\.name=egnn; it is of toy"):
        validated(OmegaConf.create({"model": {"num_bumps": 3}}))


def test_family_is_counted_and_sized_like_the_others(toy):
    config = with_width(toy(num_params=1e5, depth=1), 3)
    count = parameters_of(config, 3)
    assert count.total == pytest.approx(1e5, rel=0.02)
    assert training_flops(config, num_atoms=10, num_edges=100) > 0
    model = build(config, num_elements=3, cutoff_ang=4.0, mean_degree=20.0, scale_ev=1.0)
    assert sum(p.numel() for p in model.parameters()) == count.total


@pytest.mark.parametrize("forces", ["conservative", "direct"])
def test_forces_of_the_family_sum_to_zero_or_are_learned_apart(toy, forces):
    torch.manual_seed(0)
    model = build(toy(width=4, forces=forces), num_elements=3, cutoff_ang=4.0, mean_degree=20.0, scale_ev=1.0).double()
    energy_G, forces_N3 = model(graphs(*crystal(0)))
    assert energy_G.shape == (1,)
    is_balanced = bool(forces_N3.sum(0).abs().max() < 1e-10)
    assert is_balanced == (forces == "conservative")
