"""Optimisers by name, parameter groups, and the learning rate over the steps. Free of torch until one is built."""

from scaling.optim.build import build_optimizer, parameter_groups
from scaling.optim.config import OPTIMIZERS, AdamWConfig, BudgetConfig, OptimConfig, optimizer_config
from scaling.optim.schedule import build_schedule, num_steps

__all__ = [
    "OPTIMIZERS",
    "AdamWConfig",
    "BudgetConfig",
    "OptimConfig",
    "build_optimizer",
    "build_schedule",
    "num_steps",
    "optimizer_config",
    "parameter_groups",
]
