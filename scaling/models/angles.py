"""Sums over the angles between an atom's edges, without ever listing triplets.

Triplet models sum, for each edge a of an atom, over its other edges b: sum_b P_l(cos angle(a, b)) z_b. By the addition
theorem P_l(a . b) = sum_m Y_lm(a) Y_lm(b), so that

    sum_{b != a} P_l(a . b) z_b = sum_m Y_lm(a) [ sum_b Y_lm(b) z_b ] - z_a,

whose bracket is one sum an atom: work and memory grow with edges, not with triplets, of which there are some fifty
times as many in a solid. Edges that lead to images of one atom are edges like any others; an edge meets all but itself.

Shape suffixes: K 1 (values) or 2 (values and their tangents), E edges, P places of padded edges, n atoms of a group, D
places of an atom, S degrees, M = S^2 spherical harmonics, T features.
"""

import torch
from torch import Tensor

from scaling.models.edges import Edges
from scaling.models.tangents import product


class Angles:
    """The angles between the edges of each atom.

    Args:
        harmonics_KEM: of each edge's direction (`scaling/models/bases.py`).
    """

    def __init__(self, harmonics_KEM: Tensor, edges: Edges, num_spherical: int) -> None:
        self.num_spherical = num_spherical
        self._neighborhoods = edges.neighborhoods
        sizes = [2 * degree + 1 for degree in range(num_spherical)]
        self._padded = [group.split(sizes, dim=-1) for group in self._neighborhoods.pad(harmonics_KEM)]

    def sum_each(self, z_KET: Tensor) -> Tensor:
        """(K, S, E, T): for every degree, the sums over each edge's angles of z (K, E, T)."""
        summed = []
        for z_KnDT, harmonics in zip(self._neighborhoods.pad(z_KET), self._padded, strict=True):
            sums = [product(_gather, y, z_KnDT) for y in harmonics]
            summed.append(torch.stack([product(torch.matmul, y, a) for y, a in zip(harmonics, sums, strict=True)], 1))
        if not summed:
            return z_KET[:, None].expand(-1, self.num_spherical, -1, -1)
        return self._neighborhoods.unpad(summed) - z_KET[:, None]

    def sum_all(self, z_KSET: Tensor) -> Tensor:
        """(K, E, T): the sums over each edge's angles of z (K, S, E, T), which differs by degree, over all degrees."""
        summed = []
        for z_KSnDT, harmonics in zip(self._neighborhoods.pad(z_KSET), self._padded, strict=True):
            sums = [product(_gather, y, z) for y, z in zip(harmonics, z_KSnDT.unbind(1), strict=True)]
            summed.append(product(torch.matmul, torch.cat(harmonics, -1), torch.cat(sums, -2)))
        if not summed:
            return z_KSET.sum(1)
        return self._neighborhoods.unpad(summed) - z_KSET.sum(1)


def _gather(harmonics_nDm: Tensor, z_nDT: Tensor) -> Tensor:
    """(n, m, T): the sum over each atom's edges."""
    return harmonics_nDm.transpose(1, 2) @ z_nDT
