"""Structures into batches of graphs: neighbour lists are built here, in the loader's workers, never stored."""

import multiprocessing
import signal
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset
from torch_geometric.data import Data

from scaling.data.neighbors import neighbor_list
from scaling.data.sampler import MicroBatch
from scaling.data.shards import ShardSet
from scaling.errors import DataError
from scaling.structure import FloatArray, IntArray

#: Forked workers start in milliseconds; they touch neither the accelerator nor open files of their parent.
_WORKER_START = "fork" if "fork" in multiprocessing.get_all_start_methods() else None


class _Graph(NamedTuple):
    """One structure with its edges, ready to be joined to others."""

    element_N: IntArray
    pos_N3: FloatArray
    edge_index_2E: IntArray
    shift_E3: FloatArray
    forces_N3: FloatArray
    energy: float
    loss_weight: float

    @property
    def num_bytes(self) -> int:
        return sum(array.nbytes for array in self[:5])


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
        self._cache: dict[int, _Graph] = {}
        self._room = cache_mb * 2**20

    def __getitem__(self, micro_batch: MicroBatch) -> Data:
        """One graph of all the micro-batch's structures.

        Returns:
            Data with z (N,) element indices, pos (N, 3), edge_index (2, E) sorted by destination (row 1), shift (E, 3)
            lattice translation of each source, energy (G,) less the references, forces (N, 3), num_atoms (G,),
            batch (N,), loss_weight (G,), weight: 1.0 or 0.0, step, is_last, structures: G indices.
        Raises:
            DataError: an atom has no neighbour within the cut-off.
        """
        graphs = [self._graph(i) for i in micro_batch.structures]
        num_atoms = np.array([len(g.element_N) for g in graphs])
        first_atom = np.cumsum(num_atoms) - num_atoms
        num_edges = [g.edge_index_2E.shape[1] for g in graphs]
        edge_index = np.concatenate([g.edge_index_2E for g in graphs], axis=1) + np.repeat(first_atom, num_edges)
        return Data(
            z=torch.from_numpy(np.concatenate([g.element_N for g in graphs])),
            pos=torch.from_numpy(np.concatenate([g.pos_N3 for g in graphs])),
            edge_index=torch.from_numpy(edge_index),
            shift=torch.from_numpy(np.concatenate([g.shift_E3 for g in graphs])),
            energy=torch.tensor([g.energy for g in graphs], dtype=torch.float32),
            forces=torch.from_numpy(np.concatenate([g.forces_N3 for g in graphs])),
            num_atoms=torch.from_numpy(num_atoms),
            batch=torch.from_numpy(np.repeat(np.arange(len(graphs)), num_atoms)),
            loss_weight=torch.tensor([g.loss_weight for g in graphs], dtype=torch.float32),
            weight=micro_batch.weight,
            step=micro_batch.step,
            is_last=micro_batch.is_last,
            structures=micro_batch.structures,
        )

    def _graph(self, index: int) -> _Graph:
        cached = self._cache.get(index)
        if cached is not None:
            return cached
        s = self.shards.read(index)
        edge_index, cell_shifts = neighbor_list(s.positions, s.cell, s.pbc, self.cutoff_ang)
        degree = np.bincount(edge_index[1], minlength=len(s.numbers))
        if (degree == 0).any():
            raise DataError(
                f"{self.shards.path}: structure {index}: atom {int(degree.argmin())} has no neighbour within "
                f"data.cutoff_ang={self.cutoff_ang}; raise the cut-off, or prepare the data with "
                f"bounds.cutoff_ang={self.cutoff_ang} so that such structures are rejected"
            )
        element_N = self.element_of_z[s.numbers]
        graph = _Graph(
            element_N=element_N,
            pos_N3=np.asarray(s.positions, dtype=np.float32),
            edge_index_2E=np.asarray(edge_index, dtype=np.int64),
            shift_E3=(cell_shifts @ s.cell).astype(np.float32),
            forces_N3=np.asarray(s.forces, dtype=np.float32),
            energy=float(s.energy - self.reference_ev[s.source, element_N].sum()),
            loss_weight=float(self.loss_weight[s.source]),
        )
        if graph.num_bytes <= self._room:
            self._room -= graph.num_bytes
            self._cache[index] = graph
        return graph


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
