"""Ways to save memory, and the one that costs least time among those that fit."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from scaling.config import ModelConfig, ZeroConfig
from scaling.errors import ConfigError
from scaling.models import ParameterCount
from scaling.planning.data import Data
from scaling.planning.device import GIB
from scaling.training import most_edges, peak_bytes

#: Of a device's memory, what tensors may take: the rest is the runtime, libraries and the allocator's fragments.
USABLE = 0.9
#: Fewer edges at once than these leave a device waiting for its own overheads.
EFFICIENT_EDGES = {"cpu": 5_000, "cuda": 200_000}


def ways(depth: int, ranks: int) -> list[ZeroConfig]:
    """All ways to save memory, the cheapest in time first: a rank alone has nobody to partition with."""
    every_kth = {num_recomputed(depth, k): k for k in range(depth, 0, -1)}  # of equal cost, the most even
    found = [
        ZeroConfig(stage, checkpointing)
        for checkpointing in (0, *(every_kth[count] for count in sorted(every_kth)))
        for stage in ((0, 1, 2) if ranks > 1 else (0,))
    ]
    return [*found, ZeroConfig(3, 1)] if ranks > 1 else found


def num_recomputed(depth: int, checkpointing: int) -> int:
    """Layers whose activations are computed again in backward."""
    return math.ceil(depth / checkpointing) if checkpointing else 0


def is_given(zero: ZeroConfig) -> bool:
    """Whether a way was chosen by hand."""
    return replace(zero, auto=False) != ZeroConfig()


@dataclass(frozen=True)
class Size:
    """A network, the devices that share it, and the mean number of neighbours: what memory depends on.

    graph: number of devices that share each micro-batch.
    """

    model: ModelConfig
    parameters: ParameterCount
    num_ranks: int
    mean_degree: float
    device: str
    graph: int = 1

    def peak(self, zero: ZeroConfig, edges: float) -> float:
        """Bytes with a micro-batch of this many edges."""
        own = edges / self.graph
        return peak_bytes(self.model, zero, num_atoms=own / self.mean_degree, num_edges=own, **self._kept)

    def most_edges(self, zero: ZeroConfig, limit: float) -> int:
        """The largest micro-batch that fits."""
        return self.graph * most_edges(self.model, zero, limit, mean_degree=self.mean_degree, **self._kept)

    @property
    def _kept(self) -> dict[str, Any]:
        return {"parameters": self.parameters, "num_ranks": self.num_ranks, "device": self.device}


def choose(
    possible: Sequence[ZeroConfig], size: Size, data: Data, wanted: float, limit: float
) -> tuple[ZeroConfig, int]:
    """The first way, in the order of their cost, that fits an efficient micro-batch; and the most edges that fit it.

    Raises:
        ConfigError: if the largest structure fits in no way.
    """
    most = [size.most_edges(zero, USABLE * limit) for zero in possible]
    efficient = max(data.largest_edges, min(wanted, size.graph * EFFICIENT_EDGES[size.device]))
    best = next((k for k, edges in enumerate(most) if edges >= efficient), most.index(max(most)))
    if most[best] < data.largest_edges:
        need, zero = min(((size.peak(way, data.largest_edges), way) for way in possible), key=lambda pair: pair[0])
        raise ConfigError(
            f"model.width={size.model.width}, model.depth={size.model.depth} ({size.parameters.total:,} parameters) "
            f"needs {need / GIB:.3g} GiB a device for the largest structure alone, at zero.stage={zero.stage} with "
            f"zero.checkpointing={zero.checkpointing}; {USABLE * limit / GIB:.3g} GiB of {limit / GIB:.3g} may be "
            f"used; raise the number of devices (now {size.num_ranks}), how many share a batch (now "
            f"parallel.graph={size.graph}) or plan.device_memory_gib, or lower the width"
        )
    return possible[best], most[best]
