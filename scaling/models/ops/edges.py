"""The edges of a batch of graphs, and what every model does with them: gather, sum, reverse, set side by side.

Shape suffixes: K 1 (values) or 2 (values and their tangents), N atoms, S the rank's own atoms and its halo (atoms of
other ranks at which its edges begin), E edges, b edges of one block, n atoms of a block, F features, 3 Cartesian.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from scaling.models.ops.neighborhoods import Neighborhoods
from scaling.models.ops.transpose import linear_map
from scaling.parallel import Arrival, Share, reversed_edges

#: Numbers of an edge tensor in one block on a CPU: a few buffers of this size fit its second- and third-level caches.
BLOCK_NUMBERS = 2**18
#: On a GPU a block fills the device, and buffers stay below the kept tensors in size.
BLOCK_NUMBERS_GPU = 2**27


def block_numbers(device: str) -> int:
    """The largest block on this kind of device."""
    return BLOCK_NUMBERS if device == "cpu" else BLOCK_NUMBERS_GPU


@dataclass(frozen=True)
class Edges:
    """The edges of a batch of graphs, or of one rank's share of it, sorted by destination.

    src_E, dst_E: atoms of each edge. num_atoms: the rank's own. shift_E3: lattice translation of the source. share: if
    other ranks hold the rest; then src_E counts, after the rank's own atoms, those of its halo.
    """

    src_E: Tensor
    dst_E: Tensor
    num_atoms: int
    shift_E3: Tensor | None = None
    share: Share | None = None

    @cached_property
    def num_sources(self) -> int:
        """Atoms that edges may begin at: the rank's own, then those of its halo."""
        return self.num_atoms + (0 if self.share is None else len(self.share.halo_h))

    def sources(self, value_KNF: Tensor) -> "Sources":
        """Bring the values of all atoms that edges begin at; other work may go on until `Sources.wait`."""
        return Sources(value_KNF, self.share)

    def swapped(self, value_KEF: Tensor) -> "Swapped":
        """Bring, for each edge, the value of the one that leads back; other work may go on until `Swapped.wait`."""
        return Swapped(self, value_KEF)

    def swap(self, value_KEF: Tensor) -> Tensor:
        """(K, E, F): as `swapped`, of a batch that no other rank shares; its own transpose."""
        return value_KEF.index_select(1, self.reverse_E)

    @cached_property
    def reverse_E(self) -> Tensor:
        """(E,) for each edge the one that leads back."""
        assert self.shift_E3 is not None, "images of an atom differ in their translation"
        return reversed_edges(self.src_E, self.dst_E, self.shift_E3, self.num_atoms)

    def sum_to_dst(self, value_KEF: Tensor) -> Tensor:
        """(K, N, F): the sum over each atom's incoming edges."""
        return linear_map(value_KEF, self._sum_to_dst, self._of_dst)

    def of_dst(self, value_KNF: Tensor) -> Tensor:
        """(K, E, F): of each edge the value of the atom where it ends."""
        return linear_map(value_KNF, self._of_dst, self._sum_to_dst)

    def _sum_to_dst(self, value_KEF: Tensor) -> Tensor:
        edge_E = torch.arange(len(self.dst_E), device=value_KEF.device)
        first_N = self.first_edge_N[:-1]
        if not len(first_N):
            return value_KEF.new_zeros(len(value_KEF), 0, value_KEF.shape[2])
        rows = value_KEF.contiguous()
        return torch.stack([F.embedding_bag(edge_E, value_EF, first_N, mode="sum") for value_EF in rows])

    def _of_dst(self, value_KNF: Tensor) -> Tensor:
        return value_KNF.index_select(1, self.dst_E)

    @cached_property
    def neighborhoods(self) -> Neighborhoods:
        """Incoming edges of each atom, padded."""
        return Neighborhoods(self.dst_E, self.first_edge_N)

    @cached_property
    def first_edge_N(self) -> Tensor:
        """(N + 1,) where each atom's incoming edges begin; their number at the end."""
        degree_N = torch.bincount(self.dst_E, minlength=self.num_atoms)
        return F.pad(degree_N.cumsum(0), (1, 0))

    def differences(self, value_N3: Tensor) -> Tensor:
        """(E, 3) of each edge: its source's value minus its destination's."""
        return linear_map(value_N3, self._differences, self._sum_ends)

    def sum_ends(self, value_E3: Tensor) -> Tensor:
        """(N, 3) of each atom: the values of its outgoing edges minus those of its incoming ones."""
        return linear_map(value_E3, self._sum_ends, self._differences)

    def _differences(self, value_N3: Tensor) -> Tensor:
        return value_N3.index_select(0, self.src_E) - value_N3.index_select(0, self.dst_E)

    def _sum_ends(self, value_E3: Tensor) -> Tensor:
        """In the order of an atom's edges, several times as fast as `index_add`."""
        edge_2E, sign_2E, first_N = self.by_atom
        sign_2E = sign_2E.to(value_E3.dtype)
        return F.embedding_bag(edge_2E, value_E3.contiguous(), first_N, mode="sum", per_sample_weights=sign_2E)

    @cached_property
    def by_atom(self) -> tuple[Tensor, Tensor, Tensor]:
        """The edges of each atom, outgoing and incoming: edge (2 E,), sign (2 E,), where an atom's begin (N,)."""
        end_2E = torch.cat([self.src_E, self.dst_E])
        assert len(end_2E) < 2**31, "counted in 32 bits"
        if end_2E.device.type == "cpu" and self.num_sources <= 2**16:
            order_2E = torch.from_numpy(np.argsort(end_2E.numpy().astype(np.uint16), kind="stable"))  # radix sort
        else:
            order_2E = end_2E.argsort(stable=True)
        degree_N = torch.bincount(end_2E, minlength=self.num_sources)
        num_edges = len(self.src_E)
        sign_2E = (order_2E < num_edges).to(torch.int8).mul_(2).sub_(1)
        edge_2E = order_2E.remainder_(max(1, num_edges))
        return edge_2E.int(), sign_2E, (degree_N.cumsum(0) - degree_N).int()

    def blocks(self, width: int) -> list["Block"]:
        """Cut the edges between atoms into blocks whose tensors hold about `block_numbers`."""
        if width not in self._blocks:
            self._blocks[width] = self._cut(max(1, block_numbers(self.src_E.device.type) // width))
        return self._blocks[width]

    @cached_property
    def _blocks(self) -> dict[int, list["Block"]]:
        return {}

    def _cut(self, size: int) -> list["Block"]:
        num_edges = len(self.src_E)
        if num_edges <= size:
            return [Block(self, slice(0, self.num_atoms), slice(0, num_edges))]
        starts = torch.searchsorted(
            self.first_edge_N, torch.arange(size, num_edges, size, device=self.src_E.device)
        ).unique()
        atoms = sorted({0, *starts.tolist(), self.num_atoms})
        edges = self.first_edge_N[torch.tensor(atoms, device=self.src_E.device)].tolist()
        return [Block(self, slice(*atoms[i : i + 2]), slice(*edges[i : i + 2])) for i in range(len(atoms) - 1)]


class Swapped:
    """Of each edge the value of the one that leads back, some of them still on their way."""

    def __init__(self, edges: Edges, value_KEF: Tensor) -> None:
        self._edges, self._value_KEF = edges, value_KEF
        self._arrival: Arrival | None = None
        if edges.share is not None:
            *_, exchange = edges.share.reversal
            self._arrival = exchange.start(value_KEF.transpose(0, 1))

    def wait(self) -> Tensor:
        """(K, E, F)."""
        if self._arrival is None:
            return linear_map(self._value_KEF, self._edges.swap, self._edges.swap)
        assert self._edges.share is not None, "what arrives comes from other ranks"
        theirs_e, place_e, _ = self._edges.share.reversal
        found_KEF = torch.cat([self._value_KEF[:, theirs_e], self._arrival.wait().transpose(0, 1)], dim=1)
        return found_KEF[:, place_e]


class Sources:
    """Values of all atoms that a rank's edges begin at, some of them still on their way."""

    def __init__(self, value_KNF: Tensor, share: Share | None) -> None:
        self._own_KNF = value_KNF
        self._arrival: Arrival | None = None if share is None else share.neighbors.start(value_KNF.transpose(0, 1))

    def wait(self) -> Tensor:
        """(K, S, F): the rank's own atoms, then its halo."""
        if self._arrival is None:
            return self._own_KNF
        return torch.cat([self._own_KNF, self._arrival.wait().transpose(0, 1)], dim=1)


class Block:
    """All incoming edges of some consecutive atoms."""

    def __init__(self, edges: Edges, atoms: slice, block: slice) -> None:
        self.atoms = atoms
        self.edges = block
        self.dst_b = edges.dst_E[block]
        self.src_b = edges.src_E[block]
        device = self.src_b.device
        size = block.stop - block.start
        self._ends_2b = torch.stack([self.dst_b, self.src_b + edges.num_atoms], dim=1).flatten()
        self._first_of_pair_b = torch.arange(0, 2 * size, 2, device=device)
        self._own_b = torch.arange(size, device=device)
        self._first_edge_n = edges.first_edge_N[atoms] - block.start
        self._by_source = self._sorted_by_source() if device.type == "cpu" and size else None

    def _sorted_by_source(self) -> tuple[slice, Tensor, Tensor] | None:
        """The atoms from the first to the last source, the edges sorted by source, where each source's edges begin."""
        src_b = self.src_b.numpy()
        first, last = int(src_b.min()), int(src_b.max())
        if last - first >= min(len(src_b), 2**16):
            return None
        offset_b = (src_b - first).astype(np.uint16)  # radix sort
        order_b = torch.from_numpy(np.argsort(offset_b, kind="stable"))
        count = np.bincount(offset_b)
        return slice(first, last + 1), order_b, torch.from_numpy(np.cumsum(count) - count)

    def add_ends(self, table_MF: Tensor) -> Tensor:
        """Rows of both atoms of each edge added, (b, F), from a table of all destinations, then all sources."""
        return F.embedding_bag(self._ends_2b, table_MF, self._first_of_pair_b, mode="sum")

    def sum_rows(self, table_MF: Tensor, index_b: list[Tensor], weight_b: list[Tensor]) -> Tensor:
        """Weighted sums of rows of a table, one sum an edge, (b, F)."""
        index, weight = torch.stack(index_b, dim=1), torch.stack(weight_b, dim=1).to(table_MF.dtype)
        return F.embedding_bag(index, table_MF, mode="sum", per_sample_weights=weight)

    def add_to_src(self, total_NF: Tensor, value_bF: Tensor) -> None:
        """Add the rows of each atom's outgoing edges to its total."""
        if self._by_source is None:
            total_NF.index_add_(0, self.src_b, value_bF.to(total_NF.dtype))
        else:
            atoms, order_b, first = self._by_source
            total_NF[atoms] += F.embedding_bag(order_b, value_bF, first, mode="sum")

    def sum_to_dst(self, value_bF: Tensor, weight_b: Tensor | None = None) -> Tensor:
        """Sum the (weighted) rows of each atom's edges, (n, F)."""
        return F.embedding_bag(self._own_b, value_bF, self._first_edge_n, mode="sum", per_sample_weights=weight_b)
