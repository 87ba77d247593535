"""One batch shared by several ranks: time, bytes exchanged, memory and balance; and what many devices would give.

python -m experiments.bench.graph_parallel [--json FILE] [--quick]

Measured here with 1, 2 and 4 ranks of one thread: the same batch for all, each rank with its share. Then a cost model
of weak scaling as in Sriram et al. (ICLR 2022, arXiv 2203.09697, Table 4 and Figure 2): networks that grow with the
number of devices that share a batch, and batches with the number of groups. It takes FLOPs from their closed form
(scaling/models/counting.py), bytes and balance from the division of a batch, and the rates of devices and links that
are given, whose defaults are round numbers for V100s; nothing overlaps. Efficiency is FLOPs per second and device over
those of one device with the smallest network. What decides it is how many structures a batch holds, which is not
published: rows for several. The published efficiencies beside it are of another program, which lists triplets and sums
whole tensors over the ranks.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
import torch._dynamo  # before zero.Init, whose patches it cannot stand
import torch.distributed as dist
from torch import Tensor

from experiments.bench.table import options, publish
from scaling.config import ModelConfig, ZeroConfig
from scaling.launch import ALLOCATOR, end_at_once
from scaling.models import FAMILIES, Graphs, build, family, parameters_of, training_flops
from scaling.optim import AdamWConfig
from scaling.parallel import Group, divide
from scaling.planning import random_graphs
from scaling.planning.batches import CUTOFF_ANG
from scaling.training import Engine, World
from tests.reference.counters import PeakTensors
from tests.reference.presets import preset

FLOAT = 4
MEAN_DEGREE = 40.0
RANKS = (1, 2, 4)


@contextmanager
def counted_bytes() -> Iterator[list[int]]:
    """Within it, the first number of the list grows by the bytes that this rank sends to others of its group."""
    sent = [0]
    exchange, reduce = dist.all_to_all_single, dist.all_reduce

    def all_to_all_single(received: Tensor, rows: Tensor, *args: Any, **kwargs: Any) -> Any:
        sent[0] += rows.nbytes
        return exchange(received, rows, *args, **kwargs)

    def all_reduce(tensor: Tensor, *args: Any, **kwargs: Any) -> Any:
        if kwargs.get("op") is None:  # outputs; DeepSpeed, which sums gradients, names the operation
            sent[0] += tensor.nbytes
        return reduce(tensor, *args, **kwargs)

    dist.all_to_all_single, dist.all_reduce = all_to_all_single, all_reduce
    try:
        yield sent
    finally:
        dist.all_to_all_single, dist.all_reduce = exchange, reduce


def exchanged_bytes(config: ModelConfig, graphs: Graphs, group: Group, checkpointing: int = 0) -> int:
    """Bytes that a rank sends to the others of its group in a step of training, in closed form.

    Features of seen atoms and messages of reversed edges go forth, and their gradients back; those of layers that are
    computed again go forth twice. With conservative forces a step does so for values, then for values and tangents.
    """
    config = config.sized()
    share = divide(graphs.src_E, graphs.dst_E, graphs.shift_E3, len(graphs.element_N), group)
    atoms, received = sum(share.neighbors.num_sent), sum(share.neighbors.num_received)
    edges = int((share.owner_N[share.src_E[share.edges]] != group.rank).sum())  # as many leave as come
    passes = 1 if config.forces == "direct" else 3  # rows of values, then of values and tangents
    again = checkpointing > 0
    F, L = config.width, config.depth
    both_ways = passes * ((1 + again) * atoms + received)
    if config.name == "egnn":
        numbers = L * both_ways * F + (L - 1) * both_ways * 3
        # the force head's own; or less: the first layer's features do not depend on positions
        numbers += (atoms + received) * F if config.forces == "direct" else -received * F
    elif config.name == "dimenetpp":
        numbers = L * passes * (2 + again) * edges * config.triplet_width
    else:
        numbers = L * (both_ways * F + passes * (2 + again) * edges * config.bilinear_width)
        first = atoms + received if config.forces == "direct" else atoms + 2 * (atoms + received)
        numbers += first * F  # of elements, which do not depend on positions
    outputs = graphs.num_graphs + 3 * len(graphs.element_N)
    return FLOAT * (numbers + outputs)


@dataclass(frozen=True)
class Case:
    """What is measured: structures of a number of atoms as one batch."""

    name: str
    forces: str
    width: int
    depth: int
    structures: int
    atoms: int
    checkpointing: int

    def config(self) -> ModelConfig:
        """The network."""
        return family(self.name)(width=self.width, depth=self.depth, forces=self.forces, num_radial=16)

    def batch(self) -> tuple[Graphs, Tensor]:
        """The batch, and forces to learn."""
        return random_graphs(self.structures, mean_degree=MEAN_DEGREE, num_atoms=self.atoms)


def measure(case: Case, world: World) -> dict[str, float]:
    """One rank's time, bytes and memory of a step."""
    graphs, labels_N3 = case.batch()
    counter = PeakTensors(alive=[labels_N3, *graphs.tensors()])
    with counter:
        torch.manual_seed(0)
        model = build(
            case.config(),
            num_elements=5,
            cutoff_ang=CUTOFF_ANG,
            mean_degree=MEAN_DEGREE,
            scale_ev=1.0,
            checkpointing=case.checkpointing,
        )
        engine = Engine(model, optim=AdamWConfig(), zero=ZeroConfig(), precision="fp32", world=world)
        del model

        def step() -> None:
            found = engine.forward(replace(graphs).divided(world.group))
            loss = (found.forces_N3 - labels_N3).abs().mean() + 0.1 * found.energy_G.abs().mean()
            found.backward(loss, is_last=True)
            engine.step(1e-5)

        step()
        with counted_bytes() as sent:
            step()
    edges = replace(graphs).divided(world.group).edges
    seconds = []
    for _ in range(5):
        world.barrier()
        begin = time.perf_counter()
        step()
        seconds.append(time.perf_counter() - begin)
    return {
        "ms_per_step": 1e3 * sorted(seconds)[2],
        "sent_bytes": sent[0],
        "expected_bytes": exchanged_bytes(case.config(), graphs, world.group, case.checkpointing)
        if world.group.size > 1
        else 0,
        "peak_bytes": counter.peak,
        "edges": len(edges.src_E),
        "crossing": int((edges.src_E >= edges.num_atoms).sum()),
    }


