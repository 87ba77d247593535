"""Parameters and floating-point operations of a network, counted and in closed form."""

from dataclasses import dataclass

from scaling.config import ModelConfig
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


def count_parameters(model: Potential) -> ParameterCount:
    """Count a network's parameters, also when ZeRO-3 has partitioned them."""
    count = {"embedding": 0, "trunk": 0, "head": 0}
    for name, parameter in model.named_parameters():
        part = "embedding" if ".embedding." in name else "trunk" if name.startswith("trunk.") else "head"
        count[part] += getattr(parameter, "ds_numel", parameter.numel())
    return ParameterCount(**count)


def egnn_training_flops(config: ModelConfig, *, num_atoms: float, num_edges: float) -> float:
    """FLOPs of all matrix products of one training step (forward and backward) on a graph of this size.

    A product of (n, a) by (a, b) counts 2 n a b. With direct forces each is computed three times (output, gradient of
    the input, gradient of the weight); with conservative forces six times, since forward and the force's own backward
    pass are both differentiated. The exceptions are spelled out; elementwise work is not counted.
    """
    F, R, L = config.width, config.num_radial, config.depth
    N, E = 2.0 * num_atoms, 2.0 * num_edges
    atoms_first, radial, message = N * F * 3 * F, E * R * F, E * F * F
    aggregate, update, move = N * F * F, N * F * F, E * F
    energy_head = N * F * F + N * F
    if config.forces == "direct":
        layers = L * (3 * (atoms_first + message + aggregate + update) + 2 * radial) + 3 * (L - 1) * move
        force_head = 3 * (N * F * 2 * F + E * F) + 2 * radial
        return layers + 3 * energy_head + force_head
    layers = 6 * L * (radial + message + aggregate + update) + 6 * (L - 1) * (move + atoms_first) + 3 * atoms_first
    return layers + 6 * N * F * F + 5 * N * F
