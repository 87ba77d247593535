"""How much memory a training step takes on each device, in closed form: tensors in fp32, in bytes.

Activations are the network's own affair (`ModelConfig.activation_bytes`); what ZeRO keeps follows from what it
partitions.
"""

import math

from scaling.config import ZeroConfig
from scaling.models import ModelConfig, ParameterCount
from scaling.models.activations import FLOAT
from scaling.models.ops import block_numbers

#: Gradients are reduced over the ranks in buckets, and ZeRO-3 holds whole at a time, this part of the parameters: more
#: would save nothing of small networks, and large ones need no more than the second and third number.
BUCKET_SHARE, LARGEST_BUCKET, SMALLEST_BUCKET = 10, 50_000_000, 500_000


def bucket_numbers(num_params: int) -> int:
    """How many gradients are reduced, and parameters held whole by ZeRO-3, at a time."""
    return min(max(1, num_params), LARGEST_BUCKET, max(SMALLEST_BUCKET, num_params // BUCKET_SHARE))


def peak_bytes(
    config: ModelConfig,
    zero: ZeroConfig,
    *,
    parameters: ParameterCount,
    num_ranks: int,
    num_atoms: float,
    num_edges: float,
    device: str = "cpu",
) -> float:
    """Peak bytes of tensors on one device.

    Args:
        parameters: of the network. num_atoms, num_edges: of one micro-batch on one rank. device: cpu or cuda (blocks of
            edges differ in size).
    """
    resting, stepping = _parameter_numbers(parameters, zero, num_ranks)
    all_activations, always = config.sized().activation_bytes(
        zero.checkpointing, num_atoms=num_atoms, num_edges=num_edges, block_numbers=block_numbers(device)
    )
    return max(FLOAT * resting + all_activations, FLOAT * stepping + always)


def _parameter_numbers(parameters: ParameterCount, zero: ZeroConfig, num_ranks: int) -> tuple[float, float]:
    """Parameters, gradients and the optimiser's state on a rank: while activations are there, and in the step."""
    P, ranks, largest = parameters.total, num_ranks, parameters.largest
    bucket = bucket_numbers(P)
    optimizer = 0 if zero.offload else 3 * P / ranks  # fp32 copy and two moments
    if zero.stage == 0:  # no copy; when gradients are reduced they are there twice
        return 3 * P, 5 * P
    if zero.stage == 1:  # a rank's own gradients are there twice when it steps, as in the other stages
        return P + optimizer, 2 * P + optimizer + P / ranks + bucket
    if zero.stage == 2:
        return P + optimizer, P + optimizer + max(2 * bucket, 2 * P / ranks)
    live = max(bucket, largest)  # a tensor is not split further
    resting = P / ranks + optimizer + live
    return resting, 3 * P / ranks + optimizer + live + max(2 * bucket, largest + bucket)


def most_edges(
    config: ModelConfig,
    zero: ZeroConfig,
    limit: float,
    *,
    parameters: ParameterCount,
    num_ranks: int,
    mean_degree: float,
    device: str = "cpu",
) -> int:
    """The largest micro-batch, in edges, whose peak is at most `limit` bytes; 0 if none is."""

    def fits(edges: int) -> bool:
        batch = {"num_atoms": edges / mean_degree, "num_edges": edges}
        return peak_bytes(config, zero, parameters=parameters, num_ranks=num_ranks, device=device, **batch) <= limit

    low, high = 0, 2**40
    while high - low > 1 + low // 1000:
        middle = (low + high) // 2 if low else math.isqrt(high)
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low
