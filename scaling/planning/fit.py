"""A run fitted to the machine that computes it: ranks, ZeRO stage, checkpointing and micro-batch."""

from dataclasses import replace

from scaling.config import PlanConfig, RunConfig, ZeroConfig
from scaling.errors import ConfigError
from scaling.planning.data import Data, data_of
from scaling.planning.device import GIB, device_here, memory_here, planned_device
from scaling.planning.rate import Rate
from scaling.planning.run import plan_run
from scaling.planning.ways import ways

#: launcher.ranks=0 spreads no run over more.
MOST_NODES = 1024
#: Whether a run fits does not depend on it.
ANY_RATE = Rate(((1, 1.0),))


def fitted(config: RunConfig, *, begun_at: int | None, side_by_side: int) -> RunConfig:
    """The same run with the stage, checkpointing and micro-batch that fit this machine on `launcher.ranks` devices.

    Args:
        begun_at: the ZeRO stage of its checkpoints, which it must keep. side_by_side: runs that share a device.

    Raises:
        ConfigError: if it fits nowhere.
    """
    if config.launcher.kind != "local":
        device, limit = planned_device(config)
        limit /= side_by_side
    else:
        device = device_here()
        limit = config.plan.device_memory_gib * GIB or memory_here(device, config.launcher.ranks) / side_by_side
    alone = replace(config, plan=PlanConfig())
    if config.launcher.ranks == 0:
        alone = with_ranks(alone, data_of(alone), device=device, limit=limit)
        config = replace(config, launcher=alone.launcher)
    possible = ways(config.model.depth, config.launcher.ranks)
    if begun_at is not None:
        possible = [way for way in possible if way.stage == begun_at] or [ZeroConfig(begun_at, 1)]
    row = plan_run(alone, data_of(alone), ANY_RATE, device=device, limit=limit, possible=possible)
    return replace(
        config,
        zero=ZeroConfig(row["zero_stage"], row["checkpointing"]),
        train=replace(config.train, max_edges=row["max_edges"]),
    )


def with_ranks(config: RunConfig, data: Data, *, device: str, limit: float) -> RunConfig:
    """The same run with as few ranks as it fits on, where launcher.ranks=0: a power of two on one node, or of nodes.

    Raises:
        ConfigError: if it fits on no number of them.
    """
    if config.launcher.ranks or config.plan.num_devices:
        return config
    per_node = config.launcher.slurm.ranks_per_node
    on_one = [2**k for k in range(per_node.bit_length()) if 2**k < per_node]
    numbers = [*on_one, *(per_node * 2**k for k in range(MOST_NODES.bit_length()))]
    refused = ConfigError(
        f"parallel.graph={config.parallel.graph} must divide a power of two below launcher.slurm.ranks_per_node="
        f"{per_node}, or that times a power of two, for launcher.ranks=0 to find a number of ranks"
    )
    for ranks in (number for number in numbers if number % config.parallel.graph == 0):
        larger = replace(config, launcher=replace(config.launcher, ranks=ranks))
        try:
            plan_run(larger, data, ANY_RATE, device=device, limit=limit)
        except ConfigError as error:
            refused = error
        else:
            return larger
    raise refused
