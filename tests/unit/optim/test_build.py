"""Optimisers by name."""

from dataclasses import dataclass, replace

import pytest
import torch
from omegaconf import OmegaConf
from torch import nn

from scaling.config import OptimConfig, RunConfig, validated
from scaling.errors import ConfigError
from scaling.optim.build import build_optimizer, parameter_groups
from scaling.optim.config import OPTIMIZERS
from tests.unit.training.runs import losses, trained


@dataclass(frozen=True)
class SGDConfig(OptimConfig):
    """An optimiser that the project does not have."""

    name: str = "sgd"
    momentum: float = 0.9

    def build(self, groups):
        return torch.optim.SGD(groups, lr=self.lr, momentum=self.momentum)


@pytest.fixture
def with_sgd(monkeypatch):
    monkeypatch.setitem(OPTIMIZERS, "sgd", SGDConfig)


def test_adamw_has_the_settings_of_its_configuration():
    optim = replace(RunConfig().optim, lr=0.3, beta1=0.5, beta2=0.6, weight_decay=0.7)
    built = build_optimizer(nn.Linear(2, 3), optim)
    assert isinstance(built, torch.optim.AdamW)
    (group,) = built.param_groups
    assert (group["lr"], group["betas"], group["weight_decay"]) == (0.3, (0.5, 0.6), 0.7)


def test_groups_hold_every_trained_parameter_once():
    model = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1))
    model[0].bias.requires_grad_(False)
    found = [parameter for group in parameter_groups(model) for parameter in group["params"]]
    assert [id(p) for p in found] == [id(p) for p in model.parameters() if p.requires_grad]


def test_new_optimiser_is_built_by_its_entry(with_sgd):
    config = validated(OmegaConf.create({"optim": {"name": "sgd", "lr": 0.1}}))
    built = build_optimizer(nn.Linear(2, 3), config.optim)
    assert isinstance(built, torch.optim.SGD)
    assert built.param_groups[0]["momentum"] == 0.9


@pytest.mark.parametrize("stage", [0, 2])
def test_run_learns_with_a_new_optimiser(stage, with_sgd, tiny_data, tmp_path):
    overrides = ["train.budget.amount=30", "train.validate_every=10", f"zero.stage={stage}"]
    run = trained(tiny_data, tmp_path, overrides, optim=SGDConfig(lr=0.5))
    first, *_, last, _, _ = losses(run)
    assert last < 0.97 * first
    other = losses(trained(tiny_data, tmp_path, overrides))
    assert other != pytest.approx(losses(run), rel=0.01), "the control: it is not AdamW under another name"


def test_unknown_optimiser_is_refused_with_what_is_allowed():
    with pytest.raises(ConfigError, match=r"optim\.name=sgd must be one of adamw"):
        validated(OmegaConf.create({"optim": {"name": "sgd"}}))
