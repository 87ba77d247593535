"""What a run learns from and is judged on: the data, its split and fraction, and the scales of the loss."""

from dataclasses import dataclass

from scaling.config import RunConfig
from scaling.data.baseline import Baseline, num_edges, require_elements
from scaling.data.shards import ShardSet
from scaling.data.split import Split, nested_fraction, split
from scaling.structure import IntArray
from scaling.training.metrics import LossScale


@dataclass(frozen=True)
class Task:
    """train: the run's own training structures. baseline, train_scale: fitted to them; judge_scale: to all of them."""

    shards: ShardSet
    split: Split
    train: IntArray
    baseline: Baseline
    train_scale: LossScale
    judge_scale: LossScale
    cutoff_ang: float

    @classmethod
    def of(cls, config: RunConfig) -> "Task":
        """Open the data, split it, take the fraction and fit the composition-only model to it.

        Raises:
            DataError, ConfigError: if the data cannot be used so.
        """
        data = config.data
        shards = ShardSet(data.path)
        parts = split(shards, val_share=data.val_share, test_share=data.test_share, seed=data.split_seed)
        train = parts.train[nested_fraction(shards.group[parts.train], data.fraction, seed=data.split_seed)]
        for judged in (parts.val, parts.test, *parts.apart.values()):
            require_elements(shards, train, judged, fraction=data.fraction)
        own = Baseline.fit(shards, train, cutoff_ang=data.cutoff_ang)
        whole = Baseline.fit(shards, parts.train, cutoff_ang=data.cutoff_ang)
        return cls(
            shards,
            parts,
            train,
            own,
            LossScale.of(config.train, own),
            LossScale.of(config.train, whole),
            data.cutoff_ang,
        )

    def num_edges(self, structures: IntArray) -> IntArray:
        """(len,) edges of each structure, as estimated for filling batches."""
        return num_edges(self.shards, structures, self.cutoff_ang)
