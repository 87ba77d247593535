"""EGNN before it is built: its sizes, FLOPs and memory."""

from dataclasses import dataclass
from typing import Any

from scaling.models.activations import FLOAT, is_recomputed, most_kept, num_rows
from scaling.models.config import ModelConfig, Parts
from scaling.schema import require


@dataclass(frozen=True)
class EGNNConfig(ModelConfig):
    """EGNN. width: features of an atom. num_radial: radial basis functions."""

    name: str = "egnn"
    num_radial: int = 10

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.num_radial >= 2, "model.num_radial", self.num_radial, ">= 2")

    def parts(self, **built: Any) -> Parts:
        """See `ModelConfig.parts`."""
        from scaling.models.egnn.network import parts  # brings torch

        return parts(self, **built)

    def training_flops(self, *, num_atoms: float, num_edges: float) -> float:
        """See `scaling.models.counting.training_flops`."""
        F, R, L = self.width, self.num_radial, self.depth
        N, E = 2.0 * num_atoms, 2.0 * num_edges
        # One layer: what atoms give, features of edges (recomputed in backward, not differentiated), second layer,
        # update.
        atoms, second, update = N * F * 3 * F, E * F * F, 2 * N * F * F
        features, moved = E * R * F, (L - 1) * E * F
        hidden, out = N * F * F, N * F
        if self.forces == "direct":
            head = 3 * (hidden + out) + self.force_head_flops(num_atoms=num_atoms, num_edges=num_edges)
            return L * (3 * (atoms + second + update) + 3 * features) + 4 * moved + head
        layers = L * (8 * (atoms + second + update) + 9 * features) + 11 * moved - atoms
        return layers + 8 * (hidden + out)

    def force_head_flops(self, *, num_atoms: float, num_edges: float) -> float:
        """See `ModelConfig.force_head_flops`."""
        return 3 * 2 * (num_atoms * self.width * 2 * self.width + num_edges * self.num_radial * self.width)

    def activation_bytes(
        self, checkpointing: int, *, num_atoms: float, num_edges: float, block_numbers: int
    ) -> tuple[float, float]:
        """See `ModelConfig.activation_bytes`."""
        c, K, F = ACTIVATIONS[self.forces], num_rows(self), self.width
        recomputed = is_recomputed(self.depth, checkpointing)
        edges, atoms = K * num_edges, K * num_atoms * F
        always = c.per_edge * edges + c.blocks * K * min(num_edges * F, block_numbers)
        layers = most_kept(recomputed) * (edges * (F + c.per_layer_edge) + atoms * c.per_layer_atom)
        return FLOAT * (always + layers + atoms * c.per_recomputed_atom * sum(recomputed)), FLOAT * always


@dataclass(frozen=True)
class Activations:
    """What a micro-batch adds, in multiples of 4 bytes; E edges, N atoms, F width, K 1 or 2 (tangents).

    per_edge: K E, geometry and lists of edges. per_layer_edge: K E a kept layer, besides its one K E F.
    per_layer_atom: K N F a kept layer. per_recomputed_atom: K N F a layer that is computed again. blocks: K times a
    block of edges.
    """

    per_edge: float
    per_layer_edge: float
    per_layer_atom: float
    per_recomputed_atom: float
    blocks: float


#: Fitted to counted tensors, and held to 15 % of them by a test.
ACTIVATIONS = {
    "direct": Activations(26.2, 3.9, 5.6, 2.3, 5.9),
    "conservative": Activations(17.5, 6.8, 5.8, 2.9, 8.3),
}
