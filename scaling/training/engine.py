"""DeepSpeed, and nothing but DeepSpeed: the one file that imports it.

What was learned of DeepSpeed stands here as code: see the comments.
"""

import logging
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.nn.utils import clip_grad_norm_

from scaling.config import OptimConfig, ZeroConfig
from scaling.errors import RunError
from scaling.models import Graphs, Potential
from scaling.optim import build_optimizer
from scaling.training.memory import bucket_numbers
from scaling.training.world import ASKED_ACCELERATOR, World, accelerator

os.environ["DS_ACCELERATOR"] = accelerator()
os.environ.setdefault("DEEPSPEED_LOG_LEVEL", "error")

import deepspeed
import deepspeed.ops
from deepspeed.utils import logger as deepspeed_logger
from deepspeed.utils import safe_get_full_grad

# DeepSpeed looks for its accelerator once, when it is imported; child processes must see what the user has set alone.
if not ASKED_ACCELERATOR:
    del os.environ["DS_ACCELERATOR"]

#: ZeRO-3 leaves parameters of fewer numbers whole.
PERSISTENT = 100_000

# Its CPU communication op is compiled at start-up and fails without a compiler; only inference uses it.
deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
deepspeed_logger.setLevel(logging.ERROR)


@contextmanager
def construction(zero: ZeroConfig) -> Iterator[None]:
    """Where a network is built: at ZeRO stage 3 each parameter is partitioned as soon as it is there."""
    _join()
    with deepspeed.zero.Init(enabled=zero.stage == 3, config_dict_or_path=_deepspeed_config(0.0, zero, "fp32")):
        yield


class Prediction:
    """Energies (G,) and forces (N, 3) of one batch, and the way back from a loss of them to the parameters.

    forces_N3: None where only energies were asked for.
    """

    def __init__(self, engine: "Engine", graphs: Graphs, energy_G: Tensor, forces_N3: Tensor | None = None) -> None:
        self.energy_G, self.forces_N3 = energy_G, forces_N3
        self._engine, self._graphs = engine, graphs

    def backward(self, loss: Tensor, *, is_last: bool) -> None:
        """Add the gradient of a loss of this prediction to the step's; is_last: `Engine.step` follows."""
        partitioned, module = self._engine.partitioned, self._engine.module
        partitioned.set_gradient_accumulation_boundary(is_last)
        if module.is_conservative and self.forces_N3 is not None:
            outputs = self.energy_G, self.forces_N3
            (loss,) = partitioned(self._graphs, torch.autograd.grad(loss, outputs, materialize_grads=True))
        # DeepSpeed averages over the ranks; our losses are already shares of the whole batch's.
        partitioned.backward(loss * self._engine.world.size)


