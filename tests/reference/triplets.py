"""Triplets listed one by one: what sums over angles are compared with.

Shape suffixes: E edges, W triplets.
"""

import torch
from torch import Tensor

from scaling.models.ops.edges import Edges


def triplets(edges: Edges) -> tuple[Tensor, Tensor]:
    """(W,) the edges k -> j and j -> i of every triplet, sorted by the second.

    k and i may be one atom, where they are different images of it; an edge and its own reversal are no triplet.
    """
    first_N = edges.first_edge_N
    degree_E = (first_N[1:] - first_N[:-1])[edges.src_E]  # edges into the source of each edge
    ji_W = torch.arange(len(edges.src_E)).repeat_interleave(degree_E)
    place_W = torch.arange(len(ji_W)) - (degree_E.cumsum(0) - degree_E)[ji_W]
    kj_W = first_N[edges.src_E[ji_W]] + place_W
    is_kept = kj_W != edges.reverse_E[ji_W]
    return kj_W[is_kept], ji_W[is_kept]
