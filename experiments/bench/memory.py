"""What each technique saves and costs: peak memory and time of a training step, as shares of the vanilla step's.

python -m experiments.bench.memory [--json FILE] [--quick]
python -m experiments.bench.memory --num-params 1.01e9 [--ranks 1]     (that size alone, ZeRO 3 with checkpointing)

Two ranks, each with a batch of its own. Two sizes: in the first activations fill the memory, in the second parameters
do. Conservative forces are also computed by double backward (autograd's create_graph), which is what they are measured
against. Memory is that of tensors on a CPU and torch.cuda.max_memory_allocated on a GPU, the larger of the two ranks.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import torch._dynamo  # before zero.Init, whose patches it cannot stand

from experiments.bench.table import options, publish
from scaling.config import ZeroConfig
from scaling.launch import ALLOCATOR, end_at_once
from scaling.models import build, parameters_of, with_width
from scaling.models.egnn import EGNNConfig
from scaling.optim import AdamWConfig
from scaling.planning import random_graphs
from scaling.planning.batches import CUTOFF_ANG
from scaling.training import Engine, World, construction, peak_bytes
from tests.reference.counters import PeakTensors
from tests.reference.double_backward import left_to_autograd

RANKS = 2
MEAN_DEGREE = 40.0


@dataclass(frozen=True)
class Size:
    """structures: of 100 atoms, a rank."""

    name: str
    width: int
    depth: int
    structures: int


SIZES = (Size("activations", 128, 4, 5), Size("parameters", 1024, 4, 1))
QUICK = (Size("activations", 16, 2, 2), Size("parameters", 64, 2, 1))


@dataclass(frozen=True)
class Technique:
    """A way to compute a step; double: forces by double backward."""

    name: str
    stage: int = 0
    checkpointing: int = 0
    offload: bool = False
    double: bool = False


VANILLA = Technique("vanilla")
DOUBLE = Technique("double backward", double=True)
TECHNIQUES = (
    VANILLA,
    Technique("+ checkpointing every 2nd layer", checkpointing=2),
    Technique("+ activation checkpointing", checkpointing=1),
    Technique("+ ZeRO 1", 1, 1),
    Technique("+ ZeRO 2", 2, 1),
    Technique("+ ZeRO 3", 3, 1),
    Technique("+ optimizer states offloaded", 3, 1, offload=True),
)
BY_FORCES = {
    "direct": TECHNIQUES,
    "conservative": (DOUBLE, Technique("double backward + checkpointing", checkpointing=1, double=True), *TECHNIQUES),
}


def measure(size: Size, forces: str, technique: Technique, world: World) -> dict[str, float]:
    """One rank's peak bytes over two steps, the median time of a step, and the loss before and after all steps."""
    graphs, labels_N3 = random_graphs(size.structures, mean_degree=MEAN_DEGREE, seed=world.rank)
    graphs, labels_N3 = graphs.to(world.device), labels_N3.to(world.device)
    on_gpu = world.device.type == "cuda"
    counter = PeakTensors(alive=[labels_N3, *graphs.tensors()])
    if not on_gpu:
        counter.__enter__()
    zero = ZeroConfig(technique.stage, technique.checkpointing, technique.offload)
    with construction(zero):
        torch.manual_seed(0)
        model = build(
            EGNNConfig(width=size.width, depth=size.depth, forces=forces),
            num_elements=5,
            cutoff_ang=CUTOFF_ANG,
            mean_degree=MEAN_DEGREE,
            scale_ev=1.0,
            checkpointing=technique.checkpointing,
        )
        model = left_to_autograd(model) if technique.double else model
    engine = Engine(model, optim=AdamWConfig(), zero=zero, precision="fp32", world=world)
    del model

    def step() -> float:
        found = engine.forward(graphs)
        loss = (found.forces_N3 - labels_N3).abs().mean() + 0.1 * found.energy_G.abs().mean()
        found.backward(loss, is_last=True)
        engine.step(1e-5)
        return loss.item()

    losses = [step(), step()]
    peak = torch.cuda.max_memory_allocated() if on_gpu else counter.peak
    if not on_gpu:
        counter.__exit__(None, None, None)
    times = []
    for _ in range(5):
        world.barrier()
        begin = time.perf_counter()
        losses.append(step())
        if on_gpu:
            torch.cuda.synchronize()
        times.append(time.perf_counter() - begin)
    return {
        "peak_bytes": peak,
        "ms_per_step": 1e3 * sorted(times)[2],
        "first_loss": losses[0],
        "last_loss": losses[-1],
    }


