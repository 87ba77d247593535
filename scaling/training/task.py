"""What a run learns from and is judged on: the data, its split and fraction, and the scales of the loss."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from tqdm import tqdm

from scaling.config import RunConfig
from scaling.data import Baseline, ShardSet, Split, choose
from scaling.data.neighbors import neighbor_list
from scaling.errors import ConfigError
from scaling.structure import FloatArray, IntArray
from scaling.training.losses import Loss

SHOWN_AFTER_S = 5.0
"""A count of edges that takes longer shows a progress bar, and with it the setting that would spare it."""


@dataclass(frozen=True)
class Task:
    """train: the run's own training structures. baseline, train_loss: fitted to them; judge_loss: to all of them.

    edges: (S,) edges of every structure within the run's cut-off. loss_weight: (num_parts,) of the structures of each
    part of a mixed set in the training loss, 1 on average over the training structures. upweight: by label that
    not all training structures have, one over the share of all weight that those have which have it: with it a term's
    weighted mean over a batch is, on average over batches, its weighted mean over the structures that have its label.
    """

    shards: ShardSet
    split: Split
    train: IntArray
    edges: IntArray
    baseline: Baseline
    train_loss: Loss
    judge_loss: Loss
    loss_weight: FloatArray
    upweight: Mapping[str, float]

    @property
    def learns_forces(self) -> bool:
        """Whether training structures have forces; where none has, a step needs energies alone."""
        return self.baseline.force_mae_ev_per_ang is not None

    @classmethod
    def of(cls, config: RunConfig) -> "Task":
        """Open the data, split it, take the fraction and fit the composition-only model to it.

        Raises:
            DataError, ConfigError: if the data cannot be used so.
        """
        shards = ShardSet(config.data.path)
        parts, train = choose(config.data, shards, config.train.labels)
        has_forces = shards.has("forces")
        if config.model.forces == "direct" and not has_forces[train].any():
            raise ConfigError(
                f"model.forces=direct learns forces from labels, and no training structure of {shards.path} has them; "
                "say model.forces=conservative"
            )
        edges = count_edges(shards, config.data.cutoff_ang)
        own = Baseline.fit(shards, train, edges[train])
        whole = Baseline.fit(shards, parts.train, edges[parts.train])
        losses = Loss.of(config.train, own), Loss.of(config.train, whole)
        weight = np.array([part.weight for part in shards.manifest.parts])
        weight = weight / weight[shards.source[train]].mean()
        of_each = weight[shards.source[train]]  # 1 on average
        shares = {label: float((of_each * shards.has(label)[train]).mean()) for label in config.train.labels}
        upweight = {label: 1 / share for label, share in shares.items() if not shards.has(label)[train].all()}
        return cls(shards, parts, train, edges, own, *losses, weight, upweight)


def count_edges(shards: ShardSet, cutoff_ang: float) -> IntArray:
    """(S,) edges of every structure: stored for the preparation's cut-off, counted for any other."""
    stored = shards.manifest.cutoff_ang
    if cutoff_ang == stored:
        return np.array(shards.num_edges)
    what = f"counting edges within {cutoff_ang:g} A (stored for bounds.cutoff_ang={stored:g})"
    numbers = tqdm(range(shards.num_structures), desc=what, delay=SHOWN_AFTER_S, leave=False)
    structures = (shards.read(index) for index in numbers)
    counts = (neighbor_list(s.positions, s.cell, s.pbc, cutoff_ang)[0].shape[1] for s in structures)
    return np.fromiter(counts, dtype=np.int64, count=shards.num_structures)
