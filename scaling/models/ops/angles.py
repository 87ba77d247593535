"""Sums over the angles between an atom's edges, without ever listing triplets.

Triplet models sum, for each edge a of an atom, over its other edges b: sum_b P_l(cos angle(a, b)) z_b. By the addition
theorem P_l(a . b) = sum_m Y_lm(a) Y_lm(b), so that

    sum_{b != a} P_l(a . b) z_b = sum_m Y_lm(a) [ sum_b Y_lm(b) z_b ] - z_a,

whose bracket is one sum an atom: work and memory grow with edges, not with triplets, of which there are some fifty
times as many in a solid. Edges that lead to images of one atom are edges like any others; an edge meets all but itself.

Shape suffixes: K 1 (values) or 2 (values and their tangents), E edges, P places of padded edges, n atoms of a group, D
places of an atom, S degrees, M = S^2 spherical harmonics, W = S (2 S - 1) with those of each degree m filled up by
zeros, T features.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from scaling.models.ops.edges import Edges
from scaling.models.ops.tangents import exact, product


class Angles:
    """The angles between the edges of each atom.

    Inside, all degrees have as many harmonics as the last one, zeros for those that they lack, so that one batched
    product serves them all. Products are taken in the harmonics' precision also under autocast: the terms of a sum, and
    the edge's own that is taken out of it, must cancel for energies not to depend on how a structure is turned.

    Args:
        harmonics_KEM: of each edge's direction (`scaling/models/ops/bases.py`).
    """

    def __init__(self, harmonics_KEM: Tensor, edges: Edges, num_spherical: int) -> None:
        self.num_spherical = num_spherical
        self.dtype = harmonics_KEM.dtype
        self._neighborhoods = edges.neighborhoods
        most = 2 * num_spherical - 1
        columns = torch.full((num_spherical, most), num_spherical**2)  # a column of zeros
        for degree in range(num_spherical):
            columns[degree, : 2 * degree + 1] = torch.arange(degree**2, (degree + 1) ** 2)
        spread_KEW = F.pad(harmonics_KEM, (0, 1)).index_select(2, columns.flatten().to(harmonics_KEM.device))
        self._padded = self._neighborhoods.pad(spread_KEW)

    def _by_degree(self, harmonics_KnDW: Tensor) -> Tensor:
        """(K, n, S, D, 2 S - 1)."""
        return harmonics_KnDW.unflatten(3, (self.num_spherical, -1)).transpose(2, 3)

    def sum_each(self, z_KET: Tensor) -> Tensor:
        """(K, S, E, T): for every degree, the sums over each edge's angles of z (K, E, T)."""
        z_KET = z_KET.to(self.dtype)
        found = []
        with exact(z_KET):
            for z_KnDT, harmonics_KnDW in zip(self._neighborhoods.pad(z_KET), self._padded, strict=True):
                sums_KnWT = product(_sum, harmonics_KnDW, z_KnDT)
                sums_KnSmT = sums_KnWT.unflatten(2, (self.num_spherical, -1))
                found.append(product(torch.matmul, self._by_degree(harmonics_KnDW), sums_KnSmT).transpose(1, 2))
        if not found:
            return z_KET[:, None].expand(-1, self.num_spherical, -1, -1)
        return self._neighborhoods.unpad(found) - z_KET[:, None]

    def sum_all(self, z_KSET: Tensor) -> Tensor:
        """(K, E, T): the sums over each edge's angles of z (K, S, E, T), which differs by degree, over all degrees."""
        z_KSET = z_KSET.to(self.dtype)
        found = []
        with exact(z_KSET):
            for z_KSnDT, harmonics_KnDW in zip(self._neighborhoods.pad(z_KSET), self._padded, strict=True):
                sums_KnSmT = product(_sum, self._by_degree(harmonics_KnDW), z_KSnDT.transpose(1, 2))
                found.append(product(torch.matmul, harmonics_KnDW, sums_KnSmT.flatten(2, 3)))
        if not found:
            return z_KSET.sum(1)
        return self._neighborhoods.unpad(found) - z_KSET.sum(1)


def _sum(harmonics_Dm: Tensor, z_DT: Tensor) -> Tensor:
    """(..., m, T): the sum over each atom's edges."""
    return harmonics_Dm.mT @ z_DT
