"""Shared by all tests: one thread, no accelerator, and one tiny prepared data set."""

import json
import os
import subprocess
import sys
from pathlib import Path

os.environ.update(DS_ACCELERATOR="cpu", OMP_NUM_THREADS="1", CUDA_VISIBLE_DEVICES="")

import pytest
from hypothesis import settings

settings.register_profile("untimed", deadline=None)  # a busy machine is no failure
settings.load_profile("untimed")

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="session")
def tiny_data(tmp_path_factory) -> Path:
    """EMT structures, enough that a quarter of them holds every element."""
    out = tmp_path_factory.mktemp("data") / "emt"
    done = run_command("experiments.prepare", "source=emt", "source.num_structures=320", f"out={out}")
    assert done.returncode == 0, done.stderr
    return out


def run_command(module: str, *arguments: str, cwd: Path = ROOT, timeout: float = 240) -> subprocess.CompletedProcess:
    """Run `python -m module arguments` as a user would."""
    return subprocess.run(
        [sys.executable, "-m", module, *arguments],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )


def run_ranks(script: str, ranks: int, out: Path, *arguments: str) -> list[dict]:
    """What a script of tests/distributed, run by so many ranks, has left in `out`; pytest's time limit holds."""
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={ranks}"]
    command = [*torchrun, "-m", f"tests.distributed.{script}", str(out), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    return json.loads(out.read_text())
