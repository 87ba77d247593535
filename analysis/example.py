"""A table of runs that nobody trained: losses drawn from a law that is stated, to learn and to test with."""

from typing import Literal

import numpy as np
import pandas as pd

from scaling.errors import ConfigError

SIZES_LAW = {"E": 0.05, "A": 8.0, "alpha": 0.5, "B": 12.0, "beta": 0.6}
SHAPE_LAW = {"E": 0.05, "A_w": 1.5, "a": 1.0, "A_d": 0.15, "b": 1.2, "B": 12.0, "beta": 0.6}
SCATTER = 0.03
EPOCHS = 20
WIDTHS, DEPTHS, STRUCTURES = (8, 16, 32, 64, 128), (1, 2, 4, 8), (250, 1000, 4000, 16_000, 64_000)
FLOPS_PER_DEVICE_HOUR = 3.6e12


def example_runs(law: Literal["sizes", "shape"] = "sizes", *, seed: int = 0) -> pd.DataFrame:
    """One row for each of 5 widths x 4 depths x 5 data sizes, with the columns of a collected study.

    The loss is E + A / N^alpha + B / D^beta with SIZES_LAW for `sizes`, where width and depth matter through N alone,
    or E + A_w / width^a + A_d / depth^b + B / D^beta with SHAPE_LAW for `shape`; each times exp(SCATTER * normal).
    N is 4 depth width^2 + 12 width, training is 20 epochs, and FLOPs are 6 N D epochs.

    Raises:
        ConfigError: if the law is neither.
    """
    if law not in ("sizes", "shape"):
        raise ConfigError(f"law={law} must be sizes or shape")
    width, depth, size = (axis.ravel() for axis in np.meshgrid(WIDTHS, DEPTHS, STRUCTURES, indexing="ij"))
    num_params = 4 * depth * width**2 + 12 * width
    if law == "sizes":
        p = SIZES_LAW
        loss = p["E"] + p["A"] * num_params ** -p["alpha"] + p["B"] * size ** -p["beta"]
    else:
        p = SHAPE_LAW
        by_shape = p["A_w"] / width ** p["a"] + p["A_d"] / depth ** p["b"]
        loss = p["E"] + by_shape + p["B"] * size ** -p["beta"]
    flops = 6.0 * num_params * size * EPOCHS
    return pd.DataFrame(
        {
            "run_id": [f"w{w}-d{d}-n{s}" for w, d, s in zip(width, depth, size, strict=True)],
            "status": "done",
            "model": "example",
            "width": width,
            "depth": depth,
            "num_params": num_params,
            "num_params_trunk": 4 * depth * width**2,
            "train_structures": size,
            "epochs": EPOCHS,
            "train_flops": flops,
            "device_hours": 0.01 + flops / FLOPS_PER_DEVICE_HOUR,
            "test_loss": loss * np.exp(SCATTER * np.random.default_rng(seed).normal(size=len(loss))),
        }
    )
