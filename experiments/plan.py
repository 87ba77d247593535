"""A study before it is paid for: parameters, FLOPs, memory and device-hours of every run.

python -m experiments.plan study=NAME [any override]

Prints a table and writes studies/NAME/plan.json. For every run it takes the ZeRO stage, checkpointing and micro-batch
that cost least time among those that fit; where none fits, it says so and ends with an error, before anything is
submitted.
"""

import math
import os
import shlex
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from experiments.command import command
from experiments.grid import Grid, over_grid
from scaling.config import DataConfig, ModelConfig, PlanConfig, RunConfig, ZeroConfig
from scaling.errors import ConfigError
from scaling.models.counting import closed_form, training_flops, with_width
from scaling.optim.schedule import num_steps
from scaling.runs.files import write_json
from scaling.training.memory import most_edges, peak_bytes

GIB = 2**30
#: Of a device's memory, what tensors may take: the rest is the runtime, libraries and the allocator's fragments.
USABLE = 0.9
#: launcher.ranks=0 spreads no run over more.
MOST_NODES = 1024
#: Fewer edges at once than these leave a device waiting for its own overheads.
EFFICIENT_EDGES = {"cpu": 5_000, "cuda": 200_000}
#: Of a training step's FLOPs on a structure, those of judging it.
EVALUATING = {"direct": 1 / 3, "conservative": 1 / 4}
#: Widths of the networks that are timed.
MEASURED_WIDTHS = (4, 16, 64, 256)
#: What a layer's second forward adds to the time of its forward and backward.
RECOMPUTING = 1 / 3


@dataclass(frozen=True)
class Data:
    """What a plan must know of the data.

    num_structures: to train on at fraction 1. num_atoms, num_edges: of their mean. largest_edges: of any structure.
    num_val, num_test: structures judged at each validation, and once at the end.
    """

    num_structures: int
    num_atoms: float
    num_edges: float
    num_elements: int
    largest_edges: float
    num_val: float
    num_test: float


@dataclass(frozen=True)
class Rate:
    """Matrix-product FLOPs a second of one device by width: measured, or the same for all widths if given.

    layer_s: seconds that a layer takes in a step however small the batch: what is not computing.
    """

    by_width: tuple[tuple[int, float], ...]
    layer_s: float = 0.0

    def at(self, width: int) -> float:
        """Interpolated in the logarithms, constant outside."""
        import numpy as np

        widths, rates = zip(*self.by_width, strict=True)
        return float(np.exp(np.interp(math.log(width), np.log(widths), np.log(rates))))


def ways(depth: int, ranks: int) -> list[ZeroConfig]:
    """All ways to save memory, the cheapest in time first: a rank alone has nobody to partition with."""
    every_kth = {_recomputed(depth, k): k for k in range(depth, 0, -1)}  # of equal cost, the most even
    found = [
        ZeroConfig(stage, checkpointing)
        for checkpointing in (0, *(every_kth[count] for count in sorted(every_kth)))
        for stage in ((0, 1, 2) if ranks > 1 else (0,))
    ]
    return [*found, ZeroConfig(3, 1)] if ranks > 1 else found


def _recomputed(depth: int, checkpointing: int) -> int:
    return math.ceil(depth / checkpointing) if checkpointing else 0


