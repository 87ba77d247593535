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


def closed_form(config: ModelConfig, num_elements: int) -> ParameterCount:
    """What `count_parameters` finds in the network of this configuration, without building it."""
    return PARAMETERS[config.name](config.sized(), num_elements)


def training_flops(config: ModelConfig, *, num_atoms: float, num_edges: float) -> float:
    """FLOPs of all products of matrices of one training step (forward and backward) on a graph of this size.

    A product of (n, a) by (a, b) counts 2 n a b. With direct forces each is computed three times (output, gradient of
    the input, gradient of the weight). With conservative forces eight times: forward and backward for the forces, then
    values and tangents forward, and two products backward for each (`scaling/models/forces.py`). What differs is
    spelled out; layers recomputed for want of memory, products with vectors, padding and elementwise work are not
    counted.
    """
    return FLOPS[config.name](config.sized(), num_atoms, num_edges)


def with_width(config: ModelConfig, num_elements: int) -> ModelConfig:
    """The configuration whose width makes the number of parameters come nearest to `num_params`, if that is given.

    Raises:
        ConfigError: if even width 1 has more.
    """
    if config.num_params is None:
        return config

    def count(width: int) -> int:
        return closed_form(replace(config, width=width, num_params=None), num_elements).total

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


def _egnn_parameters(config: ModelConfig, num_elements: int) -> ParameterCount:
    F, R, L = config.width, config.num_radial, config.depth
    # a layer: what atoms give, features of edges, second layer, sum, update; moved and move in all layers but one
    trunk = L * (3 * F * F + 3 * F + R * F + F * F + F + F * F + F * F + F) + 2 * (L - 1) * F
    head = F * F + F + F
    if config.forces == "direct":
        head += 2 * F * F + 2 * F + R * F + F
    return ParameterCount(num_elements * F, trunk, head)


def _egnn_flops(config: ModelConfig, num_atoms: float, num_edges: float) -> float:
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


#: Layers of fixed number in scaling/models/dimenet.py and gemnet.py.
_DIMENET_BASIS, _DIMENET_OUTPUT_LAYERS, _GEMNET_BASIS, _GEMNET_RESIDUAL = 8, 3, 16, 3


def _dimenet_parameters(config: ModelConfig, num_elements: int) -> ParameterCount:
    F, R, L, S, T, Q = _sizes(config, "num_spherical", "triplet_width", "output_width")
    B = _DIMENET_BASIS
    dense = F * F + F
    first = R * F + F + 2 * F * F + dense
    layer = 9 * dense + R * B + B * F + F * T + B * S * R + T * B + T * F
    head = R * F + F * Q + _DIMENET_OUTPUT_LAYERS * (Q * Q + Q) + Q
    if config.forces == "direct":
        head += R * F + dense + F
    return ParameterCount(num_elements * F, first + L * layer, (L + 1) * head)


def _gemnet_parameters(config: ModelConfig, num_elements: int) -> ParameterCount:
    F, R, L, S, T, A, B = _sizes(config, "num_spherical", "triplet_width", "node_width", "bilinear_width")
    C, residual = _GEMNET_BASIS, 2 * _GEMNET_RESIDUAL
    first = 2 * A * F + R * F + (3 + S) * R * C
    atoms = C * F + F * A + residual * A * A
    layer = 11 * F * F + C * F + F * T + C * T * B + 2 * B * F + atoms + 2 * A * F
    head = atoms + A
    if config.forces == "direct":
        head += C * F + (1 + residual) * F * F + F
    return ParameterCount(num_elements * A, first + L * layer, (L + 1) * head)


def _sizes(config: ModelConfig, *names: str) -> list[int]:
    return [config.width, config.num_radial, config.depth, *(getattr(config, name) for name in names)]


@dataclass(frozen=True)
class _Times:
    """How often a product is computed, by what it joins: a learned matrix and features; a learned matrix and functions
    of the positions, or of the elements alone; features and functions of the positions; two kinds of features; two
    learned matrices.
    """

    linear: int
    of_geometry: int
    of_elements: int
    by_geometry: int
    bilinear: int
    weights: int


_TIMES = {"direct": _Times(3, 2, 3, 2, 3, 3), "conservative": _Times(8, 6, 7, 9, 12, 4)}


def _dimenet_flops(config: ModelConfig, num_atoms: float, num_edges: float) -> float:
    F, R, L, S, T, Q = _sizes(config, "num_spherical", "triplet_width", "output_width")
    B, t, N, E = _DIMENET_BASIS, _TIMES[config.forces], 2.0 * num_atoms, 2.0 * num_edges
    of_elements = 3 if config.forces == "direct" else 4  # they have no tangents
    first = t.of_geometry * E * R * F + of_elements * N * 2 * F * F + t.linear * E * F * F
    gate = t.of_geometry * E * R * B + t.linear * E * B * F
    angles = t.of_geometry * E * S * R * T + t.by_geometry * 2 * E * S * (2 * S - 1) * T + t.weights * 2 * T * B * S * R
    layer = gate + angles + t.linear * E * (9 * F * F + 2 * F * T)
    head = t.of_geometry * E * R * F + t.linear * N * (F * Q + _DIMENET_OUTPUT_LAYERS * Q * Q + Q)
    if config.forces == "direct":
        head += t.of_geometry * E * R * F + t.linear * E * (F * F + F)
    return first + L * layer + (L + 1) * head


def _gemnet_flops(config: ModelConfig, num_atoms: float, num_edges: float) -> float:
    F, R, L, S, T, A, B = _sizes(config, "num_spherical", "triplet_width", "node_width", "bilinear_width")
    t, N, E = _TIMES[config.forces], 2.0 * num_atoms, 2.0 * num_edges
    C, residual = _GEMNET_BASIS, 2 * _GEMNET_RESIDUAL
    first = t.of_elements * N * 2 * A * F + t.of_geometry * E * R * (F + (3 + S) * C)
    angles = t.by_geometry * 2 * E * S * (2 * S - 1) * T + t.bilinear * E * C * S * T
    atoms = E * C * F + N * (F * A + residual * A * A)
    edges = 11 * F * F + C * F + F * T + C * T * B + 2 * B * F
    layer = angles + t.linear * (E * edges + atoms + N * 2 * A * F)
    head = atoms + N * A
    if config.forces == "direct":
        head += E * (C * F + (1 + residual) * F * F + F)
    return first + L * layer + (L + 1) * t.linear * head


PARAMETERS = {"egnn": _egnn_parameters, "dimenetpp": _dimenet_parameters, "gemnet_t": _gemnet_parameters}
FLOPS = {"egnn": _egnn_flops, "dimenetpp": _dimenet_flops, "gemnet_t": _gemnet_flops}
