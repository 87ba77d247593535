"""The device that a plan is for: its kind and memory."""

import os

import torch

from scaling.config import RunConfig
from scaling.errors import ConfigError

GIB = 2**30


def device_here() -> str:
    """cpu or cuda."""
    if os.environ.get("DS_ACCELERATOR") == "cpu":
        return "cpu"
    return "cuda" if torch.cuda.is_available() else "cpu"


def memory_here(device: str, ranks: int) -> float:
    """Bytes of one rank's device; of a CPU's memory each rank has a share."""
    if device == "cuda":
        return float(torch.cuda.get_device_properties(0).total_memory)
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / ranks


def planned_device(config: RunConfig) -> tuple[str, float]:
    """cpu or cuda, and the bytes of one device: as given, then a GPU, perhaps of another machine; else of this one.

    Raises:
        ConfigError: if it is that of a cluster, and not given.
    """
    site = config.launcher.slurm
    if config.launcher.kind == "slurm":
        given = config.plan.device_memory_gib or (0.0 if site.gpus_per_rank else site.mem_gb_per_rank)
        if not given:
            key = "plan.device_memory_gib" if site.gpus_per_rank else "launcher.slurm.mem_gb_per_rank"
            raise ConfigError(f"{key}=0 must be what one rank has on the cluster, for its runs to be planned")
        return ("cuda" if site.gpus_per_rank else "cpu"), given * GIB
    if config.plan.device_memory_gib:
        kind = "cpu" if os.environ.get("DS_ACCELERATOR") == "cpu" else "cuda"
        return kind, config.plan.device_memory_gib * GIB
    here = device_here()
    return here, memory_here(here, config.plan.num_devices or config.launcher.ranks)
