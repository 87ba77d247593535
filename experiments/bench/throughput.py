"""How fast a step of training is, beside a plain EGNN of as many parameters and beside the machine's own limit.

python -m experiments.bench.throughput [--json FILE] [--quick]

A step is forward, backward and AdamW on one batch; ours goes through DeepSpeed. Both, and a product of two large
matrices, take turns in one process, with the allocator set as the product sets it. The share of the limit is the time
that the step's matrix products (counted, not estimated) would take at the rate of the large one, over the step's time.
The last rows show what DeepSpeed adds to a step of a network so small that little else is left.
"""

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils import clip_grad_norm_

from experiments.bench.table import options, publish
from scaling.config import ModelConfig, ZeroConfig
from scaling.launch import ALLOCATOR
from scaling.models import Graphs, Potential, build
from scaling.models.egnn import EGNNConfig
from scaling.optim import AdamWConfig
from scaling.planning import backward, random_graphs
from scaling.planning.batches import CUTOFF_ANG
from scaling.training import Engine, World
from tests.reference.counters import matrix_flops
from tests.reference.plain_egnn import plain_egnn

WIDTHS = (64, 128, 256)
DEPTH = 4
MEAN_DEGREE = 40.0
STRUCTURES = 6
THREADS = (1, 2)
REPEATS = 7
#: Of the large product.
SIDE = 2048
SIZES: dict[str, Any] = {"num_elements": 5, "cutoff_ang": CUTOFF_ANG}
#: The smallest network of conf/study/quickstart.yaml, on a batch of few edges.
SMALLEST = {"width": 4, "depth": 2}


def loss_of(energy_G: Tensor, forces_N3: Tensor, labels_N3: Tensor) -> Tensor:
    """A loss of energies and forces."""
    return (forces_N3 - labels_N3).abs().mean() + 0.1 * energy_G.abs().mean()


def engine_step(model: Potential, graphs: Graphs, labels_N3: Tensor, world: World) -> Callable[[], None]:
    """A step as the product takes it."""
    engine = Engine(model, optim=AdamWConfig(), zero=ZeroConfig(), precision="fp32", world=world)

    def step() -> None:
        found = engine.forward(graphs)
        found.backward(loss_of(found.energy_G, found.forces_N3, labels_N3), is_last=True)
        engine.step(1e-4)

    return step


def plain_step(model: Any, graphs: Graphs, labels_N3: Tensor) -> Callable[[], None]:
    """A step in plain torch."""
    optimizer = torch.optim.AdamW(model.parameters(), fused=True)

    def step() -> None:
        backward(model, graphs, lambda *outputs: loss_of(*outputs, labels_N3))
        clip_grad_norm_(model.parameters(), 10.0)
        optimizer.step()
        optimizer.zero_grad()

    return step


def matrix_product(device: torch.device) -> Callable[[], None]:
    """What the machine can do: one large product of matrices."""
    left, right = (torch.randn(SIDE, SIDE, device=device) for _ in range(2))

    def step() -> None:
        left @ right

    return step


def in_turns(steps: dict[str, Callable[[], None]], repeats: int, device: torch.device) -> dict[str, float]:
    """The median seconds of each, measured by turns, so that what else the machine does meets all alike."""
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for turn in range(repeats + 2):
        for name, step in steps.items():
            begin = time.perf_counter()
            step()
            if device.type == "cuda":
                torch.cuda.synchronize()
            if turn >= 2:
                seconds[name].append(time.perf_counter() - begin)
    return {name: statistics.median(times) for name, times in seconds.items()}


def network(config: ModelConfig, checkpointing: int, device: torch.device) -> Potential:
    """The product's network."""
    torch.manual_seed(0)
    model = build(config, **SIZES, mean_degree=MEAN_DEGREE, scale_ev=1.0, checkpointing=checkpointing)
    return model.to(device)