class Engine:
    """A network, its optimiser and their partition over the ranks.

    The gradient of a step is the gradient of the sum of all losses given to `Prediction.backward` on all ranks since
    the last step: losses are normalised by the caller over the whole batch, so that nothing here depends on the world's
    size. Ranks that share a batch each add their part of its gradient, so that to DeepSpeed all ranks are data
    parallel.

    Attributes:
        module: the network. partitioned: DeepSpeed's engine around it.
    """

    def __init__(self, model: Potential, *, optim: OptimConfig, zero: ZeroConfig, precision: str, world: World) -> None:
        _join()
        self.world = world
        self.zero_stage = zero.stage
        self._max_grad_norm = optim.max_grad_norm
        self._autocast = precision == "bf16"
        torch.backends.cuda.matmul.allow_tf32 = precision == "tf32"
        self.partitioned, self._optimizer, _, _ = deepspeed.initialize(
            model=model.to(world.device),
            optimizer=build_optimizer(model, optim),
            config=_deepspeed_config(optim.max_grad_norm, zero, precision, _num_params(model)),
        )
        self.module: Potential = self.partitioned.module

    def forward(self, graphs: Graphs, *, forces: bool = True) -> Prediction:
        """Energies and forces to compute a loss from; without forces, one pass of a conservative network suffices."""
        if not self.module.is_conservative:
            return Prediction(self, graphs, *self.partitioned(graphs))
        if not forces:
            return Prediction(self, graphs, *self.partitioned(graphs, forces=False))
        # No parameter's gradient follows from this pass, so DeepSpeed's own forward must not see it.
        with torch.autocast(self.world.device.type, torch.bfloat16, enabled=self._autocast):
            outputs = self.module(graphs)
        return Prediction(self, graphs, *(output.requires_grad_() for output in outputs))

    def step(self, lr: float) -> float:
        """Clip, step and forget the gradients; returns the gradient's norm before clipping."""
        for group in self._optimizer.param_groups:
            group["lr"] = lr
        if self.zero_stage == 0:  # DeepSpeed would clip here too, slower, and keep the norm to itself
            norm = clip_grad_norm_(self.module.parameters(), self._max_grad_norm or float("inf"))
            self.partitioned.step()
            return float(norm)
        self.partitioned.step()
        return float(self.partitioned.get_global_grad_norm())

    def gradients(self) -> dict[str, Tensor]:
        """The whole gradient of every parameter after the last backward of a step, on every rank."""
        return {name: safe_get_full_grad(p).detach().clone() for name, p in self.module.named_parameters()}

    def save(self, directory: Path) -> None:
        """Write the weights, optimiser and partition; every rank takes part."""
        self.partitioned.save_checkpoint(str(directory), tag="engine", save_latest=False)

    def load(self, directory: Path, *, by_other_ranks: Path | None = None) -> None:
        """Read what `save` wrote at the same stage.

        Args:
            by_other_ranks: an empty directory, if another number of ranks wrote it; there its partition is undone.
        """
        if by_other_ranks is None or self.zero_stage == 0:  # at stage 0 every rank holds all
            self.partitioned.load_checkpoint(str(directory), tag="engine")
            return
        if self.world.rank == 0:
            _to_universal(directory / "engine", by_other_ranks / "engine")
        self.world.barrier()
        self.partitioned._config.load_universal_checkpoint = True
        self.partitioned.load_checkpoint(str(by_other_ranks), tag="engine")
        self.partitioned._config.load_universal_checkpoint = False

    def weights(self) -> dict[str, Tensor]:
        """All weights in full, in the first rank's main memory; nothing on the others. Never gathered all at once."""
        full = {}
        for name, parameter in self.module.named_parameters():
            with self._gathered(parameter, writable=False):
                if self.world.rank == 0:
                    full[name] = parameter.detach().to("cpu", copy=True)
        return full

    def set_weights(self, read: Callable[[str], Tensor]) -> None:
        """Put full weights in place, e.g. the best ones for the test. The optimiser keeps its own copy.

        Args:
            read: gives a parameter's weights by its name; asked for one at a time.
        """
        for name, parameter in self.module.named_parameters():
            with self._gathered(parameter, writable=True), torch.no_grad():
                if self.zero_stage < 3 or self.world.rank == 0:
                    parameter.copy_(read(name))

    @contextmanager
    def _gathered(self, parameter: Tensor, *, writable: bool) -> Iterator[None]:
        if self.zero_stage < 3:
            yield
            return
        with deepspeed.zero.GatheredParameters([parameter], modifier_rank=0 if writable else None):
            yield


def _to_universal(partitioned: Path, universal: Path) -> None:
    """Run DeepSpeed's converter; it forks, so it gets its own process."""
    module = "deepspeed.checkpoint.ds_to_universal"
    folders = ["--input_folder", str(partitioned), "--output_folder", str(universal)]
    # Parameters that never had a gradient have no optimiser state.
    command = [sys.executable, "-m", module, *folders, "--inject_missing_state"]
    environment = {**os.environ, "DS_ACCELERATOR": accelerator()}
    converted = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if converted.returncode:
        raise RunError(f"{partitioned} cannot be read by another number of ranks: {converted.stderr.strip()[-500:]}")


def _join() -> None:
    """Let DeepSpeed use the process group that `World.join` has made."""
    if not deepspeed.comm.is_initialized():
        os.environ.setdefault("LOCAL_RANK", "0")
        deepspeed.init_distributed(dist_backend=dist.get_backend(), auto_mpi_discovery=False, verbose=False)


def _num_params(model: Potential) -> int:
    return sum(getattr(parameter, "ds_numel", parameter.numel()) for parameter in model.parameters())


def _deepspeed_config(max_grad_norm: float, zero: ZeroConfig, precision: str, num_params: int = 0) -> dict[str, Any]:
    """What DeepSpeed is given; num_params: of the network, by which its buffers are sized."""
    bucket = bucket_numbers(num_params)
    return {
        "train_micro_batch_size_per_gpu": 1,  # ours are graphs filled by edges; boundaries are set by hand
        "gradient_accumulation_steps": 1,
        # DeepSpeed's default is 1.0, silently; at stage 0 `Engine.step` clips
        "gradient_clipping": max_grad_norm if zero.stage else 0.0,
        "zero_optimization": {
            "stage": zero.stage,
            # a buffer of this many numbers is allocated whatever the network's size; DeepSpeed's default is 2 GB of it
            "reduce_bucket_size": bucket,
            "stage3_param_persistence_threshold": PERSISTENT,
            "stage3_max_live_parameters": bucket,
            "stage3_max_reuse_distance": bucket,
            "stage3_prefetch_bucket_size": bucket,
            **({"offload_optimizer": {"device": "cpu", "pin_memory": True}} if zero.offload else {}),
        },
        "zero_allow_untested_optimizer": True,
        "zero_force_ds_cpu_optimizer": False,
        # `bf16: enabled` wraps the optimiser differently at stage 0, to other losses; autocast agrees over all stages
        "torch_autocast": {"enabled": precision == "bf16", "dtype": "bfloat16"},
        "steps_per_print": 10**12,
        "wall_clock_breakdown": False,
    }
