"""What a layer may know of an edge: its length, its direction, and sums over an atom's edges.

Shape suffixes: N atoms, E edges, F features, R radial functions, 3 Cartesian.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn


class RadialBasis(nn.Module):
    """Gaussians of the edge length times the envelope, (E,) -> (E, R).

    Source: Schuett et al., "SchNet", J. Chem. Phys. 148, 241722 (2018), eq. 6; envelope: Behler, J. Chem. Phys. 134,
    074106 (2011), eq. 4.
    """

    SHORTEST_ANG = 0.7

    def __init__(self, num_radial: int, cutoff_ang: float) -> None:
        super().__init__()
        self.cutoff_ang = cutoff_ang
        centres_R = torch.linspace(min(self.SHORTEST_ANG, cutoff_ang / 2), cutoff_ang, num_radial)
        self.inverse_width = float(1 / (centres_R[1] - centres_R[0]))
        self.register_buffer("centres_R", centres_R, persistent=False)

    def forward(self, length_E1: Tensor) -> tuple[Tensor, Tensor]:
        """Returns the basis (E, R) and the envelope (E, 1); both are zero at the cut-off."""
        envelope_E1 = 0.5 + 0.5 * torch.cos(length_E1 * (math.pi / self.cutoff_ang))
        scaled_ER = (length_E1 - self.centres_R) * self.inverse_width
        return torch.exp(-0.5 * scaled_ER * scaled_ER) * envelope_E1, envelope_E1


def at_least_fp32(value: Tensor) -> Tensor:
    """Under autocast, energies and forces are still summed in fp32."""
    return value.to(torch.promote_types(value.dtype, torch.float32))


@dataclass(frozen=True)
class EdgeGeometry:
    """The edges of a batch of graphs, sorted by destination.

    r_E3: vectors from destination to source, angstrom. unit_E3: their directions. length_E1: their lengths.
    """

    src_E: Tensor
    dst_E: Tensor
    num_atoms: int
    cutoff_ang: float
    r_E3: Tensor
    unit_E3: Tensor
    length_E1: Tensor
    radial_ER: Tensor
    envelope_E1: Tensor

    @classmethod
    def of(cls, r_E3: Tensor, src_E: Tensor, dst_E: Tensor, *, num_atoms: int, basis: RadialBasis) -> "EdgeGeometry":
        """Compute lengths, directions and radial functions once for all layers."""
        length_E1 = r_E3.square().sum(dim=1, keepdim=True).sqrt()
        radial_ER, envelope_E1 = basis(length_E1)
        unit_E3 = r_E3 / length_E1
        return cls(src_E, dst_E, num_atoms, basis.cutoff_ang, r_E3, unit_E3, length_E1, radial_ER, envelope_E1)

    def sum_to_dst(self, value_EF: Tensor) -> Tensor:
        """Sum edge values (E, F) over each atom's incoming edges, (N, F)."""
        return value_EF.new_zeros(self.num_atoms, value_EF.shape[1]).index_add(0, self.dst_E, value_EF)

    def moved_square_distance(self, u_N3: Tensor) -> Tensor:
        """(E, 1): how much the squared edge length has changed through the displacements u (N, 3), over cutoff^2."""
        du_E3 = u_N3.index_select(0, self.src_E) - u_N3.index_select(0, self.dst_E)
        change_E1 = (du_E3 * (2 * self.r_E3 + du_E3)).sum(dim=1, keepdim=True)
        return change_E1 / self.cutoff_ang**2