def rank_main(case: Case, out: Path) -> None:
    """What each rank of one measurement runs."""
    torch.set_num_threads(1)
    world = World.join(int(os.environ["WORLD_SIZE"]))
    everyone: list[Any] = [None] * world.size
    dist.all_gather_object(everyone, measure(case, world))
    if world.rank == 0:
        out.write_text(json.dumps(everyone))
    world.leave()
    end_at_once()


def in_processes(case: Case, ranks: int) -> list[dict[str, float]]:
    """Measure in fresh processes, one a rank."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "found.json"
        torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={ranks}"]
        command = [*torchrun, "-m", "experiments.bench.graph_parallel", "--rank-of", json.dumps(vars(case)), str(out)]
        environment = {**os.environ, **ALLOCATOR, "OMP_NUM_THREADS": "1"}
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
        if done.returncode:
            raise RuntimeError(f"{case}: {done.stderr[-3000:]}")
        return json.loads(out.read_text())  # type: ignore[no-any-return]


def measured(case: Case) -> list[dict[str, Any]]:
    """A row for each number of ranks."""
    rows: list[dict[str, Any]] = []
    for ranks in RANKS:
        found = in_processes(case, ranks)
        edges = [rank["edges"] for rank in found]
        worst = {key: max(rank[key] for rank in found) for key in found[0]}
        first = rows[0] if rows else {"ms_per_step": worst["ms_per_step"], "peak_bytes": worst["peak_bytes"]}
        rows.append(
            {
                "model": case.name,
                "forces": case.forces,
                "checkpointing": case.checkpointing,
                "batch": f"{case.structures} x {case.atoms} atoms",
                "ranks": ranks,
                "crossing_percent": 100 * sum(rank["crossing"] for rank in found) / sum(edges),
                "ms_per_step": worst["ms_per_step"],
                "time_percent_of_one": 100 * worst["ms_per_step"] / first["ms_per_step"],
                "sent_bytes": int(worst["sent_bytes"]),
                "closed_form_bytes": int(worst["expected_bytes"]),
                "peak_bytes": int(worst["peak_bytes"]),
                "peak_percent_of_one": 100 * worst["peak_bytes"] / first["peak_bytes"],
                "most_edges_over_mean": max(edges) * ranks / sum(edges),
            }
        )
        print(rows[-1], file=sys.stderr, flush=True)
    return rows


#: The networks of Sriram et al., Table 4, and how many devices share a batch.
TABLE_4 = {"gemnet_125m": 1, "gemnet_245m": 2, "gemnet_480m": 4, "gemnet_960m": 8}
#: Their Figure 2, percent: 8 devices that share a batch; 32 that do not; 32 groups of 8.
PUBLISHED = {("gemnet_960m", 8): 79, ("gemnet_125m", 32): 75, ("gemnet_960m", 256): 47}


@dataclass(frozen=True)
class Machine:
    """Rates of a device and its links.

    flops_per_s: of products of matrices, as they are reached. near_bytes_per_s, far_bytes_per_s: of one device to
    others of its node, and to other nodes. near_devices: in a node. latency_s: of one exchange.
    """

    flops_per_s: float
    near_bytes_per_s: float
    far_bytes_per_s: float
    near_devices: int
    latency_s: float

    def exchanging(self, devices: int) -> float:
        """Bytes per second that each of a number of devices sends the others."""
        return self.near_bytes_per_s if devices <= self.near_devices else self.far_bytes_per_s

    def summing(self, devices: int) -> float:
        """Of a sum over a number of devices, in which each node's link is crossed once for all of its devices."""
        if devices <= self.near_devices:
            return self.near_bytes_per_s
        return min(self.near_bytes_per_s, self.near_devices * self.far_bytes_per_s)


