"""DimeNet++ before it is built: its sizes, FLOPs and memory."""

from dataclasses import dataclass, replace
from typing import Any, Self

from scaling.models.config import Parts
from scaling.models.triplets import TripletConfig
from scaling.models.triplets.config import TIMES, Activations

#: Size of the bottleneck through which functions of lengths and angles pass.
BASIS_WIDTH = 8
#: Dense layers of an output block, and residual layers before and after the skip connection of a layer.
OUTPUT_LAYERS, BEFORE_SKIP, AFTER_SKIP = 3, 1, 2

#: Fitted to counted tensors, and held to 15 % of them by a test.
ACTIVATIONS = {
    "direct": Activations(373, 0.0, 1.6, 26.8, 1.7, 1.6, 24.4),
    "conservative": Activations(132, 8.7, 2.5, 23.8, 1.6, 0.0, 26.0),
}


@dataclass(frozen=True)
class DimeNetPlusPlusConfig(TripletConfig):
    """DimeNet++. output_width: features of its output blocks (0: 2 width)."""

    name: str = "dimenetpp"
    output_width: int = 0

    def sized(self) -> Self:
        """See `ModelConfig.sized`."""
        return replace(super().sized(), output_width=self.output_width or 2 * self.width)

    def parts(self, **built: Any) -> Parts:
        """See `ModelConfig.parts`."""
        from scaling.models.dimenet.network import parts  # brings torch

        return parts(self, **built)

    def training_flops(self, *, num_atoms: float, num_edges: float) -> float:
        """See `scaling.models.counting.training_flops`."""
        F, R, L, S, T = self.width, self.num_radial, self.depth, self.num_spherical, self.triplet_width
        B, Q, t, N, E = BASIS_WIDTH, self.output_width, TIMES[self.forces], 2.0 * num_atoms, 2.0 * num_edges
        of_elements = 3 if self.forces == "direct" else 4  # they have no tangents
        first = t.of_geometry * E * R * F + of_elements * N * 2 * F * F + t.linear * E * F * F
        gate = t.of_geometry * E * R * B + t.linear * E * B * F
        angles = t.of_geometry * E * S * R * T + t.by_geometry * 2 * E * S * (2 * S - 1) * T
        angles += t.weights * 2 * T * B * S * R
        layer = gate + angles + t.linear * E * (9 * F * F + 2 * F * T)
        head = t.of_geometry * E * R * F + t.linear * N * (F * Q + OUTPUT_LAYERS * Q * Q + Q)
        total = first + L * layer + (L + 1) * head
        if self.forces == "direct":
            total += self.force_head_flops(num_atoms=num_atoms, num_edges=num_edges)
        return total

    def force_head_flops(self, *, num_atoms: float, num_edges: float) -> float:
        """See `ModelConfig.force_head_flops`; one for each layer and one for the embedding."""
        F, t = self.width, TIMES["direct"]
        head = t.of_geometry * self.num_radial * F + t.linear * (F * F + F)
        return (self.depth + 1) * 2 * num_edges * head

    def activation_bytes(
        self, checkpointing: int, *, num_atoms: float, num_edges: float, block_numbers: int
    ) -> tuple[float, float]:
        """See `ModelConfig.activation_bytes`; its radial basis differs by degree."""
        num_radial = self.num_radial * self.num_spherical
        return ACTIVATIONS[self.forces].bytes(self, checkpointing, num_edges=num_edges, num_radial=num_radial)
