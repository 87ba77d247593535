"""A study before it is paid for: parameters, FLOPs, memory, device-hours and disk of every run.

python -m experiments.plan study=NAME [any override]

Prints a table and writes studies/NAME/plan.json. For every run it takes the ZeRO stage, checkpointing and micro-batch
that cost least time among those that fit; where none fits, it says so and ends with an error, before anything is
submitted.
"""

import shlex
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from experiments.command import command
from experiments.grid import Grid, over_grid
from scaling.config import RunConfig
from scaling.errors import ConfigError
from scaling.planning import (
    GIB,
    MEASURED_WIDTHS,
    Rate,
    data_of,
    is_given,
    measure_rate,
    plan_run,
    planned_device,
    with_ranks,
)
from scaling.runs import write_json

HEAD = (
    *("model", "forces", "width", "depth", "fraction", "parameters", "FLOPs/structure", "steps", "FLOPs"),
    *("ZeRO", "ckpt", "ranks", "micro-batch", "memory", "device-hours"),
)


def show(rows: Sequence[dict[str, Any]]) -> str:
    """The plan as a table for people."""
    lines = [HEAD, *(_cells(row) for row in rows)]
    widths = [max(len(line[k]) for line in lines) for k in range(len(HEAD))]
    return "\n".join("  ".join(cell.rjust(w) for cell, w in zip(line, widths, strict=True)) for line in lines)


def _cells(row: dict[str, Any]) -> tuple[str, ...]:
    return (
        *(row["model"], row["forces"], str(row["width"]), str(row["depth"]), f"{row['fraction']:.4g}"),
        *(_human(row["num_params"]), f"{row['flops_per_structure']:.2e}", f"{row['steps']:,}"),
        *(f"{row['train_flops']:.2e}", str(row["zero_stage"]), str(row["checkpointing"]), str(row["ranks"])),
        f"{row['max_edges']:,} edges" if row["micro_batches"] > 1 else "whole",
        *(_memory(row["peak_bytes"]), f"{row['device_hours']:,.3g}"),
    )


def _memory(count: float) -> str:
    if count >= GIB / 10:
        return f"{count / GIB:,.2f} GiB"
    return f"{count / 2**20:.0f} MiB" if count >= 10 * 2**20 else f"{count / 2**20:.2f} MiB"


def _human(number: float) -> str:
    for unit, size in (("B", 1e9), ("M", 1e6), ("k", 1e3)):
        if number >= size:
            return f"{number / size:.4g}{unit}"
    return str(int(number))


def summary(rows: Sequence[dict[str, Any]], first: RunConfig, *, device: str, limit: float) -> list[str]:
    """What the runs take together, and the command that trains them in these ways.

    Args:
        first: any of the runs. limit: bytes of one device.
    """
    given_rate = first.plan.flops_per_s
    source = "as given" if given_rate else "measured on this machine in seconds; expect a factor of two"
    if not given_rate and rows[-1]["width"] > MEASURED_WIDTHS[-1]:
        source += f", more beyond width {MEASURED_WIDTHS[-1]}"
    if first.parallel.graph > 1:
        source += "; communication between ranks that share a batch is not counted"
    memory = _memory(limit)
    if not first.plan.device_memory_gib:
        memory += " as here, shared by the ranks" if device == "cpu" else " as here"
        memory += "; plan.device_memory_gib says otherwise"
    runs = "1 run" if len(rows) == 1 else f"{len(rows)} runs"
    hours = sum(row["device_hours"] for row in rows)
    kept = sum(row["disk_bytes_kept"] for row in rows)
    largest = max(row["disk_bytes_training"] for row in rows)
    chosen = [] if is_given(first.zero) else ["zero=auto"]
    left_out = ("plan.", "launcher.ranks=", *(["zero"] if chosen else []))
    words = [word for word in sys.argv[1:] if not word.startswith(left_out)]
    ranks = first.plan.num_devices or first.launcher.ranks
    command_line = " ".join(map(shlex.quote, [*words, *chosen, f"launcher.ranks={ranks}"]))
    return [
        f"{runs}, {hours:,.4g} device-hours ({source}); memory of one device {memory}",
        f"disk: {_memory(kept)} when all are done; at most {_memory(largest)} for a run while it trains",
        f"to train in these ways: python -m experiments.train {command_line}",
    ]


def _rates(configs: Sequence[RunConfig]) -> dict[tuple[str, str], Rate]:
    """Of each family and kind of forces: as given, or measured."""
    rates: dict[tuple[str, str], Rate] = {}
    for config in configs:
        kind, given = (config.model.name, config.model.forces), config.plan.flops_per_s
        if kind not in rates:
            rates[kind] = Rate(((1, given),)) if given else measure_rate(config)
    return rates


def plan(grid: Grid) -> list[None]:
    """Plan every run of the grid, print the table and write plan.json.

    Raises:
        ConfigError: if a run fits nowhere.
    """
    if grid.is_drawn:
        raise ConfigError("a plan is of cells that are known beforehand: leave out hydra/sweeper=..., and list values")
    configs = grid.configs
    first = configs[0]
    device, limit = planned_device(first)
    rates = _rates(configs)
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
    print("\n".join([show(rows), *summary(rows, first, device=device, limit=limit)]))
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
            "device_hours": sum(row["device_hours"] for row in rows),
            "disk_bytes_kept": sum(row["disk_bytes_kept"] for row in rows),
            "disk_bytes_of_largest_training": max(row["disk_bytes_training"] for row in rows),
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
