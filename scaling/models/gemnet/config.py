"""GemNet-T before it is built: its sizes, FLOPs and memory."""

from dataclasses import dataclass, replace
from typing import Any, Self

from scaling.models.config import Parts
from scaling.models.triplets import TripletConfig
from scaling.models.triplets.config import TIMES, Activations

#: Sizes of the projected radial basis and of the basis of lengths and angles.
RADIAL_WIDTH, CIRCULAR_WIDTH = 16, 16
#: Residual layers: before and after the skip connection, of concatenated messages, of atoms.
BEFORE_SKIP, AFTER_SKIP, AFTER_CONCAT, OF_ATOMS = 1, 2, 1, 3

#: Fitted to counted tensors, and held to 15 % of them by a test.
ACTIVATIONS = {
    "direct": Activations(477, 1.1, 1.2, 33.9, 3.5, 14.1, 8.5),
    "conservative": Activations(584, 0.7, 1.3, 31.9, 3.7, 0.1, 4.5),
}


@dataclass(frozen=True)
class GemNetTConfig(TripletConfig):
    """GemNet-T. node_width: features of an atom (0: width).

    bilinear_width: features that its angles give (0: triplet_width).
    """

    name: str = "gemnet_t"
    node_width: int = 0
    bilinear_width: int = 0

    def sized(self) -> Self:
        """See `ModelConfig.sized`."""
        known = super().sized()
        return replace(
            known,
            node_width=self.node_width or self.width,
            bilinear_width=self.bilinear_width or known.triplet_width,
        )

    def parts(self, **built: Any) -> Parts:
        """See `ModelConfig.parts`."""
        from scaling.models.gemnet.network import parts  # brings torch

        return parts(self, **built)

    def training_flops(self, *, num_atoms: float, num_edges: float) -> float:
        """See `scaling.models.counting.training_flops`."""
        F, R, L, S, T = self.width, self.num_radial, self.depth, self.num_spherical, self.triplet_width
        A, B, t, N, E = self.node_width, self.bilinear_width, TIMES[self.forces], 2.0 * num_atoms, 2.0 * num_edges
        C, residual = RADIAL_WIDTH, 2 * OF_ATOMS
        first = t.of_elements * N * 2 * A * F + t.of_geometry * E * R * (F + (3 + S) * C)
        angles = t.by_geometry * 2 * E * S * (2 * S - 1) * T + t.bilinear * E * C * S * T
        atoms = E * C * F + N * (F * A + residual * A * A)
        edges = 11 * F * F + C * F + F * T + C * T * B + 2 * B * F
        layer = angles + t.linear * (E * edges + atoms + N * 2 * A * F)
        head = atoms + N * A
        total = first + L * layer + (L + 1) * t.linear * head
        if self.forces == "direct":
            total += self.force_head_flops(num_atoms=num_atoms, num_edges=num_edges)
        return total

    def force_head_flops(self, *, num_atoms: float, num_edges: float) -> float:
        """See `ModelConfig.force_head_flops`; one for each layer and one for the embedding."""
        F, linear = self.width, TIMES["direct"].linear
        head = RADIAL_WIDTH * F + (1 + 2 * OF_ATOMS) * F * F + F
        return (self.depth + 1) * linear * 2 * num_edges * head

    def activation_bytes(
        self, checkpointing: int, *, num_atoms: float, num_edges: float, block_numbers: int
    ) -> tuple[float, float]:
        """See `ModelConfig.activation_bytes`."""
        return ACTIVATIONS[self.forces].bytes(self, checkpointing, num_edges=num_edges, num_radial=self.num_radial)
