"""Synthetic studies: tables as `experiments.collect` writes them, with a known law underneath."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

WIDTHS = {4: 373, 8: 1161, 16: 3985, 32: 14625, 64: 55800}
STRUCTURES = (64, 256, 1024, 4096, 16384)
PILOT_LAW = {"E": 0.041, "A": 75.0, "alpha": 1.1, "B": 450.0, "beta": 1.5}
SHARED = Path(__file__).parents[4] / "shared"


def study_frame(
    law: dict[str, float] | None = None,
    *,
    scatter: float = 0.05,
    seed: int = 0,
    seeds: tuple[int, ...] = (0,),
    depths: tuple[int, ...] = (2,),
    widths: dict[int, int] | None = None,
    structures: tuple[int, ...] = STRUCTURES,
) -> pd.DataFrame:
    """A grid of runs whose loss follows E + A / N^alpha + B / D^beta with log-normal scatter."""
    law = PILOT_LAW if law is None else law
    generator = np.random.default_rng(seed)
    rows = []
    for depth in depths:
        for width, params in (WIDTHS if widths is None else widths).items():
            for size in structures:
                for run_seed in seeds:
                    num_params = int(params * (0.4 + 0.3 * depth))
                    loss = law["E"] + law["A"] * num_params ** -law["alpha"] + law["B"] * size ** -law["beta"]
                    loss *= np.exp(scatter * generator.normal())
                    rows.append(
                        {
                            "run_id": f"egnn-w{width}-d{depth}-n{size}-s{run_seed}",
                            "study": "synthetic",
                            "status": "done",
                            "failure": None,
                            "seed": run_seed,
                            "model": "egnn",
                            "width": width,
                            "depth": depth,
                            "num_params": num_params,
                            "num_params_embedding": 9 * width,
                            "num_params_trunk": num_params - 10 * width,
                            "num_params_head": width,
                            "fraction": size / structures[-1],
                            "train_structures": size,
                            "train_atoms": 6 * size,
                            "train_edges": 90 * size,
                            "samples_seen": 128000,
                            "steps": 4000,
                            "epochs": 128000 / size,
                            "train_flops": 6.0 * num_params * 128000,
                            "test_loss": loss,
                            "val_loss": loss * 1.01,
                            "test_energy_mae_ev_per_atom": 0.09 * loss,
                            "test_force_mae_ev_per_ang": 0.35 * loss,
                            "baseline_test_loss": 1.91 + 4 / size,
                            "baseline_test_energy_mae_ev_per_atom": 0.186,
                            "baseline_test_force_mae_ev_per_ang": 0.71,
                            "wall_s": 35.0 + width,
                            "device_hours": (35.0 + width) / 3600,
                            "peak_memory_bytes": 300_000_000,
                            "forces": "conservative",
                            "precision": "float32",
                            "data_digest": "ab12cd34",
                            "code_version": "0.1.0",
                        }
                    )
    return pd.DataFrame(rows)


@pytest.fixture
def make_study() -> Callable[..., pd.DataFrame]:
    return study_frame


@pytest.fixture
def chinchilla_csv() -> Path:
    path = SHARED / "data" / "fits" / "epoch_chinchilla" / "svg_extracted_data.csv"
    if not path.exists():
        pytest.skip(f"{path} is not on this machine; its licence does not allow shipping it")
    return path
