"""One rank's share of a batch of graphs.

Shape suffixes: N atoms of the batch, E edges of the batch, n, e those of this rank, h atoms of others that it sees.
"""

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from scaling.parallel.exchange import Exchange
from scaling.parallel.groups import Group

#: What an atom costs besides its edges, in edges.
COST_OF_ATOM = 3


@dataclass(frozen=True)
class Share:
    """Consecutive atoms and the edges that end at them.

    atoms, edges: which of the batch's. seen_h: atoms of other ranks where some of its edges begin, by rank.
    src_e, dst_e: the ends of its edges, counted from its first atom, seen ones after its own. neighbors: brings the
    features of the seen atoms. src_E, dst_E, shift_E3: all edges; owner_N: the rank of every atom.
    """

    group: Group
    atoms: slice
    edges: slice
    seen_h: Tensor
    src_e: Tensor
    dst_e: Tensor
    neighbors: Exchange
    src_E: Tensor
    dst_E: Tensor
    shift_E3: Tensor
    owner_N: Tensor

    @cached_property
    def reversal(self) -> tuple[Tensor, Tensor, Tensor, Exchange]:
        """For each of its edges the one in the other direction.

        Returns:
            which of its edges have theirs on this rank, and which those are; which have them elsewhere, in the order
            in which the exchange brings them; and the exchange.
        """
        reverse_E = reversed_edges(self.src_E, self.dst_E, self.shift_E3, len(self.owner_N))
        holder_E, other_E = self.owner_N[self.dst_E], self.owner_N[self.src_E]
        me, first = self.group.rank, self.edges.start
        own_e = other_E[self.edges]
        here_x = (own_e == me).nonzero().squeeze(1)
        sent = [reverse_E[(holder_E == q) & (other_E == me)] - first for q in range(self.group.size) if q != me]
        num_sent = [0 if q == me else int(((holder_E == q) & (other_E == me)).sum()) for q in range(self.group.size)]
        asked = [(own_e == q).nonzero().squeeze(1) for q in range(self.group.size) if q != me]
        num_received = [0 if q == me else int((own_e == q).sum()) for q in range(self.group.size)]
        exchange = Exchange(torch.cat(sent), num_sent, num_received, self.group)
        return here_x, reverse_E[self.edges][here_x] - first, torch.cat(asked), exchange

    def to(self, device: torch.device) -> "Share":
        """The same share on another device."""
        moved = {
            key: value.to(device) if isinstance(value, Tensor | Exchange) else value
            for key, value in vars(self).items()
        }
        moved.pop("reversal", None)
        return Share(**moved)


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
    seen = []
    for rank in range(group.size):
        sources = src[first_edge[cuts[rank]] : first_edge[cuts[rank + 1]]]
        seen.append(np.unique(sources[(sources < cuts[rank]) | (sources >= cuts[rank + 1])]))
    me, (start, stop) = group.rank, cuts[group.rank : group.rank + 2]
    asked = [s[(s >= start) & (s < stop)] - start for s in seen]
    edges = slice(int(first_edge[start]), int(first_edge[stop]))
    place = np.full(num_atoms, -1)
    place[start:stop] = np.arange(stop - start)
    place[seen[me]] = stop - start + np.arange(len(seen[me]))

    def tensor(values: np.ndarray) -> Tensor:
        return torch.as_tensor(values, dtype=torch.long, device=device)

    return Share(
        group=group,
        atoms=slice(int(start), int(stop)),
        edges=edges,
        seen_h=tensor(seen[me]),
        src_e=tensor(place[src[edges]]),
        dst_e=tensor(place[dst[edges]]),
        neighbors=Exchange(
            tensor(np.concatenate(asked)),
            [len(rows) for rows in asked],
            np.bincount(owner[seen[me]], minlength=group.size).tolist(),
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
        ValueError: if there is none for some edge.
    """
    # A number that changes sign with the translation tells the images of a pair apart.
    image_E = shift_E3.double() @ shift_E3.new_tensor([1.0, math.sqrt(2), math.sqrt(3)], dtype=torch.float64)
    there = _sorted(dst_E * num_atoms + src_E, image_E)
    back = _sorted(src_E * num_atoms + dst_E, -image_E)
    reverse_E = torch.empty_like(there)
    reverse_E[back] = there
    is_found = (src_E[reverse_E] == dst_E) & (dst_E[reverse_E] == src_E)
    if not bool((is_found & (shift_E3[reverse_E] == -shift_E3).all(1)).all()):
        raise ValueError("an edge has no edge back: the list of neighbours must be symmetric")
    return reverse_E


def _sorted(pair_E: Tensor, image_E: Tensor) -> Tensor:
    """The order of the edges by pair of atoms, then by image."""
    order_E = image_E.argsort(stable=True)
    return order_E[pair_E[order_E].argsort(stable=True)]
