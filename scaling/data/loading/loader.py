"""Structures into batches of graphs: neighbour lists are built here, in the loader's workers, never stored."""

import multiprocessing
import signal
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset
from torch_geometric.data import Data

from scaling.data.loading.graph import Graph, join
from scaling.data.loading.sampler import MicroBatch
from scaling.data.shards import ShardSet, StoredStructure
from scaling.errors import DataError
from scaling.structure import FloatArray

#: Forked workers start in milliseconds; they touch neither the accelerator nor open files of their parent.
_WORKER_START = "fork" if "fork" in multiprocessing.get_all_start_methods() else None


class _Labelled(NamedTuple):
    """A graph and what is to be learned of it. energy: less the references; zeros stand where there is no label."""

    graph: Graph
    forces_N3: FloatArray
    energy: float
    loss_weight: float
    has_energy: bool
    has_forces: bool

    @property
    def num_bytes(self) -> int:
        return self.graph.num_bytes + self.forces_N3.nbytes


class GraphDataset(Dataset[Data]):
    """Joins the structures of a micro-batch into one graph.

    Args:
        shards: the prepared data. cutoff_ang: neighbour radius. reference_ev: (num_parts, num_elements) energy of an
            atom of each element, taken off the total energies. loss_weight: (num_parts,). cache_mb: neighbour lists
            kept in memory.
    """

    def __init__(
        self,
        shards: ShardSet,
        *,
        cutoff_ang: float,
        reference_ev: FloatArray,
        loss_weight: FloatArray,
        cache_mb: int,
    ) -> None:
        self.shards = shards
        self.cutoff_ang = cutoff_ang
        self.reference_ev = reference_ev
        self.loss_weight = loss_weight
        self.element_of_z = np.full(256, -1, dtype=np.int64)
        self.element_of_z[list(shards.manifest.elements)] = np.arange(len(shards.manifest.elements))
        self._cache: dict[int, _Labelled] = {}
        self._room = cache_mb * 2**20

    def __getitem__(self, micro_batch: MicroBatch) -> Data:
        """One graph of all the micro-batch's structures.

        Returns:
            what `join` gives, and energy (G,) less the references, forces (N, 3), has_energy, has_forces (G,) bool:
            which of these are labels, and not zeros in their place; loss_weight (G,), weight: 1.0 or 0.0, step,
            is_last, structures: G indices.
        Raises:
            DataError: an atom has no neighbour within the cut-off.
        """
        return self._batch([self._labelled(i) for i in micro_batch.structures], micro_batch)

    def labels(self, micro_batch: MicroBatch) -> Data:
        """The same without edges, for what needs no network: no neighbours are sought."""
        return self._batch([self._label(self.shards.read(i)) for i in micro_batch.structures], micro_batch)

    def _batch(self, found: list[_Labelled], micro_batch: MicroBatch) -> Data:
        batch = join([each.graph for each in found])
        batch.energy = torch.tensor([each.energy for each in found], dtype=torch.float32)
        batch.forces = torch.from_numpy(np.concatenate([each.forces_N3 for each in found]))
        batch.has_energy = torch.tensor([each.has_energy for each in found])
        batch.has_forces = torch.tensor([each.has_forces for each in found])
        batch.loss_weight = torch.tensor([each.loss_weight for each in found], dtype=torch.float32)
        batch.weight, batch.step = micro_batch.weight, micro_batch.step
        batch.is_last, batch.structures = micro_batch.is_last, micro_batch.structures
        return batch

    def _labelled(self, index: int) -> _Labelled:
        """A structure with its edges, read and searched once while the cache has room."""
        cached = self._cache.get(index)
        if cached is not None:
            return cached
        s = self.shards.read(index)
        graph = Graph.of(self.element_of_z[s.numbers], s.positions, s.cell, s.pbc, cutoff_ang=self.cutoff_ang)
        degree = np.bincount(graph.edge_index_2E[1], minlength=len(s.numbers))
        if (degree == 0).any():
            raise DataError(
                f"{self.shards.path}: structure {index}: atom {int(degree.argmin())} has no neighbour within "
                f"data.cutoff_ang={self.cutoff_ang}; raise the cut-off, or prepare the data with "
                f"bounds.cutoff_ang={self.cutoff_ang} so that such structures are rejected"
            )
        found = self._label(s, graph)
        if found.num_bytes <= self._room:
            self._room -= found.num_bytes
            self._cache[index] = found
        return found

    def _label(self, s: StoredStructure, graph: Graph | None = None) -> _Labelled:
        """What is to be learned of a structure; without a graph, its atoms alone."""
        element_N = self.element_of_z[s.numbers]
        reference = self.reference_ev[s.source, element_N].sum()
        return _Labelled(
            graph or Graph.of_atoms(element_N, s.positions),
            forces_N3=np.asarray(np.zeros((len(element_N), 3)) if s.forces is None else s.forces, dtype=np.float32),
            energy=0.0 if s.energy is None else float(s.energy - reference),
            loss_weight=float(self.loss_weight[s.source]),
            has_energy=s.energy is not None,
            has_forces=s.forces is not None,
        )


def _leave_sigterm_to_the_rank(_number: int) -> None:
    """A rank that is asked to stop needs its loader for one more step; it ends with the rank."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})


class Loader:
    """Batches of a sampler, computed `num_workers` processes ahead of the training (0: in its own process)."""

    def __init__(self, dataset: GraphDataset, *, num_workers: int) -> None:
        self.dataset = dataset
        self.num_workers = num_workers

    def batches(self, sampler: Iterable[MicroBatch]) -> Iterator[Data]:
        """The sampler's micro-batches as graphs, in order."""
        return iter(
            DataLoader(
                self.dataset,
                batch_size=None,
                sampler=sampler,
                num_workers=self.num_workers,
                prefetch_factor=4 if self.num_workers else None,
                multiprocessing_context=_WORKER_START if self.num_workers else None,
                pin_memory=torch.cuda.is_available(),
                worker_init_fn=_leave_sigterm_to_the_rank,
            )
        )
