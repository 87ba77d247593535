"""A study before it is paid for: parameters, FLOPs, memory and device-hours of every run.

python -m experiments.plan study=NAME [any override]

Prints a table and writes studies/NAME/plan.json. For every run it takes the ZeRO stage and the checkpointing that cost
least among those that fit; where none fits, it says so and ends with an error, before anything is submitted.
"""

import math
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from experiments.command import command, compose
from scaling.config import ModelConfig, PlanConfig, RunConfig, ZeroConfig
from scaling.errors import ConfigError
from scaling.models.counting import ParameterCount, egnn_parameters, egnn_training_flops, with_width
from scaling.runs.files import write_json
from scaling.training.memory import most_edges, peak_bytes
from scaling.training.schedule import num_steps

GIB = 2**30
#: Of a device's memory, what tensors may take: the rest is the runtime, libraries and the allocator's fragments.
USABLE = 0.9
#: What a layer's second forward adds to the time of its forward and backward.
RECOMPUTING = 1 / 3


@dataclass(frozen=True)
class Data:
    """What a plan must know of the data: the training set, and its mean structure."""

    num_structures: int
    num_atoms: float
    num_edges: float
    num_elements: int


@dataclass(frozen=True)
class Rate:
    """Matrix-product FLOPs a second of one device by width: measured, or the same for all widths if given."""

    by_width: tuple[tuple[int, float], ...]

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


def plan_run(config: RunConfig, data: Data, rate: Rate, *, device: str, limit: float) -> dict[str, Any]:
    """One run's row: what it needs, what is chosen for it, what it costs.

    Raises:
        ConfigError: if no stage and checkpointing fit.
    """
    model = with_width(config.model, data.num_elements)
    count = egnn_parameters(model, data.num_elements)
    flops = egnn_training_flops(model, num_atoms=data.num_atoms, num_edges=data.num_edges)
    train = config.train
    steps = num_steps(
        train.budget,
        batch_size=train.batch_size,
        train_structures=max(1, round(config.data.fraction * data.num_structures)),
        flops_per_structure=flops,
    )
    ranks = config.plan.num_devices or config.launcher.ranks
    share = math.ceil(train.batch_size / ranks)
    batch_edges = share * data.num_edges if not train.max_edges else min(train.max_edges, share * data.num_edges)
    size = {"num_params": count.total, "num_ranks": ranks, "device": device}
    needs = {
        f"zero{stage}{'_checkpointing' if checkpointing else ''}": peak_bytes(
            model,
            ZeroConfig(stage, checkpointing),
            num_atoms=batch_edges / data.num_edges * data.num_atoms,
            num_edges=batch_edges,
            **size,
        )
        for stage in range(4)
        for checkpointing in (0, 1)
    }
    chosen = _choose(model, data, share, limit, size, config)
    hours = steps * train.batch_size * flops / rate.at(model.width) / 3600
    return {
        "width": model.width,
        "depth": model.depth,
        "forces": model.forces,
        "fraction": config.data.fraction,
        **_counts(count),
        "flops_per_structure": flops,
        "steps": steps,
        "train_flops": steps * train.batch_size * flops,
        "ranks": ranks,
        **chosen,
        "device_hours": hours * (1 + RECOMPUTING * _recomputed(model.depth, chosen["checkpointing"]) / model.depth),
        "peak_bytes_by_way": needs,
    }


def _counts(count: ParameterCount) -> dict[str, int]:
    return {"num_params": count.total, **{f"num_params_{part}": value for part, value in asdict(count).items()}}


