"""The ranks of a run, and the device of each."""

import os
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor

from scaling.errors import ConfigError, RunError
from scaling.models import Graphs
from scaling.parallel import ALONE, Group

#: What the user has chosen, if anything: DS_ACCELERATOR=cpu leaves GPUs alone.
ASKED_ACCELERATOR = os.environ.get("DS_ACCELERATOR", "")
#: Values of CUDA_VISIBLE_DEVICES that hide every GPU.
NO_DEVICES = ("", "-1", "NoDevFiles")


def accelerator() -> str:
    """What ranks compute on: cuda where torch sees a GPU, cpu, or what the user has chosen."""
    return ASKED_ACCELERATOR or ("cuda" if torch.cuda.is_available() else "cpu")


@dataclass(frozen=True)
class World:
    """The ranks of a run and this one's place among them; group: those with which it shares each batch of graphs."""

    rank: int
    size: int
    device: torch.device
    group: Group = ALONE

    @classmethod
    def join(cls, graph: int = 1, *, gpus_per_rank: int = 0) -> "World":
        """Join the process group that the environment describes (RANK, WORLD_SIZE, ...), or a world of one.

        Args:
            graph: how many ranks share each batch of graphs. gpus_per_rank: that the launcher has asked for.
        Raises:
            ConfigError: if GPUs were asked for and none is there, or graph does not divide the number of ranks.
        """
        require_gpu(gpus_per_rank)
        rank, size = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
        on_gpu = accelerator() == "cuda"
        device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0))) if on_gpu else torch.device("cpu")
        if on_gpu:
            torch.cuda.set_device(device)
        if not dist.is_initialized():
            backend = "nccl" if on_gpu else "gloo"
            if size == 1:  # a store in memory: runs side by side on one machine must not meet on a port
                dist.init_process_group(backend, store=dist.HashStore(), rank=0, world_size=1)
            else:
                dist.init_process_group(backend)
        return cls(rank, size, device, Group.of(rank, size, graph))

    @property
    def data_rank(self) -> int:
        """The place of this rank's group among the groups, each of which has batches of its own."""
        return self.rank // self.group.size

    @property
    def data_size(self) -> int:
        """How many groups there are."""
        return self.size // self.group.size

    @property
    def speaks_for_group(self) -> bool:
        """Whether what this rank has of its group's batch enters a sum over all: once for each group."""
        return self.group.rank == 0

    def sum(self, values: Tensor) -> Tensor:
        """Sum a tensor over all ranks, in place."""
        if self.size > 1:
            values = values.to(self.device)
            dist.all_reduce(values)
        return values

    def require_same(self, graphs: Graphs) -> None:
        """See that all ranks of a group have built the same batch, before they rely on it.

        Raises:
            RunError: if they have not.
        """
        if self.group.size == 1:
            return
        numbers = [len(graphs.element_N), len(graphs.src_E), int((graphs.src_E * (graphs.dst_E + 1)).sum())]
        bounds = torch.tensor([*numbers, *(-number for number in numbers)], device=self.device)
        dist.all_reduce(bounds, op=dist.ReduceOp.MAX, group=self.group.processes)
        if bounds[:3].tolist() != (-bounds[3:]).tolist():
            raise RunError(
                "ranks that share a batch have found different neighbours, perhaps on processors of different kinds; "
                "run them on nodes of one kind, or set parallel.graph=1"
            )

    def leave(self) -> None:
        """Wait until all ranks are done, so that none ends while another still needs it."""
        self.barrier()
        dist.destroy_process_group()

    def barrier(self) -> None:
        """Wait for all ranks."""
        if self.size > 1:
            dist.barrier()


def require_gpu(gpus_per_rank: int) -> None:
    """Refuse to train on the CPU in silence where a GPU was asked for.

    Args:
        gpus_per_rank: that the launcher has asked for.
    Raises:
        ConfigError: naming who asked, the installed torch and the way out.
    """
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    is_asked = gpus_per_rank > 0 or visible.split(",")[0].strip() not in NO_DEVICES
    if not is_asked or ASKED_ACCELERATOR == "cpu" or torch.cuda.is_available():
        return
    asked = f"launcher.slurm.gpus_per_rank={gpus_per_rank}" if gpus_per_rank else f"CUDA_VISIBLE_DEVICES={visible}"
    cuda = torch.version.cuda
    build = f"built for CUDA {cuda}" if cuda else "built without CUDA"
    raise ConfigError(
        f"{asked} asks for a GPU, but torch {torch.__version__}, {build}, sees none: compare the driver's CUDA version "
        "(nvidia-smi) and install a build of torch that is not newer; to train on the CPU, set DS_ACCELERATOR=cpu"
    )
