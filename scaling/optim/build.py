"""Optimisers by name: each is made of a network and of its own configuration.

A new optimiser is one entry of BUILDERS, and a configuration with its name and keys.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from scaling.config import OptimConfig
from scaling.errors import ConfigError

#: What torch's optimisers take: parameters and the settings that these have of their own.
Groups = list[dict[str, Any]]


def parameter_groups(model: nn.Module, optim: OptimConfig) -> Groups:
    """All trained parameters in one group: every weight matrix and bias learns and decays alike."""
    return [{"params": [parameter for parameter in model.parameters() if parameter.requires_grad]}]


def _adamw(groups: Groups, optim: OptimConfig) -> torch.optim.Optimizer:
    """Source: Loshchilov and Hutter, "Decoupled Weight Decay Regularization", ICLR 2019."""
    betas = optim.beta1, optim.beta2
    return torch.optim.AdamW(groups, lr=optim.lr, betas=betas, weight_decay=optim.weight_decay, fused=True)


BUILDERS: dict[str, Callable[[Groups, Any], torch.optim.Optimizer]] = {"adamw": _adamw}


def build_optimizer(model: nn.Module, optim: OptimConfig) -> torch.optim.Optimizer:
    """The optimiser that `optim.name` names, over the parameters of a network where they are.

    Raises:
        ConfigError: if there is none of this name.
    """
    name = getattr(optim, "name", "adamw")
    if name not in BUILDERS:
        raise ConfigError(f"optim.name={name} must be one of {', '.join(BUILDERS)}")
    return BUILDERS[name](parameter_groups(model, optim), optim)