def measure_width(width: int, forces: str, world: World, *, quick: bool) -> list[dict[str, Any]]:
    """Rows of one width: with and without checkpointing, both beside the plain network without."""
    config = EGNNConfig(width=width, depth=DEPTH, forces=forces)
    graphs, labels_N3 = random_graphs(1 if quick else STRUCTURES, mean_degree=MEAN_DEGREE)
    graphs, labels_N3 = graphs.to(world.device), labels_N3.to(world.device)
    num_params = sum(p.numel() for p in network(config, 0, world.device).parameters())
    plain = plain_egnn(config, num_params, **SIZES).to(world.device)
    ours = {
        checkpointing: engine_step(network(config, checkpointing, world.device), graphs, labels_N3, world)
        for checkpointing in (0, 1)
    }
    steps = {
        "limit": matrix_product(world.device),
        "plain": plain_step(plain, graphs, labels_N3),
        **{str(checkpointing): step for checkpointing, step in ours.items()},
    }
    seconds = in_turns(steps, 1 if quick else REPEATS, world.device)
    num_edges, limit = len(graphs.src_E), 2 * SIDE**3 / seconds["limit"]
    return [
        {
            "threads": torch.get_num_threads(),
            "width": width,
            "forces": forces,
            "checkpointing": checkpointing,
            "num_params": num_params,
            "plain_num_params": sum(p.numel() for p in plain.parameters()),
            "kiloedges_per_s": num_edges / seconds[str(checkpointing)] / 1e3,
            "plain_kiloedges_per_s": num_edges / seconds["plain"] / 1e3,
            "times_plain": seconds["plain"] / seconds[str(checkpointing)],
            "limit_gflops": limit / 1e9,
            "share_of_limit": matrix_flops(ours[checkpointing]) / seconds[str(checkpointing)] / limit,
        }
        for checkpointing in (0, 1)
    ]


def measure_overhead(forces: str, world: World, *, quick: bool) -> dict[str, Any]:
    """Milliseconds of a step of the smallest network in plain torch and through DeepSpeed."""
    config = EGNNConfig(**SMALLEST, forces=forces)
    graphs, labels_N3 = random_graphs(1, mean_degree=MEAN_DEGREE)
    graphs, labels_N3 = graphs.to(world.device), labels_N3.to(world.device)
    steps = {
        "plain": plain_step(network(config, 0, world.device), graphs, labels_N3),
        "engine": engine_step(network(config, 0, world.device), graphs, labels_N3, world),
    }
    seconds = in_turns(steps, 10 if quick else 200, world.device)
    return {
        "threads": torch.get_num_threads(),
        "width": config.width,
        "forces": forces,
        "ms_in_plain_torch": 1e3 * seconds["plain"],
        "ms_through_deepspeed": 1e3 * seconds["engine"],
        "ms_added": 1e3 * (seconds["engine"] - seconds["plain"]),
    }


def measure(threads: int, *, quick: bool) -> dict[str, list[dict[str, Any]]]:
    """All rows for one number of threads."""
    torch.set_num_threads(threads)
    world = World.join()
    rows = []
    for width in WIDTHS[:1] if quick else WIDTHS:
        for forces in ("direct", "conservative"):
            rows += measure_width(width, forces, world, quick=quick)
            print(rows[-2], file=sys.stderr, flush=True)
    overhead = [measure_overhead(forces, world, quick=quick) for forces in ("direct", "conservative")]
    return {"throughput": rows, "overhead": overhead}


def main() -> None:
    """One process for each number of threads."""
    parser = options(__doc__)
    parser.add_argument("--threads", type=int, help=f"only with this number (default: {THREADS} in turn)")
    given = parser.parse_args()
    if given.threads is not None and "THROUGHPUT_WORKER" in os.environ:
        print(json.dumps(measure(given.threads, quick=given.quick)))
        return
    found: dict[str, list[dict[str, Any]]] = {"throughput": [], "overhead": []}
    for threads in THREADS if given.threads is None else (given.threads,):
        command = [sys.executable, "-m", "experiments.bench.throughput", "--threads", str(threads)]
        environment = {**os.environ, **ALLOCATOR, "OMP_NUM_THREADS": str(threads), "THROUGHPUT_WORKER": "1"}
        quick = ["--quick"] if given.quick else []
        done = subprocess.run([*command, *quick], env=environment, stdout=subprocess.PIPE, text=True, check=True)
        for name, rows in json.loads(done.stdout.splitlines()[-1]).items():
            found[name] += rows
    publish(
        {"Throughput of a training step": found["throughput"], "What DeepSpeed adds to it": found["overhead"]},
        given.json,
    )


if __name__ == "__main__":
    main()