def plan_run(
    config: RunConfig,
    data: Data,
    rate: Rate,
    *,
    device: str,
    limit: float,
    possible: Sequence[ZeroConfig] | None = None,
) -> dict[str, Any]:
    """One run's row: what it needs, what is chosen for it, what it costs.

    Args:
        possible: ways to choose from, the cheapest in time first. By default a `zero` that is not the default one is
            kept, else all are.

    Raises:
        ConfigError: if the largest structure fits in no way.
    """
    model = with_width(config.model, data.num_elements)
    count = closed_form(model, data.num_elements)
    flops = training_flops(model, num_atoms=data.num_atoms, num_edges=data.num_edges)
    train = config.train
    steps = num_steps(
        train.budget,
        batch_size=train.batch_size,
        train_structures=max(1, round(config.data.fraction * data.num_structures)),
        flops_per_structure=flops,
    )
    ranks = config.plan.num_devices or config.launcher.ranks
    graph = config.parallel.graph
    share = math.ceil(train.batch_size / (ranks // graph)) * data.num_edges  # of the mean batch
    wanted = min(share, train.max_edges) if train.max_edges else share
    size = Size(model, count.total, ranks, data.num_edges / data.num_atoms, device, graph)
    if possible is None:
        possible = [config.zero] if _is_given(config.zero) else ways(model.depth, ranks)
    zero, edges = _choose(possible, size, data, wanted, limit)
    training, evaluation = steps * train.batch_size * flops, _evaluation_flops(config, data, steps, flops)
    recomputed = _recomputed(model.depth, zero.checkpointing) / model.depth
    micro_batches = math.ceil(share / min(edges, wanted))
    computing = (training * (1 + RECOMPUTING * recomputed) + evaluation) / rate.at(model.width)
    waiting = ranks * steps * micro_batches * model.depth * rate.layer_s
    return {
        "model": model.name,
        "width": model.width,
        "depth": model.depth,
        "forces": model.forces,
        "fraction": config.data.fraction,
        "num_params": count.total,
        **{f"num_params_{part}": value for part, value in asdict(count).items()},
        "flops_per_structure": flops,
        "steps": steps,
        "train_flops": training,
        "evaluation_flops": evaluation,
        "ranks": ranks,
        "graph": graph,
        "zero_stage": zero.stage,
        "checkpointing": zero.checkpointing,
        "offload": zero.offload,
        "max_edges": min(edges, train.max_edges) if train.max_edges else edges,
        "micro_batches": micro_batches,
        "peak_bytes": size.peak(zero, min(edges, wanted)),
        "device_hours": (computing + waiting) / 3600,
        "peak_bytes_by_way": {
            f"zero{stage}{'_checkpointing' if k else ''}": size.peak(ZeroConfig(stage, k), wanted)
            for stage in range(4)
            for k in (0, 1)
        },
    }


@dataclass(frozen=True)
class Size:
    """A network, the devices that share it, and the mean number of neighbours: what memory depends on.

    graph: so many of the devices share each micro-batch.
    """

    model: ModelConfig
    num_params: int
    num_ranks: int
    mean_degree: float
    device: str
    graph: int = 1

    def peak(self, zero: ZeroConfig, edges: float) -> float:
        """Bytes with a micro-batch of so many edges."""
        own = edges / self.graph
        batch = {"num_atoms": own / self.mean_degree, "num_edges": own}
        kept = {"num_params": self.num_params, "num_ranks": self.num_ranks, "device": self.device}
        return peak_bytes(self.model, zero, **batch, **kept)  # type: ignore[arg-type]

    def most_edges(self, zero: ZeroConfig, limit: float) -> int:
        """The largest micro-batch that fits."""
        kept = {"num_params": self.num_params, "num_ranks": self.num_ranks, "device": self.device}
        return self.graph * most_edges(self.model, zero, limit, mean_degree=self.mean_degree, **kept)  # type: ignore[arg-type]


def _evaluation_flops(config: RunConfig, data: Data, steps: int, flops: float) -> float:
    judged = math.ceil(steps / config.train.validate_every) * data.num_val + data.num_test
    return judged * flops * EVALUATING[config.model.forces]


def _choose(
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
            f"model.width={size.model.width}, model.depth={size.model.depth} ({size.num_params:,} parameters) needs "
            f"{need / GIB:.3g} GiB a device for the largest structure alone, at zero.stage={zero.stage} with "
            f"zero.checkpointing={zero.checkpointing}; {USABLE * limit / GIB:.3g} GiB of {limit / GIB:.3g} may be "
            f"used; raise the number of devices (now {size.num_ranks}), how many share a batch (now "
            f"parallel.graph={size.graph}) or plan.device_memory_gib, or lower the width"
        )
    return possible[best], most[best]


def fitted(config: RunConfig, *, begun_at: int | None, side_by_side: int) -> RunConfig:
    """The same run with the stage, checkpointing and micro-batch that fit this machine on `launcher.ranks` devices.

    Args:
        begun_at: the ZeRO stage of its checkpoints, which it must keep. side_by_side: runs that share a device.

    Raises:
        ConfigError: if it fits nowhere.
    """
    if config.launcher.kind == "slurm":
        device, limit = planned_device(config)
        limit /= side_by_side
    else:
        device = _device_here()
        limit = config.plan.device_memory_gib * GIB or _memory_here(device, config.launcher.ranks) / side_by_side
    alone = replace(config, plan=PlanConfig())
    if config.launcher.ranks == 0:
        alone = with_ranks(alone, data_of(alone), device=device, limit=limit)
        config = replace(config, launcher=alone.launcher)
    possible = ways(config.model.depth, config.launcher.ranks)
    if begun_at is not None:
        possible = [way for way in possible if way.stage == begun_at] or [ZeroConfig(begun_at, 1)]
    rate = Rate(((1, 1.0),))
    row = plan_run(alone, data_of(alone), rate, device=device, limit=limit, possible=possible)
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
            plan_run(larger, data, Rate(((1, 1.0),)), device=device, limit=limit)
        except ConfigError as error:
            refused = error
        else:
            return larger
    raise refused


def data_of(config: RunConfig) -> Data:
    """From the plan's own numbers, or from the prepared data.

    Raises:
        DataError: if neither is there.
    """
    return _data_of(replace(config.data, fraction=1.0), config.plan)


@cache
def _data_of(data: DataConfig, given: PlanConfig) -> Data:
    if given.num_structures:
        whole = given.num_structures / (1 - data.val_share - data.test_share)
        mean = (given.num_atoms, given.num_edges, given.num_elements, given.num_edges)
        return Data(given.num_structures, *mean, data.val_share * whole, data.test_share * whole)
    from scaling.data.shards import ShardSet
    from scaling.data.split import choose
    from scaling.training.task import count_edges

    shards = ShardSet(data.path)
    split, train = choose(data, shards)
    edges, atoms = count_edges(shards, data.cutoff_ang), shards.num_atoms[train]
    mean = (float(atoms.mean()), float(edges[train].mean()), len(shards.manifest.elements), float(edges.max()))
    num_test = len(split.test) + sum(len(extra) for extra in split.extra_tests.values())
    return Data(len(train), *mean, len(split.val), num_test)


def measure_rate(config: RunConfig) -> Rate:
    """Time steps of a few small networks on this machine, some seconds."""
    import torch

    from experiments.bench.batches import CUTOFF_ANG, backward, random_graphs
    from scaling.models import Graphs, build

    device = torch.device(_device_here())
    what = f"{config.model.name}, {config.model.forces} forces"
    print(f"timing steps on this machine: {what} (plan.flops_per_s=... spares it)", file=sys.stderr, flush=True)
    torch.backends.cuda.matmul.allow_tf32 = config.train.precision == "tf32"
    torch.set_num_threads(config.train.num_threads or torch.get_num_threads())

    def seconds_of_step(model_config: ModelConfig, graphs: Graphs) -> float:
        """The third of eight: what else the machine does only adds to a time."""
        model = build(model_config, num_elements=5, cutoff_ang=CUTOFF_ANG, mean_degree=30.0, scale_ev=1.0).to(device)
        optimizer = torch.optim.AdamW(model.parameters(), fused=True)
        seconds = []
        for _ in range(8):
            begin = time.perf_counter()
            with torch.autocast(device.type, torch.bfloat16, enabled=config.train.precision == "bf16"):
                backward(model, graphs, lambda energy_G, forces_N3: energy_G.sum() + forces_N3.abs().sum())
            optimizer.step()
            optimizer.zero_grad()
            if device.type == "cuda":
                torch.cuda.synchronize()
            seconds.append(time.perf_counter() - begin)
        return sorted(seconds)[2]

    depth = 2
    batch, nearly_none = (
        random_graphs(count, mean_degree=degree)[0].to(device) for count, degree in ((2, 30.0), (1, 1.0))
    )
    plain = ModelConfig(config.model.name, num_radial=config.model.num_radial, forces=config.model.forces, depth=depth)
    configs = {width: replace(plain, width=width) for width in MEASURED_WIDTHS}
    layer_s = seconds_of_step(configs[MEASURED_WIDTHS[0]], nearly_none) / depth
    rates = []
    for width, model_config in configs.items():
        flops = training_flops(model_config, num_atoms=len(batch.x_N3), num_edges=len(batch.src_E))
        computing = seconds_of_step(model_config, batch) - depth * layer_s
        rates.append((width, flops / max(computing, 0.1 * depth * layer_s)))
    return Rate(tuple(rates), layer_s)


def _device_here() -> str:
    if os.environ.get("DS_ACCELERATOR") == "cpu":
        return "cpu"
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def _memory_here(device: str, ranks: int) -> float:
    """Bytes of one rank's device; of a CPU's memory each rank has a share."""
    if device == "cuda":
        import torch

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
    here = _device_here()
    return here, _memory_here(here, config.plan.num_devices or config.launcher.ranks)


def show(rows: Sequence[dict[str, Any]]) -> str:
    """The plan as a table for people."""
    head = ("model", "forces", "width", "depth", "fraction", "parameters", "FLOPs/structure", "steps", "FLOPs")
    head += ("ZeRO", "ckpt", "ranks", "micro-batch", "memory", "device-hours")
    lines = [head]
    for row in rows:
        micro = f"{row['max_edges']:,} edges" if row["micro_batches"] > 1 else "whole"
        lines.append(
            (
                *(
                    row["model"],
                    row["forces"],
                    str(row["width"]),
                    str(row["depth"]),
                    f"{row['fraction']:.4g}",
                    _human(row["num_params"]),
                ),
                *(f"{row['flops_per_structure']:.2e}", f"{row['steps']:,}", f"{row['train_flops']:.2e}"),
                *(str(row["zero_stage"]), str(row["checkpointing"]), str(row["ranks"]), micro),
                *(_memory(row["peak_bytes"]), f"{row['device_hours']:,.3g}"),
            )
        )
    widths = [max(len(line[k]) for line in lines) for k in range(len(head))]
    return "\n".join("  ".join(cell.rjust(w) for cell, w in zip(line, widths, strict=True)) for line in lines)


def _is_given(zero: ZeroConfig) -> bool:
    return replace(zero, auto=False) != ZeroConfig()


def _memory(count: float) -> str:
    return f"{count / GIB:.2f} GiB" if count >= GIB / 10 else f"{count / 2**20:.0f} MiB"


def _human(number: float) -> str:
    for unit, size in (("B", 1e9), ("M", 1e6), ("k", 1e3)):
        if number >= size:
            return f"{number / size:.4g}{unit}"
    return str(int(number))


def plan(grid: Grid) -> list[None]:
    """Plan every run of the grid.

    Raises:
        ConfigError: if one fits nowhere.
    """
    configs = grid.configs
    first = configs[0]
    device, limit = planned_device(first)
    flops_per_s = first.plan.flops_per_s
    rates: dict[tuple[str, str], Rate] = {}
    for config in configs:
        kind = config.model.name, config.model.forces
        if kind not in rates:
            rates[kind] = Rate(((1, flops_per_s),)) if flops_per_s else measure_rate(config)
    rows, refused = [], []
    for config in configs:
        try:
            data = data_of(config)
            sized = with_ranks(config, data, device=device, limit=limit)
            rate = rates[config.model.name, config.model.forces]
            rows.append(plan_run(sized, data, rate, device=device, limit=limit))
        except ConfigError as error:
            refused.append(str(error))
    if not rows:
        raise ConfigError("\n".join(refused))
    rows.sort(key=lambda row: (row["num_params"], row["depth"], row["fraction"]))
    print(show(rows))
    total = sum(row["device_hours"] for row in rows)
    source = "as given" if flops_per_s else "measured on this machine in seconds; expect a factor of two"
    if not flops_per_s and rows[-1]["width"] > MEASURED_WIDTHS[-1]:
        source += f", more beyond width {MEASURED_WIDTHS[-1]}"
    memory = f"{limit / GIB:.1f} GiB"
    if not first.plan.device_memory_gib:
        memory += " as here, shared by the ranks" if device == "cpu" else " as here"
        memory += "; plan.device_memory_gib says otherwise"
    if first.parallel.graph > 1:
        source += "; what ranks that share a batch tell each other is not counted"
    runs = "1 run" if len(rows) == 1 else f"{len(rows)} runs"
    print(f"{runs}, {total:,.4g} device-hours ({source}); memory of one device {memory}")
    chosen = [] if _is_given(first.zero) else ["zero=auto"]
    left_out = ("plan.", "launcher.ranks=", *(["zero"] if chosen else []))
    given = [word for word in sys.argv[1:] if not word.startswith(left_out)]
    ranks = first.plan.num_devices or first.launcher.ranks
    command_line = " ".join(map(shlex.quote, [*given, *chosen, f"launcher.ranks={ranks}"]))
    print(f"to train in these ways: python -m experiments.train {command_line}")
    if refused:
        raise ConfigError("\n".join(refused))
    study_dir = Path(first.study.root) / first.study.name
    study_dir.mkdir(parents=True, exist_ok=True)
    write_json(
        study_dir / "plan.json",
        {
            "data": asdict(data_of(first)),
            "device": device,
            "device_memory_bytes": limit,
            "flops_per_s_by_width": {", ".join(kind): dict(rate.by_width) for kind, rate in rates.items()},
            "device_hours": total,
            "runs": rows,
        },
    )
    return [None] * len(configs)


@command
def main() -> int:
    """Compose and plan; exit code 2 if a run fits nowhere."""
    over_grid(plan)
    return 0


if __name__ == "__main__":
    sys.exit(main())
