"""Parameters of a network, counted by part, and floating-point operations of a training step."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING, TypeVar

from scaling.errors import ConfigError
from scaling.models.config import ModelConfig

if TYPE_CHECKING:
    from scaling.models.forces import Potential

Config = TypeVar("Config", bound=ModelConfig)


@dataclass(frozen=True)
class ParameterCount:
    """Trained numbers by part; scaling laws differ by which of them are called N. largest: those of one tensor."""

    embedding: int
    trunk: int
    head: int
    largest: int

    @property
    def total(self) -> int:
        """All of them."""
        return self.embedding + self.trunk + self.head

    def by_part(self) -> dict[str, int]:
        """Each part's number."""
        return {"embedding": self.embedding, "trunk": self.trunk, "head": self.head}


def count_parameters(model: "Potential") -> ParameterCount:
    """Count a network's parameters, also when ZeRO-3 has partitioned them."""
    count, largest = {"embedding": 0, "trunk": 0, "head": 0}, 0
    for name, parameter in model.named_parameters():
        part = "embedding" if ".embedding." in name else "trunk" if name.startswith("trunk.") else "head"
        numbers = getattr(parameter, "ds_numel", parameter.numel())
        count[part], largest = count[part] + numbers, max(largest, numbers)
    return ParameterCount(**count, largest=largest)


@lru_cache(maxsize=4096)
def parameters_of(config: ModelConfig, num_elements: int) -> ParameterCount:
    """What `count_parameters` finds in the network of this configuration, built without memory for it."""
    import torch  # takes seconds to import

    from scaling.models.network import build

    with torch.device("meta"):
        model = build(config, num_elements=num_elements, cutoff_ang=1.0, mean_degree=1.0, scale_ev=1.0)
    return count_parameters(model)


def training_flops(config: ModelConfig, *, num_atoms: float, num_edges: float, forces: bool = True) -> float:
    """FLOPs of all products of matrices of one training step (forward and backward) on a graph of this size.

    A product of (n, a) by (a, b) counts 2 n a b. With direct forces each is computed three times (output, gradient of
    the input, gradient of the weight). With conservative forces eight times: forward and backward for the forces, then
    values and tangents forward, and two products backward for each (`scaling/models/forces.py`). What differs is
    spelled out in each family's configuration; layers recomputed for want of memory, products with vectors, padding
    and elementwise work are not counted.

    Args:
        forces: False where energies alone are learned: then a conservative network takes three products as well.
    """
    if not forces:
        config, size = replace(config, forces="direct").sized(), {"num_atoms": num_atoms, "num_edges": num_edges}
        return config.training_flops(**size) - config.force_head_flops(**size)
    return config.sized().training_flops(num_atoms=num_atoms, num_edges=num_edges)


def with_width(config: Config, num_elements: int) -> Config:
    """The configuration whose width makes the number of parameters come nearest to `num_params`, if that is given.

    Raises:
        ConfigError: if even width 1 has more.
    """
    wanted = config.num_params
    if wanted is None:
        return config

    def count(width: int) -> int:
        return parameters_of(replace(config, width=width, num_params=None), num_elements).total

    if wanted < count(1):
        raise ConfigError(
            f"model.num_params={wanted:g} must be at least {count(1)}, which is width 1 at model.depth={config.depth}"
        )
    low = _largest_at_most(wanted, count)
    nearest = min((low, low + 1), key=lambda width: abs(count(width) - wanted))
    return replace(config, width=nearest, num_params=None)


def _largest_at_most(wanted: float, count: Callable[[int], int]) -> int:
    """The largest width whose count, which grows with it, is at most `wanted`; few counts, each builds a network."""
    low, high = 1, 64
    while count(high) <= wanted:
        low, high = high, 4 * high
    while high - low > 1:
        # between two widths the count is nearly a power of the width
        exponent = math.log(count(high) / count(low)) / math.log(high / low)
        guess = int(low * (wanted / count(low)) ** (1 / exponent)) if exponent else low
        middle = min(max(guess, low + 1), high - 1)
        low, high = (middle, high) if count(middle) <= wanted else (low, middle)
    return low
