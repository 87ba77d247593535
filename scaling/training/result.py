"""What is written down of a run that has ended."""

import platform
import resource
import shutil
import subprocess
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch

from scaling.config import RunConfig
from scaling.models.counting import ParameterCount
from scaling.runs.identity import run_id
from scaling.runs.record import RunResult
from scaling.training.checkpoint import Progress
from scaling.training.metrics import Means
from scaling.training.task import Task
from scaling.training.world import World


@dataclass(frozen=True)
class Outcome:
    """test, apart: errors of the best weights; baseline: of the composition-only model; seconds: of computing;
    imbalance: see `TrainSampler.imbalance`."""

    test: Means
    apart: dict[str, Means]
    baseline: Means
    progress: Progress
    steps: int
    seconds: float
    imbalance: float


def describe(
    config: RunConfig,
    task: Task,
    outcome: Outcome,
    parameters: ParameterCount,
    flops_per_structure: float,
    world: World,
) -> RunResult:
    """Put a run's configuration, data and outcome into one row."""
    test, baseline, best_val_loss = outcome.test, outcome.baseline, outcome.progress.best_val_loss
    assert best_val_loss is not None
    samples = outcome.steps * config.train.batch_size
    extra: dict[str, Any] = {f"version_{name}": version(name) for name in ("torch", "deepspeed", "torch-geometric")}
    extra |= test.columns("test")
    extra["parallel_graph"] = config.parallel.graph
    for name, means in outcome.apart.items():
        extra |= means.columns(f"test_{name}")
        extra[f"test_{name}_structures"] = means.num_structures
        extra[f"test_{name}_energy_mae_ev_per_atom"] = means["energy_mae_ev_per_atom"]
        extra[f"test_{name}_force_mae_ev_per_ang"] = means["force_mae_ev_per_ang"]
    return RunResult(
        run_id=run_id(config, task.shards.manifest.digest),
        study=config.study.name,
        seed=config.seed,
        model=config.model.name,
        width=config.model.width,
        depth=config.model.depth,
        forces=config.model.forces,
        num_params=parameters.total,
        num_params_embedding=parameters.embedding,
        num_params_trunk=parameters.trunk,
        num_params_head=parameters.head,
        fraction=config.data.fraction,
        train_structures=len(task.train),
        train_atoms=int(task.shards.num_atoms[task.train].sum(dtype=np.int64)),
        train_edges=int(task.edges[task.train].sum(dtype=np.int64)),
        samples_seen=samples,
        steps=outcome.steps,
        epochs=samples / len(task.train),
        train_flops=samples * flops_per_structure,
        peak_lr=config.optim.peak_lr(config.model.width),
        test_loss=task.judge_loss.mean(test.norms),
        val_loss=best_val_loss,
        best_step=outcome.progress.best_step,
        loss_spikes=outcome.progress.spikes,
        test_structures=test.num_structures,
        test_energy_mae_ev_per_atom=test["energy_mae_ev_per_atom"],
        test_force_mae_ev_per_ang=test["force_mae_ev_per_ang"],
        baseline_test_loss=task.judge_loss.mean(baseline.norms),
        baseline_test_energy_mae_ev_per_atom=baseline["energy_mae_ev_per_atom"],
        baseline_test_force_mae_ev_per_ang=baseline["force_mae_ev_per_ang"],
        loss_energy_scale_ev_per_atom=task.judge_loss.scale("energy"),
        loss_force_scale_ev_per_ang=task.judge_loss.scale("force"),
        wall_s=outcome.seconds,
        device_hours=outcome.seconds * world.size / 3600,
        peak_memory_bytes=_peak_memory(world.device),
        world_size=world.size,
        rank_imbalance=outcome.imbalance,
        zero_stage=config.zero.stage,
        checkpointing=config.zero.checkpointing,
        precision=config.train.precision,
        device=torch.cuda.get_device_name() if world.device.type == "cuda" else platform.processor() or "cpu",
        data_digest=task.shards.manifest.digest,
        code_version=_code_version(),
        extra=extra,
    )


def _peak_memory(device: torch.device) -> int:
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _code_version() -> str:
    """Version of the code, with the commit where it is run from its own checkout."""
    package = Path(__file__).resolve().parents[2]
    commit = ""
    if (package / ".git").exists() and shutil.which("git"):
        asked = ["git", "describe", "--always", "--dirty", "--exclude=*"]
        commit = subprocess.run(asked, cwd=package, capture_output=True, text=True, check=False).stdout.strip()
    return "+".join(part for part in (version("gnn-scaling"), commit) if part)
