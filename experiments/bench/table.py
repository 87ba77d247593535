"""What every measurement prints and writes: rows, with the machine, the date and the commit they are from."""

import argparse
import datetime
import os
import platform
import subprocess
from pathlib import Path
from typing import Any

import torch

from scaling.runs import write_json


def options(description: str | None) -> argparse.ArgumentParser:
    """The options that all have in common."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write machine, commit, date and rows")
    parser.add_argument("--quick", action="store_true", help="tiny sizes: that it works, not what it costs")
    return parser


def machine() -> str:
    """Processor, cores, and GPU if there is one."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    found = f"{platform.processor() or platform.machine()}, {cores} cores"
    info = Path("/proc/cpuinfo")
    if info.exists():
        names = [line.partition(":")[2].strip() for line in info.read_text().splitlines() if "model name" in line]
        found = f"{names[0]}, {cores} cores" if names else found
    return f"{torch.cuda.get_device_name()}, {found}" if torch.cuda.is_available() else found


def commit() -> str:
    """The commit this is run from, or "" outside a checkout."""
    here = Path(__file__).parent
    asked = ["git", "describe", "--always", "--dirty", "--exclude=*"]
    return subprocess.run(asked, cwd=here, capture_output=True, text=True, check=False).stdout.strip()


def publish(tables: dict[str, list[dict[str, Any]]], out: Path | None) -> None:
    """Print tables of rows by their titles, as Markdown; write all rows as JSON where asked."""
    head = {"machine": machine(), "commit": commit(), "date": datetime.date.today().isoformat()}
    print(f"{head['machine']}, commit {head['commit'] or 'unknown'}, {head['date']}")
    for title, rows in tables.items():
        columns = list(dict.fromkeys(key for row in rows for key in row))
        cells = [columns, *([_cell(row.get(column)) for column in columns] for row in rows)]
        widths = [max(len(line[k]) for line in cells) for k in range(len(columns))]
        print(f"\n{title}\n")
        for k, line in enumerate(cells):
            print("| " + " | ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True)) + " |")
            if k == 0:
                print("|" + "|".join("-" * (width + 1) + ":" for width in widths) + "|")
    if out is not None:
        write_json(out, {**head, "rows": [row for rows in tables.values() for row in rows]})


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
