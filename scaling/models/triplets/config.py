"""Networks with messages on edges before they are built: the sizes and the memory that they have in common."""

from dataclasses import dataclass, replace
from typing import Self

from scaling.models.activations import FLOAT, is_recomputed, most_kept, num_rows
from scaling.models.config import ModelConfig
from scaling.schema import require


@dataclass(frozen=True)
class TripletConfig(ModelConfig):
    """width: features of an edge. num_radial: radial basis functions. num_spherical: degrees of the angular basis.

    triplet_width: features that meet at an angle (0: width / 2).
    """

    num_radial: int = 10
    num_spherical: int = 7
    triplet_width: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.num_radial >= 2, "model.num_radial", self.num_radial, ">= 2")
        require(self.num_spherical <= 16, "model.num_spherical", self.num_spherical, "<= 16", "more overflow")

    def sized(self) -> Self:
        """See `ModelConfig.sized`."""
        return replace(self, triplet_width=self.triplet_width or max(1, self.width // 2))


@dataclass(frozen=True)
class Times:
    """How often a product is computed in a training step, by what it joins.

    linear: a learned matrix and features. of_geometry: a learned matrix and functions of the positions. of_elements:
    a learned matrix and functions of the elements alone. by_geometry: features and functions of the positions.
    bilinear: two kinds of features. weights: two learned matrices.
    """

    linear: int
    of_geometry: int
    of_elements: int
    by_geometry: int
    bilinear: int
    weights: int


TIMES = {"direct": Times(3, 2, 3, 2, 3, 3), "conservative": Times(8, 6, 7, 9, 12, 4)}


@dataclass(frozen=True)
class Activations:
    """What a micro-batch adds, in multiples of 4 bytes times K E: E edges, K 1 or 2 (tangents), F width, T triplet
    width, S degrees.

    per_edge: geometry. per_radial: a radial function of an edge. per_message: F of each layer's messages, and the last
    ones. per_layer, per_layer_angle: F, and S T, of a kept layer. per_head: F of a kept output block. making_radial: of
    a radial function while it is made, before there are layers.
    """

    per_edge: float
    per_radial: float
    per_message: float
    per_layer: float
    per_layer_angle: float
    per_head: float
    making_radial: float

    def bytes(
        self, config: TripletConfig, checkpointing: int, *, num_edges: float, num_radial: int
    ) -> tuple[float, float]:
        """See `ModelConfig.activation_bytes`.

        Args:
            num_radial: radial functions of an edge, over all degrees.
        """
        F, S = config.width, config.num_spherical
        recomputed = is_recomputed(config.depth, checkpointing)
        layer = self.per_layer * F + self.per_layer_angle * S * config.triplet_width
        heads = most_kept(is_recomputed(config.depth + 1, checkpointing)) * self.per_head * F
        in_heads = recomputed.count(False) * layer + heads
        always = self.per_edge + self.per_radial * num_radial
        found = always + self.per_message * F * (config.depth + 1) + max(in_heads, most_kept(recomputed) * layer)
        found = max(found, self.making_radial * num_radial)
        edges = num_rows(config) * num_edges
        return FLOAT * edges * found, FLOAT * edges * always
