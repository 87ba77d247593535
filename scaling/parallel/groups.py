"""Which ranks share a batch."""

from dataclasses import dataclass
from typing import Any

import torch.distributed as dist

from scaling.errors import ConfigError


@dataclass(frozen=True)
class Group:
    """The ranks that share each batch of graphs: this one's place among them; processes: torch's group of them."""

    rank: int = 0
    size: int = 1
    processes: Any = None

    @classmethod
    def of(cls, rank: int, world_size: int, size: int) -> "Group":
        """The group of a rank: consecutive ranks, as near to each other as the machine has them.

        Every rank must call it.

        Raises:
            ConfigError: if size does not divide world_size.
        """
        if size == 1:
            return ALONE
        if world_size % size:
            raise ConfigError(f"parallel.graph={size} must be a divisor of the number of ranks, {world_size}")
        groups = [dist.new_group(list(range(k, k + size))) for k in range(0, world_size, size)]
        return cls(rank % size, size, groups[rank // size])


ALONE = Group()
