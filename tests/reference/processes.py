"""Processes: those of a command, found by a mark in their environment, and the ranks of one measurement."""

import json
import os
import re
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any


def living(mark: str) -> dict[int, str]:
    """Processes that have this word in their environment: what each of them is, by its number."""
    found = {}
    for proc in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it has ended meanwhile
            if mark in (proc / "environ").read_text() and not _has_ended(proc):
                found[int(proc.name)] = _role(proc)
    return found


def _has_ended(proc: Path) -> bool:
    return (proc / "stat").read_text().rpartition(")")[2].split()[0] in "ZX"


def _role(proc: Path) -> str:
    line = (proc / "cmdline").read_text()
    if "scaling.launch.worker" not in line:
        return "command" if "experiments.train" in line else "holder of the run"
    if "torch.distributed.run" in line:
        return "torchrun"
    rank = re.search(r"\bRANK=(\d+)", (proc / "environ").read_text())
    parent = Path("/proc") / (proc / "stat").read_text().rpartition(")")[2].split()[1]
    is_loader = (parent / "cmdline").read_text() == line  # a fork
    return f"{'loader of ' if is_loader else ''}rank {rank[1] if rank else '?'}"


def bench_ranks(module: str, case: dict[str, Any], *, ranks: int, out: Path) -> Any:
    """What the ranks of one case of a bench have measured: `out`, read again.

    Raises:
        RuntimeError: if one of them failed.
    """
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={ranks}"]
    command = [*torchrun, "-m", f"experiments.bench.{module}", "--rank-of", json.dumps(case), str(out)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if done.returncode:
        raise RuntimeError(f"{case}: {done.stderr[-3000:]}")
    return json.loads(out.read_text())