def _choose(
    model: ModelConfig, data: Data, share: int, limit: float, size: dict[str, Any], config: RunConfig
) -> dict[str, Any]:
    """The first way in which a whole share of the batch fits; else the one that fits most edges at once."""
    degree = data.num_edges / data.num_atoms
    possible = ways(model.depth, size["num_ranks"])
    most = [most_edges(model, zero, USABLE * limit, mean_degree=degree, **size) for zero in possible]
    whole = [edges >= share * data.num_edges for edges in most]
    best = whole.index(True) if any(whole) else most.index(max(most))
    zero, edges = possible[best], most[best]
    if edges < data.num_edges:
        one = {"num_atoms": data.num_atoms, "num_edges": data.num_edges}
        need, zero = min(((peak_bytes(model, way, **one, **size), way) for way in possible), key=lambda pair: pair[0])
        raise ConfigError(
            f"model.width={model.width}, model.depth={model.depth} ({size['num_params']:,} parameters) needs "
            f"{need / GIB:.3g} GiB a device for a single structure at zero.stage={zero.stage} with "
            f"zero.checkpointing={zero.checkpointing}; "
            f"{USABLE * limit / GIB:.3g} GiB of {limit / GIB:.3g} may be used; raise plan.num_devices (now "
            f"{size['num_ranks']}) or plan.device_memory_gib, or lower the width"
        )
    fits_whole = edges >= share * data.num_edges
    micro = 0 if fits_whole else edges
    here = min(edges, share * data.num_edges)
    peak = peak_bytes(model, zero, num_atoms=here / degree, num_edges=here, **size)
    return {
        "zero_stage": zero.stage,
        "checkpointing": zero.checkpointing,
        "max_edges": micro if not config.train.max_edges else min(micro or config.train.max_edges, edges),
        "peak_bytes": peak,
    }


def fitted(configs: Sequence[RunConfig]) -> list[RunConfig]:
    """The same runs; those with `zero.auto` get the stage, checkpointing and micro-batch that fit this machine.

    Raises:
        ConfigError: if a run fits nowhere.
    """
    first = configs[0]
    data = data_of(replace(first, plan=PlanConfig()))
    device, limit = device_kind_and_memory(first)
    return [fit(config, data, device=device, limit=limit) if config.zero.auto else config for config in configs]


def fit(config: RunConfig, data: Data, *, device: str, limit: float) -> RunConfig:
    """The run with what `plan_run` chooses for it on `launcher.ranks` devices."""
    alone = replace(config, plan=PlanConfig())
    row = plan_run(alone, data, Rate(((1, 1.0),)), device=device, limit=limit)
    return replace(
        config,
        zero=replace(config.zero, stage=row["zero_stage"], checkpointing=row["checkpointing"], auto=False),
        train=replace(config.train, max_edges=row["max_edges"]),
    )


def data_of(config: RunConfig) -> Data:
    """From the plan's own numbers, or from the prepared data.

    Raises:
        DataError: if neither is there.
    """
    given = config.plan
    if given.num_structures:
        return Data(given.num_structures, given.num_atoms, given.num_edges, given.num_elements)
    from scaling.data.shards import ShardSet
    from scaling.data.split import choose
    from scaling.training.task import count_edges

    shards = ShardSet(config.data.path)
    whole, _ = choose(replace(config.data, fraction=1.0), shards)
    edges = count_edges(shards, config.data.cutoff_ang)[whole.train]
    atoms = shards.num_atoms[whole.train]
    return Data(len(whole.train), float(atoms.mean()), float(edges.mean()), len(shards.manifest.elements))


def measure_rate(config: RunConfig) -> Rate:
    """Time a step of three small networks on this machine, a few seconds."""
    import torch

    from experiments.bench.batches import CUTOFF_ANG, random_graphs
    from scaling.models import build

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.set_num_threads(config.train.num_threads or torch.get_num_threads())
    graphs, _ = random_graphs(2, mean_degree=30.0)
    graphs = graphs.to(device)
    rates = []
    for width in (16, 64, 256):
        model_config = replace(config.model, width=width, depth=2, num_params=None)
        sizes = {"num_elements": 5, "cutoff_ang": CUTOFF_ANG, "mean_degree": 30.0, "scale_ev": 1.0}
        model = build(model_config, **sizes).to(device)  # type: ignore[arg-type]
        optimizer = torch.optim.AdamW(model.parameters(), fused=True)
        seconds = []
        for _ in range(4):
            begin = time.perf_counter()
            energy_G, forces_N3 = model(graphs)
            if model.is_conservative:
                (scalar,) = model(graphs, (torch.ones_like(energy_G), forces_N3.sign()))
            else:
                scalar = energy_G.sum() + forces_N3.abs().sum()
            scalar.backward()
            optimizer.step()
            optimizer.zero_grad()
            if device.type == "cuda":
                torch.cuda.synchronize()
            seconds.append(time.perf_counter() - begin)
        flops = egnn_training_flops(model_config, num_atoms=len(graphs.x_N3), num_edges=len(graphs.src_E))
        rates.append((width, flops / sorted(seconds)[1]))
    return Rate(tuple(rates))


