"""How long to train, and how fast to learn at each step: pure functions of the step."""

import math
from collections.abc import Callable

from scaling.errors import ConfigError
from scaling.optim.config import BudgetConfig, OptimConfig

MAX_STEPS = 10**9


def num_steps(budget: BudgetConfig, *, batch_size: int, train_structures: int, flops_per_structure: float) -> int:
    """Whole steps that use up a budget.

    Args:
        flops_per_structure: training FLOPs of a mean training structure, for budgets in FLOPs.
    Raises:
        ConfigError: if that is more steps than anybody means.
    """
    samples = {
        "steps": budget.amount * batch_size,
        "samples": budget.amount,
        "epochs": budget.amount * train_structures,
        "flops": budget.amount / flops_per_structure,
    }[budget.unit]
    steps = max(1, math.ceil(samples / batch_size - 1e-9))
    if steps > MAX_STEPS:
        raise ConfigError(
            f"train.budget.amount={budget.amount:g} {budget.unit} is {steps:.3g} steps, more than {MAX_STEPS:.0e}; "
            "lower it, or check train.budget.unit"
        )
    return steps


def build_schedule(optim: OptimConfig, *, width: int, steps: int) -> Callable[[int], float]:
    """The learning rate of each step of a run whose network has this width."""
    peak = optim.peak_lr(width)
    return lambda step: learning_rate(step, steps, peak=peak, optim=optim)


def learning_rate(step: int, steps: int, *, peak: float, optim: OptimConfig) -> float:
    """Linear warm-up, a stable stretch, linear decay towards zero.

    Source: Haegele et al., "Scaling Laws and Compute-Optimal Training Beyond Fixed Training Durations", 2024, sec. 3.
    """
    warmup = max(1, round(optim.warmup_share * steps))
    decay = max(1, round(optim.decay_share * steps))
    return peak * min(1.0, (step + 1) / warmup, (steps - step) / decay)
