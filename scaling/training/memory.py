"""How much memory a training step takes on each device, in closed form: tensors in fp32, in bytes.

The coefficients of activations were fitted to counted tensors (experiments/bench/tensors.py) and are held to 15 % by a
test over widths, depths, both kinds of forces and checkpointing; those of ZeRO follow from what it partitions.
"""

import math
from dataclasses import dataclass

from scaling.config import ModelConfig, ZeroConfig
from scaling.models.ops.edges import block_numbers

FLOAT = 4
#: Gradients are reduced over the ranks in buckets, and ZeRO-3 holds whole at a time, this part of the parameters: more
#: would save nothing of small networks, and large ones need no more than the second and third number.
BUCKET_SHARE, LARGEST_BUCKET, SMALLEST_BUCKET = 10, 50_000_000, 500_000


def bucket_numbers(num_params: int) -> int:
    """How many gradients are reduced, and parameters held whole by ZeRO-3, at a time."""
    return min(max(1, num_params), LARGEST_BUCKET, max(SMALLEST_BUCKET, num_params // BUCKET_SHARE))


@dataclass(frozen=True)
class EGNNActivations:
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

    def bytes(
        self, config: ModelConfig, checkpointing: int, *, num_atoms: float, num_edges: float, device: str
    ) -> tuple[float, float]:
        """See `activation_bytes`."""
        K, F = _rows(config), config.width
        is_recomputed = _is_recomputed(config.depth, checkpointing)
        edges, atoms = K * num_edges, K * num_atoms * F
        always = self.per_edge * edges + self.blocks * K * min(num_edges * F, block_numbers(device))
        layers = _most_kept(is_recomputed) * (edges * (F + self.per_layer_edge) + atoms * self.per_layer_atom)
        return FLOAT * (always + layers + atoms * self.per_recomputed_atom * sum(is_recomputed)), FLOAT * always


@dataclass(frozen=True)
class TripletActivations:
    """As of EGNN; T triplet width, S degrees, R radial functions. All are multiples of K E.

    per_edge: geometry. per_radial: R, or S R where the radial basis differs by degree. per_message: F of each layer's
    messages, and the last ones. per_layer, per_layer_angle: F, and S T, of a kept layer. per_head: F of a kept output
    block. making_radial: of a radial function while it is made, before there are layers.
    """

    per_edge: float
    per_radial: float
    per_message: float
    per_layer: float
    per_layer_angle: float
    per_head: float
    making_radial: float

    def bytes(
        self, config: ModelConfig, checkpointing: int, *, num_atoms: float, num_edges: float, device: str
    ) -> tuple[float, float]:
        """See `activation_bytes`."""
        config = config.sized()
        assert config.num_spherical is not None, "sizes are given"
        assert config.triplet_width is not None, "sizes are given"
        F, S = config.width, config.num_spherical
        radial = config.num_radial * (S if config.name == "dimenetpp" else 1)
        layers = _is_recomputed(config.depth, checkpointing)
        layer = self.per_layer * F + self.per_layer_angle * S * config.triplet_width
        in_heads = layers.count(False) * layer + _most_kept(_is_recomputed(config.depth + 1, checkpointing)) * (
            self.per_head * F
        )
        always = self.per_edge + self.per_radial * radial
        found = always + self.per_message * F * (config.depth + 1) + max(in_heads, _most_kept(layers) * layer)
        found = max(found, self.making_radial * radial)
        edges = _rows(config) * num_edges
        return FLOAT * edges * found, FLOAT * edges * always


ACTIVATIONS: dict[tuple[str, str], EGNNActivations | TripletActivations] = {
    ("egnn", "direct"): EGNNActivations(26.2, 3.9, 5.6, 2.3, 8.5),
    ("egnn", "conservative"): EGNNActivations(17.5, 6.8, 5.8, 2.9, 11.1),
    ("dimenetpp", "direct"): TripletActivations(373, 0.0, 1.6, 26.8, 1.7, 1.6, 24.4),
    ("dimenetpp", "conservative"): TripletActivations(132, 8.7, 2.5, 23.8, 1.6, 0.0, 26.0),
    ("gemnet_t", "direct"): TripletActivations(477, 1.1, 1.2, 33.9, 3.5, 14.1, 8.5),
    ("gemnet_t", "conservative"): TripletActivations(584, 0.7, 1.3, 31.9, 3.7, 0.1, 4.5),
}


def _rows(config: ModelConfig) -> int:
    return 1 if config.forces == "direct" else 2


def _is_recomputed(count: int, checkpointing: int) -> list[bool]:
    return [bool(checkpointing) and i % checkpointing == 0 for i in range(count)]


def _most_kept(is_recomputed: list[bool]) -> int:
    """Layers whose activations are there at once: when backward begins, or when one is computed again."""
    again = [is_recomputed[:i].count(False) + 1 for i, recomputed in enumerate(is_recomputed) if recomputed]
    return max(is_recomputed.count(False), *again, 0)


def activation_bytes(
    config: ModelConfig, checkpointing: int, *, num_atoms: float, num_edges: float, device: str
) -> tuple[float, float]:
    """Bytes that a micro-batch adds at the peak, and the part of them that does not depend on depth."""
    kind = ACTIVATIONS[config.name, config.forces]
    return kind.bytes(config, checkpointing, num_atoms=num_atoms, num_edges=num_edges, device=device)


def _largest_parameter(config: ModelConfig) -> int:
    """Numbers of the largest one, which ZeRO-3 has whole at a time, and its gradient."""
    config = config.sized()
    F = config.width
    if config.name == "egnn":
        return 3 * F**2
    if config.name == "dimenetpp":
        assert config.output_width is not None, "sizes are given"
        return max(2 * F**2, F * config.output_width, config.output_width**2)
    assert config.node_width is not None, "sizes are given"
    return max(F**2, 2 * F * config.node_width, config.node_width**2)


def peak_bytes(
    config: ModelConfig,
    zero: ZeroConfig,
    *,
    num_params: int,
    num_ranks: int,
    num_atoms: float,
    num_edges: float,
    device: str = "cpu",
) -> float:
    """Peak bytes of tensors on one device.

    Args:
        num_atoms, num_edges: of one micro-batch on one rank. device: cpu or cuda (blocks of edges differ in size).
    """
    P, ranks = num_params, num_ranks
    bucket = bucket_numbers(P)
    optimizer = 0 if zero.offload else 3 * P / ranks  # fp32 copy and two moments
    if zero.stage == 0:  # no copy; when gradients are reduced they are there twice
        resting, stepping = 3 * P, 5 * P
    elif zero.stage == 1:  # a rank's own gradients are there twice when it steps, as in the other stages
        resting, stepping = P + optimizer, 2 * P + optimizer + P / ranks + bucket
    elif zero.stage == 2:
        resting, stepping = P + optimizer, P + optimizer + max(2 * bucket, 2 * P / ranks)
    else:
        largest = _largest_parameter(config)  # what is not split further
        live = max(bucket, largest)
        resting = P / ranks + optimizer + live
        stepping = 3 * P / ranks + optimizer + live + max(2 * bucket, largest + bucket)
    all_activations, always = activation_bytes(
        config, zero.checkpointing, num_atoms=num_atoms, num_edges=num_edges, device=device
    )
    return max(FLOAT * resting + all_activations, FLOAT * stepping + always)


def most_edges(
    config: ModelConfig,
    zero: ZeroConfig,
    limit: float,
    *,
    num_params: int,
    num_ranks: int,
    mean_degree: float,
    device: str = "cpu",
) -> int:
    """The largest micro-batch, in edges, that fits in so many bytes; 0 if none does."""

    def fits(edges: int) -> bool:
        size = {"num_params": num_params, "num_ranks": num_ranks, "device": device}
        return peak_bytes(config, zero, num_atoms=edges / mean_degree, num_edges=edges, **size) <= limit  # type: ignore[arg-type]

    low, high = 0, 2**40
    while high - low > 1 + low // 1000:
        middle = (low + high) // 2 if low else math.isqrt(high)
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low
