"""How much memory a training step takes on each device, in closed form: tensors in fp32, in bytes.

The coefficients of activations were fitted to counted tensors (experiments/bench/tensors.py) and are held to 15 % by a
test over widths, depths, both kinds of forces and checkpointing; those of ZeRO follow from what it partitions.
"""

import math
from dataclasses import dataclass

from scaling.config import ModelConfig, ZeroConfig
from scaling.models.edges import block_numbers

FLOAT = 4
#: Gradients are reduced over the ranks in buckets, and ZeRO-3 holds whole at a time, this part of the parameters: more
#: would save nothing of small networks, and large ones need no more than the second and third number.
BUCKET_SHARE, LARGEST_BUCKET, SMALLEST_BUCKET = 10, 50_000_000, 500_000


def bucket_numbers(num_params: int) -> int:
    """How many gradients are reduced, and parameters held whole by ZeRO-3, at a time."""
    return min(max(1, num_params), LARGEST_BUCKET, max(SMALLEST_BUCKET, num_params // BUCKET_SHARE))


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


ACTIVATIONS = {
    "direct": Activations(26.2, 3.9, 5.6, 2.3, 8.5),
    "conservative": Activations(17.5, 6.8, 5.8, 2.9, 11.1),
}


def activation_bytes(
    config: ModelConfig, checkpointing: int, *, num_atoms: float, num_edges: float, device: str
) -> tuple[float, float]:
    """Bytes that a micro-batch adds at the peak, and the part of them that does not depend on depth."""
    K = 1 if config.forces == "direct" else 2
    is_recomputed = [bool(checkpointing) and i % checkpointing == 0 for i in range(config.depth)]
    kept = max(
        is_recomputed.count(False),  # when backward begins
        *(is_recomputed[:i].count(False) + 1 for i in range(config.depth) if is_recomputed[i]),
        0,
    )
    a, F = ACTIVATIONS[config.forces], config.width
    block = min(num_edges * F, block_numbers(device))
    edges, atoms = K * num_edges, K * num_atoms * F
    always = a.per_edge * edges + a.blocks * K * block
    layers = kept * (edges * (F + a.per_layer_edge) + atoms * a.per_layer_atom)
    return FLOAT * (always + layers + atoms * a.per_recomputed_atom * sum(is_recomputed)), FLOAT * always


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
        largest = 3 * config.width**2  # what is not split further: EGNNLayer.atom_in, and its gradient
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
