"""From atom features to energies and forces.

Shape suffixes: K 1 (values) or 2 (values and their tangents), N atoms, G graphs, F features, 3 Cartesian.
"""

import torch
from torch import Tensor, nn

from scaling.models.ops import EdgeGeometry, Linear, MessageNet, silu

#: Predictions begin below the size of the labels, so that the first steps need not unlearn them.
OUTPUT = 0.3


class EnergyHead(nn.Module):
    """Energies of atoms, of which a structure's energy is the sum, so that energies are extensive."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.hidden = Linear(width, width)
        self.out = Linear(width, 1, gain=OUTPUT, bias=False)

    def forward(self, h_KNF: Tensor, _geometry: EdgeGeometry) -> Tensor:
        """Returns (K, N), what each atom adds to its structure's energy."""
        return self.out(silu(self.hidden(h_KNF))).squeeze(2)  # type: ignore[no-any-return]


class DirectForceHead(nn.Module):
    """Equivariant forces without a derivative: each edge pulls along its direction.

    Source: the coordinate update of Satorras et al. 2021, eq. 4, read as a force. Not a gradient of the energy.
    """

    def __init__(self, width: int, num_radial: int) -> None:
        super().__init__()
        self.atom_in = Linear(width, 2 * width)
        self.pulls = MessageNet(width, num_radial, second=False, sums=False, move_gain=OUTPUT)

    def forward(self, h_KNF: Tensor, geometry: EdgeGeometry) -> Tensor:
        """Returns (K, N, 3)."""
        g = geometry
        dst_KNF, src_KNF = self.atom_in(h_KNF).chunk(2, dim=2)
        ends_KMF = torch.cat([dst_KNF, g.edges.sources(src_KNF).wait()], dim=1)
        return self.pulls(ends_KMF, g.radial_KRE, None, g.envelope_KE, g.unit_KE3, g.edges)[1]  # type: ignore[no-any-return]
