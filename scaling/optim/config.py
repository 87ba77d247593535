"""How a network is optimised: the optimiser, its learning rate over the steps, and the budget of steps. Free of torch.

A new optimiser is a subclass of `OptimConfig` with its own keys, and one line in OPTIMIZERS.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

from scaling.schema import require

#: What torch's optimisers take: parameters and the settings that these have of their own.
ParameterGroups = list[dict[str, Any]]

BUDGET_UNITS = ("steps", "samples", "epochs", "flops")


@dataclass(frozen=True)
class OptimConfig(ABC):
    """What all optimisers share: warm-up, a stable stretch, a linear decay to zero, and clipping.

    The peak learning rate is lr * (model.width / lr_reference_width) ** lr_width_exponent: one rate for all widths
    mistunes the large ones and bends the law in N. warmup_share, decay_share: of all steps. weight_decay: decoupled.
    max_grad_norm: clipping of the global gradient norm; 0 switches it off.
    """

    name: str = ""
    lr: float = 0.02
    lr_reference_width: int = 16
    lr_width_exponent: float = -0.25
    weight_decay: float = 0.001
    max_grad_norm: float = 1.0
    warmup_share: float = 0.05
    decay_share: float = 0.5

    def __post_init__(self) -> None:
        own_name = type(self).__dataclass_fields__["name"].default
        require(self.name == own_name, "optim.name", self.name, f"{own_name} for the keys of {own_name}")
        require(0 < self.lr < float("inf"), "optim.lr", self.lr, "> 0 and finite")
        require(self.lr_reference_width >= 1, "optim.lr_reference_width", self.lr_reference_width, ">= 1")
        require(self.weight_decay >= 0, "optim.weight_decay", self.weight_decay, ">= 0")
        require(self.max_grad_norm >= 0, "optim.max_grad_norm", self.max_grad_norm, ">= 0 (0: no clipping)")
        require(0 <= self.warmup_share <= 1, "optim.warmup_share", self.warmup_share, "in [0, 1]")
        require(0 <= self.decay_share <= 1, "optim.decay_share", self.decay_share, "in [0, 1]")
        require(
            self.warmup_share + self.decay_share <= 1,
            "optim.warmup_share + optim.decay_share",
            self.warmup_share + self.decay_share,
            "<= 1",
        )

    @abstractmethod
    def build(self, groups: ParameterGroups) -> Any:
        """The torch.optim.Optimizer with these settings, over groups of parameters; imports torch."""

    def peak_lr(self, width: int) -> float:
        """The learning rate of the stable stretch at this width."""
        return float(self.lr * (width / self.lr_reference_width) ** self.lr_width_exponent)


@dataclass(frozen=True)
class AdamWConfig(OptimConfig):
    """AdamW. beta1, beta2: decay of the means of the gradient and of its square.

    Source: Loshchilov, Hutter, "Decoupled Weight Decay Regularization", ICLR 2019, algorithm 2.
    """

    name: str = "adamw"
    beta1: float = 0.9
    beta2: float = 0.99

    def __post_init__(self) -> None:
        super().__post_init__()
        require(0 <= self.beta1 < 1, "optim.beta1", self.beta1, "in [0, 1)")
        require(0 <= self.beta2 < 1, "optim.beta2", self.beta2, "in [0, 1)")

    def build(self, groups: ParameterGroups) -> Any:
        """PyTorch's AdamW, fused."""
        from torch.optim import AdamW

        betas = self.beta1, self.beta2
        return AdamW(groups, lr=self.lr, betas=betas, weight_decay=self.weight_decay, fused=True)


#: Optimisers by name.
OPTIMIZERS: dict[str, type[OptimConfig]] = {"adamw": AdamWConfig}


def optimizer_config(name: str) -> type[OptimConfig]:
    """The configuration class of an optimiser.

    Raises:
        ConfigError: if there is none of this name.
    """
    require(name in OPTIMIZERS, "optim.name", name, f"one of {', '.join(OPTIMIZERS)}")
    return OPTIMIZERS[name]


@dataclass(frozen=True)
class BudgetConfig:
    """How long a run trains: `amount` of `unit` (steps, samples, epochs or flops), rounded up to whole steps."""

    unit: str = "steps"
    amount: float = 2000

    def __post_init__(self) -> None:
        require(self.unit in BUDGET_UNITS, "train.budget.unit", self.unit, f"one of {', '.join(BUDGET_UNITS)}")
        require(0 < self.amount < float("inf"), "train.budget.amount", self.amount, "> 0 and finite")
