"""A network's parameters, and the optimiser that its configuration builds over them."""

from typing import TYPE_CHECKING

from scaling.optim.config import OptimConfig, ParameterGroups

if TYPE_CHECKING:
    from torch import nn
    from torch.optim import Optimizer


def parameter_groups(model: "nn.Module") -> ParameterGroups:
    """All trained parameters in one group: every weight matrix and bias learns and decays alike."""
    return [{"params": [parameter for parameter in model.parameters() if parameter.requires_grad]}]


def build_optimizer(model: "nn.Module", optim: OptimConfig) -> "Optimizer":
    """The optimiser of this configuration, over the parameters of a network where they are."""
    return optim.build(parameter_groups(model))  # type: ignore[no-any-return]