def device_kind_and_memory(config: RunConfig) -> tuple[str, float]:
    """cpu or cuda, and the bytes of one device: as given, else of this machine, which its ranks share."""
    given = config.plan.device_memory_gib * GIB
    if given:
        return ("cuda" if os.environ.get("DS_ACCELERATOR") != "cpu" else "cpu"), given
    if os.environ.get("DS_ACCELERATOR") != "cpu":
        import torch

        if torch.cuda.is_available():
            return "cuda", float(torch.cuda.get_device_properties(0).total_memory)
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return "cpu", total / (config.plan.num_devices or config.launcher.ranks)


def show(rows: Sequence[dict[str, Any]]) -> str:
    """The plan as a table for people."""
    head = ("width", "depth", "fraction", "parameters", "FLOPs/structure", "steps", "FLOPs", "ZeRO", "ckpt")
    head += ("micro-batch", "memory", "device-hours")
    lines = [head]
    for row in rows:
        micro = f"{row['max_edges']:,} edges" if row["max_edges"] else "whole"
        lines.append(
            (
                *(str(row["width"]), str(row["depth"]), f"{row['fraction']:.4g}", _human(row["num_params"])),
                *(f"{row['flops_per_structure']:.2e}", f"{row['steps']:,}", f"{row['train_flops']:.2e}"),
                *(str(row["zero_stage"]), str(row["checkpointing"]), micro),
                *(f"{row['peak_bytes'] / GIB:.2f} GiB", f"{row['device_hours']:,.3g}"),
            )
        )
    widths = [max(len(line[k]) for line in lines) for k in range(len(head))]
    return "\n".join("  ".join(cell.rjust(w) for cell, w in zip(line, widths, strict=True)) for line in lines)


def _human(number: float) -> str:
    for unit, size in (("B", 1e9), ("M", 1e6), ("k", 1e3)):
        if number >= size:
            return f"{number / size:.4g}{unit}"
    return str(int(number))


@command
def main() -> int:
    """Plan every run of the grid; exit code 2 if one fits nowhere."""
    configs = compose()
    if not configs:
        return 0
    first = configs[0]
    data = data_of(first)
    device, limit = device_kind_and_memory(first)
    flops_per_s = first.plan.flops_per_s
    rate = Rate(((1, flops_per_s),)) if flops_per_s else measure_rate(first)
    rows = [plan_run(config, data, rate, device=device, limit=limit) for config in configs]
    rows.sort(key=lambda row: (row["num_params"], row["depth"], row["fraction"]))
    print(show(rows))
    total = sum(row["device_hours"] for row in rows)
    source = "as given" if flops_per_s else "measured on this machine in seconds; expect a factor of two"
    print(f"{len(rows)} runs, {total:,.4g} device-hours ({source}); memory of one device {limit / GIB:.1f} GiB")
    study_dir = Path(first.study.root) / first.study.name
    study_dir.mkdir(parents=True, exist_ok=True)
    write_json(
        study_dir / "plan.json",
        {
            "data": asdict(data),
            "device": device,
            "device_memory_bytes": limit,
            "flops_per_s_by_width": dict(rate.by_width),
            "device_hours": total,
            "runs": rows,
        },
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