def rank_main(case: dict[str, Any], out: Path) -> None:
    """What each rank of one measurement runs."""
    torch.set_num_threads(1)
    world = World.join()
    found = measure(Size(**case["size"]), case["forces"], Technique(**case["technique"]), world)
    everyone: list[Any] = [None] * world.size
    torch.distributed.all_gather_object(everyone, found)
    if world.rank == 0:
        out.write_text(json.dumps({key: max(rank[key] for rank in everyone) for key in found}))
    world.leave()
    end_at_once()


def in_processes(size: Size, forces: str, technique: Technique, ranks: int) -> dict[str, float]:
    """Measure in fresh processes."""
    case = json.dumps({"size": asdict(size), "forces": forces, "technique": asdict(technique)})
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "found.json"
        torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={ranks}"]
        command = [*torchrun, "-m", "experiments.bench.memory", "--rank-of", case, str(out)]
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=_environment())
        if done.returncode:
            raise RuntimeError(f"{technique.name}, {forces}: {done.stderr[-2000:]}")
        return json.loads(out.read_text())  # type: ignore[no-any-return]


def measure_size(num_params: float, ranks: int) -> dict[str, Any]:
    """Steps of a network of three layers and a number of parameters, beside what the plan says of them."""
    config = with_width(EGNNConfig(depth=3, forces="direct", num_params=num_params), 5)
    zero = ZeroConfig(stage=3, checkpointing=1)
    found = in_processes(Size("", config.width, config.depth, 1), config.forces, Technique("", 3, 1), ranks)
    graphs, _ = random_graphs(1, mean_degree=MEAN_DEGREE)
    parameters = parameters_of(config, 5)
    batch = {"num_atoms": len(graphs.x_N3), "num_edges": len(graphs.src_E)}
    planned = peak_bytes(config, zero, parameters=parameters, num_ranks=ranks, **batch)
    return {
        "num_params": parameters.total,
        "width": config.width,
        "ranks": ranks,
        **found,
        "planned_peak_bytes": planned,
    }


def _environment() -> dict[str, str]:
    return {**os.environ, **ALLOCATOR, "OMP_NUM_THREADS": "1"}


def main() -> None:
    """Measure every technique at both sizes."""
    if "--rank-of" in sys.argv:
        rank_main(json.loads(sys.argv[-2]), Path(sys.argv[-1]))
        return
    parser = options(__doc__)
    parser.add_argument(
        "--num-params", type=float, metavar="N", help="measure only a network of a number of parameters"
    )
    parser.add_argument("--ranks", type=int, default=RANKS, help="processes that share the work")
    given = parser.parse_args()
    if given.num_params:
        publish({"One size": [measure_size(given.num_params, given.ranks)]}, given.json)
        return
    ranks = min(given.ranks, torch.cuda.device_count()) if torch.cuda.is_available() else given.ranks
    rows: list[dict[str, Any]] = []
    for size in QUICK if given.quick else SIZES:
        for forces, techniques in BY_FORCES.items():
            base: dict[str, float] = {}
            for technique in techniques:
                row = {"size": size.name, "width": size.width, "forces": forces, "technique": technique.name}
                if technique.offload and not torch.cuda.is_available():
                    rows.append(row)  # on a CPU the states would stay where they are
                    continue
                found = in_processes(size, forces, technique, ranks)
                base = base or found
                row |= {
                    "peak_bytes": int(found["peak_bytes"]),
                    "peak_percent_of_first": 100 * found["peak_bytes"] / base["peak_bytes"],
                    "ms_per_step": found["ms_per_step"],
                    "time_percent_of_first": 100 * found["ms_per_step"] / base["ms_per_step"],
                }
                rows.append(row)
                print(rows[-1], file=sys.stderr, flush=True)
    publish({f"Memory and time of a training step, {ranks} ranks": rows}, given.json)


if __name__ == "__main__":
    main()
