"""One rank's share of a batch of graphs.

Shape suffixes: N atoms of the batch, E edges of the batch, n, e those of this rank, h atoms of its halo.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from scaling.errors import DataError
from scaling.parallel.exchange import Exchange
from scaling.parallel.groups import Group

#: What an atom costs besides its edges, in edges: from none (GemNet-XL) over 1 (GemNet-T) to 5 (EGNN), by their FLOPs.
COST_OF_ATOM = 2
#: Lattice translations that differ by less are the same.
FINEST_ANG = 1e-3


@dataclass(frozen=True)
class Share:
    """Consecutive atoms and the edges that end at them.

    atoms, edges: which of the batch's. halo_h: atoms of the halo, by rank.
    src_e, dst_e: the ends of its edges, counted from its first atom, the halo after its own. neighbors: brings the
    features of the halo. src_E, dst_E, shift_E3: all edges; owner_N: the rank of every atom.
    """

    group: Group
    atoms: slice
    edges: slice
    halo_h: Tensor
    src_e: Tensor
    dst_e: Tensor
    neighbors: Exchange
    src_E: Tensor
    dst_E: Tensor
    shift_E3: Tensor
    owner_N: Tensor

    @cached_property
    def reversal(self) -> tuple[Tensor, Tensor, Exchange]:
        """For each of its edges the one in the other direction.

        Returns:
            those on this rank; where each edge's is found, among these and then what the exchange brings; the exchange.
        """
        reverse_E = reversed_edges(self.src_E, self.dst_E, self.shift_E3, len(self.owner_N))
        first, size = self.edges.start, self.group.size
        holder_E, other_E = self.owner_N[self.dst_E], self.owner_N[self.src_E]
        is_here_e = other_E[self.edges] == self.group.rank
        here_e, elsewhere_e = is_here_e.nonzero().squeeze(1), (~is_here_e).nonzero().squeeze(1)
        asked_of_e = other_E[self.edges][elsewhere_e]
        asking_X = ((other_E == self.group.rank) & (holder_E != self.group.rank)).nonzero().squeeze(1)  # by rank
        exchange = Exchange(
            reverse_E[asking_X] - first,
            torch.bincount(holder_E[asking_X], minlength=size).tolist(),
            torch.bincount(asked_of_e, minlength=size).tolist(),
            self.group,
        )
        theirs_e = reverse_E[self.edges][here_e] - first
        place_e = torch.cat([here_e, elsewhere_e[asked_of_e.argsort(stable=True)]]).argsort()
        return theirs_e, place_e, exchange


def divide(src_E: Tensor, dst_E: Tensor, shift_E3: Tensor, num_atoms: int, group: Group) -> Share:
    """This rank's share of a batch; all ranks of the group must be given the same batch.

    Args:
        src_E, dst_E: ends of all edges, sorted by dst_E. shift_E3: lattice translations of their sources.
    """
    device = src_E.device
    src, dst = src_E.cpu().numpy(), dst_E.cpu().numpy()
    first_edge = np.searchsorted(dst, np.arange(num_atoms + 1))
    cuts = _cuts(np.diff(first_edge), group.size)
    owner = np.repeat(np.arange(group.size), np.diff(cuts))
    halos = []
    for rank in range(group.size):
        sources = src[first_edge[cuts[rank]] : first_edge[cuts[rank + 1]]]
        halos.append(np.unique(sources[(sources < cuts[rank]) | (sources >= cuts[rank + 1])]))
    me, (start, stop) = group.rank, cuts[group.rank : group.rank + 2]
    asked = [s[(s >= start) & (s < stop)] - start for s in halos]
    edges = slice(int(first_edge[start]), int(first_edge[stop]))
    place = np.full(num_atoms, -1)
    place[start:stop] = np.arange(stop - start)
    place[halos[me]] = stop - start + np.arange(len(halos[me]))

    def tensor(values: np.ndarray) -> Tensor:
        return torch.as_tensor(values, dtype=torch.long, device=device)

    return Share(
        group=group,
        atoms=slice(int(start), int(stop)),
        edges=edges,
        halo_h=tensor(halos[me]),
        src_e=tensor(place[src[edges]]),
        dst_e=tensor(place[dst[edges]]),
        neighbors=Exchange(
            tensor(np.concatenate(asked)),
            [len(rows) for rows in asked],
            np.bincount(owner[halos[me]], minlength=group.size).tolist(),
            group,
        ),
        src_E=src_E,
        dst_E=dst_E,
        shift_E3=shift_E3,
        owner_N=tensor(owner),
    )


def _cuts(degree_N: np.ndarray, num_shares: int) -> np.ndarray:
    """(shares + 1,) where each share's atoms begin, so that all cost about the same."""
    cost = np.concatenate([[0], np.cumsum(degree_N + COST_OF_ATOM)])
    wanted = cost[-1] * np.arange(1, num_shares) / num_shares
    after = np.searchsorted(cost, wanted)
    nearest = after - (np.abs(cost[np.maximum(after - 1, 0)] - wanted) < np.abs(cost[after] - wanted))
    return np.concatenate([[0], nearest, [len(degree_N)]])


def reversed_edges(src_E: Tensor, dst_E: Tensor, shift_E3: Tensor, num_atoms: int) -> Tensor:
    """(E,) for each edge the one that leads back: the same two atoms, the opposite lattice translation.

    Raises:
        DataError: if there is none for some edge.
    """
    # whole numbers that change sign with the translation separate the images of a pair (checked below)
    step_E3 = (shift_E3 / FINEST_ANG).round().long()
    # not a product of matrices, which CUDA lacks for integers
    image_E = (step_E3 * step_E3.new_tensor([1_000_003, 998_244_353_117, 7_046_029_254_386_353_131])).sum(1)
    there_E, back_E = dst_E * num_atoms + src_E, src_E * num_atoms + dst_E
    reverse_E = torch.empty_like(src_E)
    reverse_E[_sorted(back_E, -image_E)] = _sorted(there_E, image_E)
    is_found = (there_E[reverse_E] == back_E) & (step_E3[reverse_E] == -step_E3).all(dim=1)
    if not bool(is_found.all()):
        edge = int((~is_found).nonzero()[0])
        ends = f"from atom {int(src_E[edge])} to atom {int(dst_E[edge])} of the batch"
        raise DataError(f"the edge {ends} has none that leads back: lists of neighbours must be symmetric")
    return reverse_E


def _sorted(pair_E: Tensor, image_E: Tensor) -> Tensor:
    """The order of the edges by pair of atoms, then by image."""
    order_E = image_E.argsort(stable=True)
    return order_E[pair_E[order_E].argsort(stable=True)]
