"""A run that has ended, as one row: its configuration, its data, its errors and what it cost."""

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
from scaling.models import ParameterCount
from scaling.runs import RunResult, settings
from scaling.training.checkpoint import Progress
from scaling.training.metrics import Means
from scaling.training.task import Task
from scaling.training.world import World

#: Metrics of the test set that have fixed columns, and those that join them: the S2EF metrics of OC20.
MEAN_ERRORS = ("energy_mae_ev_per_atom", "force_mae_ev_per_ang")
FURTHER_METRICS = ("energy_mae_ev", "force_cosine", "efwt")


@dataclass(frozen=True)
class Outcome:
    """What a run came to.

    test, extra_tests: errors of the best weights. baseline: errors of the composition-only model. seconds: of
    computing. imbalance: see `TrainSampler.imbalance`.
    """

    test: Means
    extra_tests: dict[str, Means]
    baseline: Means
    progress: Progress
    steps: int
    seconds: float
    imbalance: float


def describe(
    run_id: str,
    config: RunConfig,
    task: Task,
    outcome: Outcome,
    parameters: ParameterCount,
    flops_per_structure: float,
    world: World,
) -> RunResult:
    """Put a run's configuration, data and outcome into one row."""
    samples = outcome.steps * config.train.batch_size
    return RunResult(
        run_id=run_id,
        **_setting(config, task),
        **_errors(task, outcome),
        num_params=parameters.total,
        num_params_embedding=parameters.embedding,
        num_params_trunk=parameters.trunk,
        num_params_head=parameters.head,
        samples_seen=samples,
        steps=outcome.steps,
        epochs=samples / len(task.train),
        train_flops=samples * flops_per_structure,
        loss_spikes=outcome.progress.spikes,
        wall_s=outcome.seconds,
        device_hours=outcome.seconds * world.size / 3600,
        peak_memory_bytes=_peak_memory(world.device),
        world_size=world.size,
        rank_imbalance=outcome.imbalance,
        device=torch.cuda.get_device_name() if world.device.type == "cuda" else platform.processor() or "cpu",
        code_version=_code_version(),
        extra=_extra_columns(config, outcome),
        settings=settings(config),
    )


def _setting(config: RunConfig, task: Task) -> dict[str, Any]:
    """What was computed, on which data."""
    return {
        "study": config.study.name,
        "seed": config.seed,
        "model": config.model.name,
        "width": config.model.width,
        "depth": config.model.depth,
        "forces": config.model.forces,
        "fraction": config.data.fraction,
        "train_structures": len(task.train),
        "train_atoms": int(task.shards.num_atoms[task.train].sum(dtype=np.int64)),
        "train_edges": int(task.edges[task.train].sum(dtype=np.int64)),
        "peak_lr": config.optim.peak_lr(config.model.width),
        "zero_stage": config.zero.stage,
        "checkpointing": config.zero.checkpointing,
        "precision": config.train.precision,
        "data_digest": task.shards.manifest.digest,
    }


def _errors(task: Task, outcome: Outcome) -> dict[str, Any]:
    """Losses and mean errors on the test set, of the best weights and of the composition-only model."""
    test, baseline, loss = outcome.test, outcome.baseline, task.judge_loss
    assert outcome.progress.best_val_loss is not None
    return {
        "test_loss": loss.mean(test.norms),
        "val_loss": outcome.progress.best_val_loss,
        "best_step": outcome.progress.best_step,
        "test_structures": test.num_structures,
        **{f"test_{name}": test[name] for name in MEAN_ERRORS},
        "baseline_test_loss": loss.mean(baseline.norms),
        **{f"baseline_test_{name}": baseline[name] for name in MEAN_ERRORS},
        "loss_energy_scale_ev_per_atom": loss.scale("energy"),
        "loss_force_scale_ev_per_ang": loss.scale("force"),
    }


def _extra_columns(config: RunConfig, outcome: Outcome) -> dict[str, Any]:
    """Columns of their own: versions, further metrics, and all of the extra test sets."""
    extra: dict[str, Any] = {f"version_{name}": version(name) for name in ("torch", "deepspeed", "torch-geometric")}
    extra |= {f"test_{name}": outcome.test[name] for name in FURTHER_METRICS}
    extra["parallel_graph"] = config.parallel.graph
    for name, means in outcome.extra_tests.items():
        extra |= {f"test_{name}_{metric}": means[metric] for metric in FURTHER_METRICS}
        extra[f"test_{name}_structures"] = means.num_structures
        extra |= {f"test_{name}_{metric}": means[metric] for metric in MEAN_ERRORS}
    return extra


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
