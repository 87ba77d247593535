"""Parameters and floating-point operations of a network, counted and in closed form."""

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from scaling.config import ModelConfig
from scaling.errors import ConfigError

if TYPE_CHECKING:  # counting in closed form needs no torch
    from scaling.models.forces import Potential


@dataclass(frozen=True)
class ParameterCount:
    """Trained numbers by part; scaling laws differ by which of them are called N."""

    embedding: int
    trunk: int
    head: int

    @property
    def total(self) -> int:
        return self.embedding + self.trunk + self.head


def count_parameters(model: "Potential") -> ParameterCount:
    """Count a network's parameters, also when ZeRO-3 has partitioned them."""
    count = {"embedding": 0, "trunk": 0, "head": 0}
    for name, parameter in model.named_parameters():
        part = "embedding" if ".embedding." in name else "trunk" if name.startswith("trunk.") else "head"
        count[part] += getattr(parameter, "ds_numel", parameter.numel())
    return ParameterCount(**count)


def egnn_parameters(config: ModelConfig, num_elements: int) -> ParameterCount:
    """What `count_parameters` finds in the network of this configuration, in closed form."""
    F, R, L = config.width, config.num_radial, config.depth
    # a layer: what atoms give, features of edges, second layer, sum, update; moved and move in all layers but one
    trunk = L * (3 * F * F + 3 * F + R * F + F * F + F + F * F + F * F + F) + 2 * (L - 1) * F
    head = F * F + F + F
    if config.forces == "direct":
        head += 2 * F * F + 2 * F + R * F + F
    return ParameterCount(num_elements * F, trunk, head)


def with_width(config: ModelConfig, num_elements: int) -> ModelConfig:
    """The configuration whose width makes the number of parameters come nearest to `num_params`, if that is given.

    Raises:
        ConfigError: if even width 1 has more.
    """
    if config.num_params is None:
        return config

    def count(width: int) -> int:
        return egnn_parameters(replace(config, width=width, num_params=None), num_elements).total

    if config.num_params < count(1):
        raise ConfigError(
            f"model.num_params={config.num_params:g} must be at least {count(1)}, which is width 1 at "
            f"model.depth={config.depth}"
        )
    low, high = 1, math.isqrt(int(config.num_params)) + 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if count(middle) <= config.num_params else (low, middle)
    nearest = min((low, high), key=lambda width: abs(count(width) - config.num_params))  # type: ignore[operator]
    return replace(config, width=nearest, num_params=None)


def egnn_training_flops(config: ModelConfig, *, num_atoms: float, num_edges: float) -> float:
    """FLOPs of all products of matrices of one training step (forward and backward) on a graph of this size.

    A product of (n, a) by (a, b) counts 2 n a b. With direct forces each is computed three times (output, gradient of
    the input, gradient of the weight). With conservative forces eight times: forward and backward for the forces, then
    values and tangents forward, and two products backward for each (`scaling/models/forces.py`). What differs is
    spelled out; layers recomputed for want of memory, products with vectors and elementwise work are not counted.
    """
    F, R, L = config.width, config.num_radial, config.depth
    N, E = 2.0 * num_atoms, 2.0 * num_edges
    # One layer: what atoms give, features of edges (recomputed in backward, not differentiated), second layer, update.
    atoms, second, update = N * F * 3 * F, E * F * F, 2 * N * F * F
    features, moved = E * R * F, (L - 1) * E * F
    hidden, out = N * F * F, N * F
    if config.forces == "direct":
        force_head = 3 * N * F * 2 * F + 3 * features
        return L * (3 * (atoms + second + update) + 3 * features) + 4 * moved + 3 * (hidden + out) + force_head
    layers = L * (8 * (atoms + second + update) + 9 * features) + 11 * moved - atoms
    return layers + 8 * (hidden + out)
