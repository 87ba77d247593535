"""The edges of each atom side by side, for batched products.

Shape suffixes: N atoms, E edges, P places of edges that are padded, n atoms of a group with D places each, T features.
"""

import numpy as np
import torch
from torch import Tensor

from scaling.models.ops.transpose import linear_map

#: Atoms share a group as long as the smallest has this part of the largest one's edges: what padding may waste.
FULLNESS = 0.6


class Neighborhoods:
    """The incoming edges of each atom side by side, in groups of atoms with about as many, padded with zeros.

    Args:
        dst_E: atom where each edge ends, sorted. first_edge_N: (N + 1,) where each atom's edges begin.
    """

    def __init__(self, dst_E: Tensor, first_edge_N: Tensor) -> None:
        first_N = first_edge_N.cpu().numpy()
        degree_N = np.diff(first_N)
        order_N = np.argsort(-degree_N, kind="stable")
        order_N = order_N[degree_N[order_N] > 0]
        self.shapes: list[tuple[int, int]] = []
        place_N = np.zeros(len(degree_N), dtype=np.int64)
        start, num_places = 0, 0
        while start < len(order_N):
            most = int(degree_N[order_N[start]])
            is_near = degree_N[order_N[start:]] >= FULLNESS * most
            count = int(is_near.sum())
            place_N[order_N[start : start + count]] = num_places + most * np.arange(count)
            self.shapes.append((count, most))
            start, num_places = start + count, num_places + count * most
        self.num_places = num_places
        dst = dst_E.cpu().numpy()
        place_E = place_N[dst] + np.arange(len(dst)) - first_N[dst]
        self.place_E = torch.from_numpy(place_E).to(dst_E.device)

    def pad(self, value_E: Tensor) -> list[Tensor]:
        """From (..., E, T) to one (..., n, D, T) a group; empty places are zero."""
        flat = linear_map(value_E, self._pad, self._unpad)
        parts = flat.split([n * D for n, D in self.shapes], dim=-2)
        return [part.unflatten(-2, shape) for part, shape in zip(parts, self.shapes, strict=True)]

    def unpad(self, groups: list[Tensor]) -> Tensor:
        """The inverse of `pad`."""
        return linear_map(torch.cat([group.flatten(-3, -2) for group in groups], dim=-2), self._unpad, self._pad)

    def _pad(self, value_E: Tensor) -> Tensor:
        padded = value_E.new_zeros(*value_E.shape[:-2], self.num_places, value_E.shape[-1])
        return padded.index_copy_(-2, self.place_E, value_E)

    def _unpad(self, value_P: Tensor) -> Tensor:
        return value_P.index_select(-2, self.place_E)
