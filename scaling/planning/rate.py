"""How many FLOPs a second a device gives, measured in seconds on small networks."""

import math
import sys
import time
from dataclasses import dataclass, fields, replace

import numpy as np
import torch

from scaling.config import ModelConfig, RunConfig
from scaling.models import Graphs, build, training_flops
from scaling.planning.batches import CUTOFF_ANG, backward, random_graphs
from scaling.planning.device import device_here

#: Widths of the networks that are timed.
MEASURED_WIDTHS = (4, 16, 64, 256)
#: Their depth.
DEPTH = 2


@dataclass(frozen=True)
class Rate:
    """Matrix-product FLOPs a second of one device by width: measured, or the same for all widths if given.

    layer_s: seconds that a layer takes in a step however small the batch: what is not computing.
    """

    by_width: tuple[tuple[int, float], ...]
    layer_s: float = 0.0

    def at(self, width: int) -> float:
        """Interpolated in the logarithms, constant outside."""
        widths, rates = zip(*self.by_width, strict=True)
        return float(np.exp(np.interp(math.log(width), np.log(widths), np.log(rates))))


def measure_rate(config: RunConfig) -> Rate:
    """Time steps of a few small networks of the run's family on this machine, some seconds."""
    device, model = torch.device(device_here()), config.model
    what = f"{model.name}, {model.forces} forces"
    print(f"timing steps on this machine: {what} (plan.flops_per_s=... spares it)", file=sys.stderr, flush=True)
    torch.backends.cuda.matmul.allow_tf32 = config.train.precision == "tf32"
    torch.set_num_threads(config.train.num_threads or torch.get_num_threads())
    batch, nearly_none = (
        random_graphs(count, mean_degree=degree)[0].to(device) for count, degree in ((2, 30.0), (1, 1.0))
    )
    sizes = {width: _at_width(model, width) for width in MEASURED_WIDTHS}
    in_bf16 = config.train.precision == "bf16"
    layer_s = _seconds_of_step(sizes[MEASURED_WIDTHS[0]], nearly_none, in_bf16=in_bf16) / DEPTH
    rates = []
    for width, size in sizes.items():
        flops = training_flops(size, num_atoms=len(batch.x_N3), num_edges=len(batch.src_E))
        computing = _seconds_of_step(size, batch, in_bf16=in_bf16) - DEPTH * layer_s
        rates.append((width, flops / max(computing, 0.1 * DEPTH * layer_s)))
    return Rate(tuple(rates), layer_s)


def _at_width(model: ModelConfig, width: int) -> ModelConfig:
    """A network of the same family whose sizes follow from this width."""
    by_width = {entry.name: 0 for entry in fields(model) if entry.type is int and entry.default == 0}
    return replace(model, width=width, depth=DEPTH, num_params=None, **by_width)


def _seconds_of_step(config: ModelConfig, graphs: Graphs, *, in_bf16: bool) -> float:
    """The third of eight: what else the machine does only adds to a time."""
    device = graphs.x_N3.device
    model = build(config, num_elements=5, cutoff_ang=CUTOFF_ANG, mean_degree=30.0, scale_ev=1.0).to(device)
    optimizer = torch.optim.AdamW(model.parameters(), fused=True)
    seconds = []
    for _ in range(8):
        begin = time.perf_counter()
        with torch.autocast(device.type, torch.bfloat16, enabled=in_bf16):
            backward(model, graphs, lambda energy_G, forces_N3: energy_G.sum() + forces_N3.abs().sum())
        optimizer.step()
        optimizer.zero_grad()
        if device.type == "cuda":
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - begin)
    return sorted(seconds)[2]
