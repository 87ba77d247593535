"""From atom features to energies and forces. Shape suffixes: N atoms, E edges, G graphs, F features, 3 Cartesian."""

import math

from torch import Tensor, nn
from torch.nn import functional as F

from scaling.models.geometry import EdgeGeometry, at_least_fp32
from scaling.models.linear import linear

#: Predictions begin below the size of the labels, so that the first steps need not unlearn them.
OUTPUT = 0.3


class EnergyHead(nn.Module):
    """Energy of each structure: a sum over its atoms, so that energies are extensive."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.hidden = linear(width, width)
        self.out = linear(width, 1, gain=OUTPUT, bias=False)

    def forward(self, h_NF: Tensor, graph_N: Tensor, num_graphs: int) -> Tensor:
        """Returns (G,); graph_N: the graph of each atom."""
        energy_N = at_least_fp32(self.out(F.silu(self.hidden(h_NF))).squeeze(1))
        return energy_N.new_zeros(num_graphs).index_add(0, graph_N, energy_N)


class DirectForceHead(nn.Module):
    """Equivariant forces without a derivative: each edge pulls along its direction.

    Source: the coordinate update of Satorras et al. 2021, eq. 4, read as a force. Not a gradient of the energy.
    """

    def __init__(self, width: int, num_radial: int) -> None:
        super().__init__()
        self.atom_in = linear(width, 2 * width)
        self.radial_in = linear(num_radial, width, gain=math.sqrt(num_radial), bias=False)
        self.out = linear(width, 1, gain=OUTPUT, bias=False)

    def forward(self, h_NF: Tensor, geometry: EdgeGeometry) -> Tensor:
        """Returns (N, 3)."""
        dst_NF, src_NF = self.atom_in(h_NF).chunk(2, dim=1)
        edge_EF = (
            self.radial_in(geometry.radial_ER)
            + dst_NF.index_select(0, geometry.dst_E)
            + src_NF.index_select(0, geometry.src_E)
        )
        pull_E1 = self.out(F.silu(edge_EF)) * geometry.envelope_E1
        return geometry.sum_to_dst(at_least_fp32(pull_E1 * geometry.unit_E3))
