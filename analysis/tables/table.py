"""A table of runs: their sizes along each axis, their loss, and what was left out."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from analysis.arrays import FloatArray
from scaling.errors import ConfigError

SAME_SIZE = 1e-6
"""Relative difference below which two sizes are one size (a size that went through text is rounded)."""
LOSS_COLUMN = "test_loss"
FLOPS_PER_PARAMETER_AND_SAMPLE = 6.0
"""C = 6 N D. Source: Kaplan et al. 2020, arXiv:2001.08361, sec. 2.1."""


@dataclass(frozen=True)
class Axis:
    """An axis of a law: its column unless another is named, the option that names it, what it is."""

    column: str
    option: str
    meaning: str


AXES = {
    "N": Axis("num_params", "num_params", "parameters"),
    "D": Axis("train_structures", "data_size", "data"),
    "C": Axis("train_flops", "flops", "training FLOPs"),
    "width": Axis("width", "width", "width"),
    "depth": Axis("depth", "depth", "depth"),
    "epochs": Axis("epochs", "epochs", "epochs"),
}


@dataclass(frozen=True)
class Excluded:
    """A row that is not fitted, and why."""

    run: str
    reason: str


@dataclass(frozen=True)
class RunTable:
    """The runs to be fitted, in table order, and those left out.

    Attributes:
        frame: the kept rows with all columns of the source.
        run: (M,) name of each kept row: its run_id, or `row 3` (counted from 1, header not counted).
        sizes: for each axis that was read (a key of AXES) its (M,) values.
        loss: (M,) positive, finite.
        columns: which column (or formula) each axis and `loss` were read from.
        excluded: what was left out.
        source: where the table came from.
    """

    frame: pd.DataFrame
    run: tuple[str, ...]
    sizes: dict[str, FloatArray]
    loss: FloatArray
    columns: dict[str, str]
    excluded: tuple[Excluded, ...]
    source: str

    def __len__(self) -> int:
        return len(self.run)

    def axis(self, name: str) -> FloatArray:
        """(M,) sizes along an axis, NaN throughout if the table was loaded without it."""
        return self.sizes.get(name, np.full(len(self), np.nan))

    @property
    def derives_data(self) -> bool:
        """Whether D was derived from the column of C, as C / (6 N)."""
        return {"N", "D", "C"} <= set(self.columns) and self.columns["D"] == derived_data(self.columns)

    @property
    def num_params(self) -> FloatArray:
        """(M,) N."""
        return self.axis("N")

    @property
    def data_size(self) -> FloatArray:
        """(M,) D."""
        return self.axis("D")

    def keep(self, mask: np.ndarray) -> "RunTable":
        """The runs where `mask` (M,) is true; the others are not listed as excluded."""
        return replace(
            self,
            frame=self.frame[mask].reset_index(drop=True),
            run=tuple(name for name, kept in zip(self.run, mask, strict=True) if kept),
            sizes={name: sizes[mask] for name, sizes in self.sizes.items()},
            loss=self.loss[mask],
        )

    def drop_highest(self, count: int) -> "RunTable":
        """Leave out the `count` runs of highest loss, and list them.

        Raises:
            ConfigError: if count is negative, or no run would be left.
        """
        if not 0 <= count < max(len(self), 1):
            raise ConfigError(f"drop_highest={count} must be at least 0 and below the number of runs, {len(self)}")
        highest = np.argsort(-self.loss, kind="stable")[:count]
        mask = np.ones(len(self), dtype=bool)
        mask[highest] = False
        dropped = [Excluded(self.run[i], f"one of the {count} highest losses ({self.loss[i]:.4g})") for i in highest]
        return replace(self.keep(mask), excluded=(*self.excluded, *dropped))


def numbers(table: RunTable, column: str) -> FloatArray:
    """(M,) a column of the source, NaN where it holds no number or is not there."""
    if column not in table.frame:
        return np.full(len(table), np.nan)
    values: FloatArray = pd.to_numeric(table.frame[column], errors="coerce").to_numpy(dtype=float, na_value=np.nan)
    return values


def distinct_sizes(sizes: FloatArray) -> FloatArray:
    """The different sizes in ascending order; those closer than SAME_SIZE are one."""
    ordered = np.unique(sizes[np.isfinite(sizes)])
    new = np.ones(len(ordered), dtype=bool)
    new[1:] = np.diff(ordered) > SAME_SIZE * ordered[1:]
    different: FloatArray = ordered[new]
    return different


def same_size(sizes: FloatArray, size: float) -> np.ndarray:
    """(M,) mask of the runs whose size is `size`."""
    mask: np.ndarray = np.abs(sizes - size) <= 2 * SAME_SIZE * size
    return mask


def derived_data(columns: Mapping[str, str]) -> str:
    """The formula that stands for the column of D where D is derived from C."""
    return f"{columns['C']} / (6 {columns['N']})"
