"""Structures with their edges, and how several become one graph: the one way to pack, for training and for use."""

from collections.abc import Sequence
from typing import NamedTuple, Self

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch_geometric.data import Data

from scaling.data.neighbors import neighbor_list
from scaling.structure import FloatArray, IntArray


class Graph(NamedTuple):
    """One structure of N atoms and E edges, ready to be joined to others.

    element_N: index of each atom's element among those of the network. pos_N3: angstrom. edge_index_2E: sorted by
    destination (row 1). shift_E3: lattice translation of each edge's source, angstrom.
    """

    element_N: IntArray
    pos_N3: FloatArray
    edge_index_2E: IntArray
    shift_E3: FloatArray

    @classmethod
    def of(
        cls, element_N: IntArray, positions: ArrayLike, cell: ArrayLike, pbc: ArrayLike, *, cutoff_ang: float
    ) -> Self:
        """Find the neighbours of a structure; arguments as of `neighbor_list`."""
        edge_index, cell_shifts = neighbor_list(positions, cell, pbc, cutoff_ang)
        return cls(
            element_N=element_N,
            pos_N3=np.asarray(positions, dtype=np.float32),
            edge_index_2E=np.asarray(edge_index, dtype=np.int64),
            shift_E3=(cell_shifts @ np.asarray(cell)).astype(np.float32),
        )

    @classmethod
    def of_atoms(cls, element_N: IntArray, positions: ArrayLike) -> Self:
        """A structure whose neighbours nobody asks for."""
        points = np.asarray(positions, dtype=np.float32)
        return cls(element_N, points, np.zeros((2, 0), np.int64), np.zeros((0, 3), np.float32))

    @property
    def num_edges(self) -> int:
        """Directed pairs."""
        return self.edge_index_2E.shape[1]

    @property
    def num_bytes(self) -> int:
        """What its arrays take."""
        return sum(array.nbytes for array in self)


def join(graphs: Sequence[Graph]) -> Data:
    """Several structures as one graph, atoms and edges one after another.

    Returns:
        Data with z (N,) element indices, pos (N, 3), edge_index (2, E) sorted by destination (row 1), shift (E, 3)
        lattice translation of each source, num_atoms (G,), batch (N,): the structure of each atom.
    """
    num_atoms = np.array([len(g.element_N) for g in graphs])
    first_atom = np.cumsum(num_atoms) - num_atoms
    first_of_edge = np.repeat(first_atom, [g.num_edges for g in graphs])
    return Data(
        z=torch.from_numpy(np.concatenate([g.element_N for g in graphs])),
        pos=torch.from_numpy(np.concatenate([g.pos_N3 for g in graphs])),
        edge_index=torch.from_numpy(np.concatenate([g.edge_index_2E for g in graphs], axis=1) + first_of_edge),
        shift=torch.from_numpy(np.concatenate([g.shift_E3 for g in graphs])),
        num_atoms=torch.from_numpy(num_atoms),
        batch=torch.from_numpy(np.repeat(np.arange(len(graphs)), num_atoms)),
    )
