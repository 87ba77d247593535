"""What is known of a run when it has ended: one row of a study's table."""

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class RunResult:
    """result.json. Units stand in the names; losses are those of `docs/conventions.md`.

    num_params counts every trained number; num_params_embedding + _trunk + _head = num_params.
    train_structures, train_atoms, train_edges: size of the run's training subset (D).
    loss_spikes: steps whose loss stood out from those before it; metrics.jsonl names their structures.
    train_flops: floating-point operations of all matrix products of the training, forward and backward.
    test_*_mae_*: None where no test structure has the label; loss_*_scale_*: where no training structure has.
    baseline_*: the composition-only model of the run's own training subset on the same test structures.
    rank_imbalance: edges of the rank, or group that shares batches, with most over the mean of all, a step; 1 is even.
    extra: S2EF metrics, further test sets, reported apart, and package versions; they become columns of their own.
    settings: every key that changes the result, with its value; empty in results of before 2026-12.
    """

    run_id: str
    study: str
    seed: int
    model: str
    width: int
    depth: int
    forces: str
    num_params: int
    num_params_embedding: int
    num_params_trunk: int
    num_params_head: int
    fraction: float
    train_structures: int
    train_atoms: int
    train_edges: int
    samples_seen: int
    steps: int
    epochs: float
    train_flops: float
    peak_lr: float
    test_loss: float
    val_loss: float
    best_step: int
    loss_spikes: int
    test_structures: int
    test_energy_mae_ev_per_atom: float | None
    test_force_mae_ev_per_ang: float | None
    baseline_test_loss: float
    baseline_test_energy_mae_ev_per_atom: float | None
    baseline_test_force_mae_ev_per_ang: float | None
    loss_energy_scale_ev_per_atom: float | None
    loss_force_scale_ev_per_ang: float | None
    wall_s: float
    device_hours: float
    peak_memory_bytes: int
    world_size: int
    rank_imbalance: float
    zero_stage: int
    checkpointing: int
    precision: str
    device: str
    data_digest: str
    code_version: str
    extra: dict[str, Any] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)

    def row(self) -> dict[str, Any]:
        """The result as one flat row, without its settings."""
        flat = {name: getattr(self, name) for name in self.__dataclass_fields__ if name not in ("extra", "settings")}
        return {**flat, **self.extra}