def step_seconds(config: ModelConfig, graphs: Graphs, graph: int, devices: int, machine: Machine) -> dict[str, float]:
    """The parts of a step's time on `devices` of which each `graph` share a batch: computing, exchanging, summing."""
    groups = [Group(rank, graph) for rank in range(graph)]
    shares = [len(replace(graphs).divided(group).edges.src_E) for group in groups]
    imbalance = max(shares) * graph / sum(shares)
    flops = training_flops(config, num_atoms=len(graphs.element_N), num_edges=len(graphs.src_E))
    exchanged = max(exchanged_bytes(config, graphs, group) for group in groups) if graph > 1 else 0
    exchanges = 2 * (2 * config.depth + 1) + 2 if graph > 1 else 0
    num_params = parameters_of(config, 83).total
    summed = 2 * FLOAT * num_params * (devices - 1) / devices  # a ring
    return {
        "computing_s": flops * imbalance / graph / machine.flops_per_s,
        "exchanging_s": exchanged / machine.exchanging(graph) + exchanges * machine.latency_s,
        "summing_s": summed / machine.summing(devices) if devices > 1 else 0.0,
    }


def predicted(machine: Machine, structures: int) -> list[dict[str, Any]]:
    """Weak scaling, with a number of structures in each batch."""
    graphs, _ = random_graphs(structures, mean_degree=MEAN_DEGREE)
    rows, first = [], 0.0
    for name, graph in TABLE_4.items():
        config = preset(name)
        for groups in (1, 32):
            devices = graph * groups
            parts = step_seconds(config, graphs, graph, devices, machine)
            flops = training_flops(config, num_atoms=len(graphs.element_N), num_edges=len(graphs.src_E)) / graph
            rate = flops / sum(parts.values())
            first = first or rate
            rows.append(
                {
                    "structures": structures,
                    "network": name,
                    "devices": devices,
                    "sharing_a_batch": graph,
                    **{key.replace("_s", "_ms"): 1e3 * value for key, value in parts.items()},
                    "efficiency_percent": 100 * rate / first,
                    "published_percent": PUBLISHED.get((name, devices)),
                }
            )
    return rows


def main() -> None:
    """Measure with 1, 2 and 4 ranks; predict up to 256 devices."""
    if "--rank-of" in sys.argv:
        rank_main(Case(**json.loads(sys.argv[-2])), Path(sys.argv[-1]))
        return
    parser = options(__doc__)
    parser.add_argument("--flops-per-s", type=float, default=8e12, help="a device's products of matrices (V100: 8e12)")
    parser.add_argument("--near-bytes-per-s", type=float, default=100e9, help="within a node (NVLink 2: 1e11)")
    parser.add_argument("--far-bytes-per-s", type=float, default=3e9, help="between nodes, each device's part (3e9)")
    parser.add_argument("--near-devices", type=int, default=8, help="devices of a node")
    parser.add_argument("--latency-s", type=float, default=30e-6, help="of one exchange")
    parser.add_argument(
        "--structures", type=int, nargs="+", default=[2, 8, 32], help="of 100 atoms and 4,000 edges, that a batch holds"
    )
    parser.add_argument("--predict-only", action="store_true", help="measure nothing here")
    given = parser.parse_args()
    width, depth, batches = (8, 1, [(2, 100)]) if given.quick else (48, 3, [(4, 100), (1, 400)])
    cases = [
        Case(name, forces, width, depth, structures, atoms, checkpointing)
        for name in FAMILIES
        for forces, checkpointing in (("direct", 0), ("conservative", 1))
        for structures, atoms in batches
    ]
    machine = Machine(
        given.flops_per_s, given.near_bytes_per_s, given.far_bytes_per_s, given.near_devices, given.latency_s
    )
    tables = {
        "One batch shared by ranks of this machine": [
            row for case in cases if not given.predict_only for row in measured(case)
        ],
        f"Weak scaling as predicted for {machine}": [
            row for structures in given.structures for row in predicted(machine, structures)
        ],
    }
    publish(tables, given.json)


if __name__ == "__main__":
    main()
