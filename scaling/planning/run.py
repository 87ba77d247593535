"""One run's row of a plan: what it needs, what is chosen for it, what it costs."""

import math
from collections.abc import Sequence
from typing import Any

from scaling.config import ModelConfig, RunConfig, ZeroConfig
from scaling.models import ParameterCount, parameters_of, training_flops, with_width
from scaling.optim import num_steps
from scaling.planning.data import Data
from scaling.planning.disk import disk_of
from scaling.planning.rate import Rate
from scaling.planning.ways import Size, choose, is_given, num_recomputed, ways

#: Of a training step's FLOPs on a structure, those of judging it.
EVALUATING = {"direct": 1 / 3, "conservative": 1 / 4, "energies alone": 1 / 3}
#: What a layer's second forward adds to the time of its forward and backward.
RECOMPUTING = 1 / 3


def plan_run(
    config: RunConfig,
    data: Data,
    rate: Rate,
    *,
    device: str,
    limit: float,
    possible: Sequence[ZeroConfig] | None = None,
) -> dict[str, Any]:
    """One run's row: what it needs, what is chosen for it, what it costs.

    Args:
        limit: bytes of one device. possible: ways to choose from, the cheapest in time first. By default a `zero` that
            is not the default one is kept, else all are.

    Raises:
        ConfigError: if the largest structure fits in no way.
    """
    model, train = with_width(config.model, data.num_elements), config.train
    parameters = parameters_of(model.sized(), data.num_elements)
    flops = training_flops(model, num_atoms=data.num_atoms, num_edges=data.num_edges, forces=data.has_forces)
    steps = num_steps(
        train.budget,
        batch_size=train.batch_size,
        train_structures=max(1, round(config.data.fraction * data.num_structures)),
        flops_per_structure=flops,
    )
    ranks, graph = config.plan.num_devices or config.launcher.ranks, config.parallel.graph
    share = math.ceil(train.batch_size / (ranks // graph)) * data.num_edges  # of the mean batch
    wanted = min(share, train.max_edges) if train.max_edges else share
    size = Size(model.sized(), parameters, ranks, data.num_edges / data.num_atoms, device, graph)
    if possible is None:
        possible = [config.zero] if is_given(config.zero) else ways(model.depth, ranks)
    zero, edges = choose(possible, size, data, wanted, limit)
    micro_batches = math.ceil(share / min(edges, wanted))
    judged = math.ceil(steps / train.validate_every) * data.num_val + data.num_test
    judging = EVALUATING[model.forces if data.has_forces else "energies alone"]
    training, evaluation = steps * train.batch_size * flops, judged * flops * judging
    recomputed = num_recomputed(model.depth, zero.checkpointing) / model.depth
    computing = (training * (1 + RECOMPUTING * recomputed) + evaluation) / rate.at(model.width)
    waiting = ranks * steps * micro_batches * model.depth * rate.layer_s
    disk = disk_of(parameters.total, zero_stage=zero.stage, steps=steps, train=train)
    return {
        **_network(model, parameters),
        "fraction": config.data.fraction,
        "flops_per_structure": flops,
        "steps": steps,
        "train_flops": training,
        "evaluation_flops": evaluation,
        "ranks": ranks,
        "graph": graph,
        **{"zero_stage": zero.stage, "checkpointing": zero.checkpointing, "offload": zero.offload},
        "max_edges": min(edges, train.max_edges) if train.max_edges else edges,
        "micro_batches": micro_batches,
        "peak_bytes": size.peak(zero, min(edges, wanted)),
        "device_hours": (computing + waiting) / 3600,
        **{"disk_bytes_training": disk.training_bytes, "disk_bytes_kept": disk.kept_bytes},
        "peak_bytes_by_way": _peak_by_way(size, wanted),
    }


def _network(model: ModelConfig, parameters: ParameterCount) -> dict[str, Any]:
    return {
        **{"model": model.name, "width": model.width, "depth": model.depth, "forces": model.forces},
        "num_params": parameters.total,
        **{f"num_params_{part}": value for part, value in parameters.by_part().items()},
    }


def _peak_by_way(size: Size, edges: float) -> dict[str, float]:
    return {
        f"zero{stage}{'_checkpointing' if k else ''}": size.peak(ZeroConfig(stage, k), edges)
        for stage in range(4)
        for k in (0, 1)
    }
