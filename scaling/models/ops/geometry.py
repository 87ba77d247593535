"""What a layer may know of an edge: its length and its direction.

Shape suffixes: K 1 (values) or 2 (values and their tangents: derivatives along a direction of the positions), N atoms,
E edges, R radial functions, 3 Cartesian.
"""

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from scaling.models.ops.edges import Edges


class RadialBasis(nn.Module):
    """Gaussians of the edge length times the envelope, and the envelope itself; all are zero at the cut-off.

    g f, g = exp(-z^2 / 2), z = w (d - c);  f = (1 + cos(pi d / d_cut)) / 2

    Source: Schuett et al., "SchNet", J. Chem. Phys. 148, 241722 (2018), eq. 6; envelope: Behler, J. Chem. Phys. 134,
    074106 (2011), eq. 4.
    """

    SHORTEST_ANG = 0.7

    def __init__(self, num_radial: int, cutoff_ang: float) -> None:
        super().__init__()
        self.cutoff_ang = cutoff_ang
        first = min(self.SHORTEST_ANG, cutoff_ang / 2)
        self.inverse_width = (num_radial - 1) / (cutoff_ang - first)
        self.register_buffer("centres_R", torch.linspace(first, cutoff_ang, num_radial, device="cpu"), persistent=False)

    def forward(self, length_E: Tensor) -> tuple[Tensor, Tensor]:
        """Returns the basis (R, E) and the envelope (E,)."""
        return _Basis.apply(self, length_E)  # type: ignore[no-any-return]

    def values_and_slopes(self, length_E: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """The basis (R, E), the envelope (E,), and their derivatives with respect to the length."""
        k, w = math.pi / self.cutoff_ang, self.inverse_width
        z_RE = (length_E - self.centres_R[:, None]) * w
        gauss_RE = torch.exp(z_RE * z_RE * -0.5)
        f_E = 0.5 + 0.5 * torch.cos(length_E * k)
        df_E = torch.sin(length_E * k) * (-0.5 * k)
        return gauss_RE * f_E, f_E, gauss_RE * (df_E - z_RE * (f_E * w)), df_E


class _Basis(torch.autograd.Function):
    """The analytic derivative, in a few steps where autograd takes many."""

    @staticmethod
    def forward(ctx: Any, basis: RadialBasis, length_E: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        radial_RE, envelope_E, *slopes = basis.values_and_slopes(length_E)
        ctx.save_for_backward(*slopes)
        return radial_RE, envelope_E

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, radial_grad_RE: Tensor, envelope_grad_E: Tensor) -> Any:  # type: ignore[override]
        slope_RE, envelope_slope_E = ctx.saved_tensors
        return None, (radial_grad_RE * slope_RE).sum(dim=0) + envelope_grad_E * envelope_slope_E


@dataclass(frozen=True)
class EdgeGeometry:
    """The geometry of a batch of graphs.

    r_KE3: vectors from destination to source, angstrom. unit_KE3: their directions. radial_KRE, envelope_KE: functions
    of their lengths.
    """

    edges: Edges
    cutoff_ang: float
    r_KE3: Tensor
    unit_KE3: Tensor
    radial_KRE: Tensor
    envelope_KE: Tensor

    @classmethod
    def of(cls, r_KE3: Tensor, edges: Edges, basis: RadialBasis) -> "EdgeGeometry":
        """Compute directions and radial functions once for all layers."""
        r_E3 = r_KE3[0]
        length_E = r_E3.square().sum(dim=1).sqrt()
        unit_E3 = r_E3 / length_E[:, None]
        if len(r_KE3) == 1:
            radial_RE, envelope_E = basis(length_E)
            made = unit_E3[None], radial_RE[None], envelope_E[None]
            return cls(edges, basis.cutoff_ang, r_KE3, *made)
        dr_E3 = r_KE3[1]
        dlength_E = (unit_E3 * dr_E3).sum(dim=1)
        dunit_E3 = (dr_E3 - unit_E3 * dlength_E[:, None]) / length_E[:, None]
        radial_RE, envelope_E, radial_slope_RE, envelope_slope_E = basis.values_and_slopes(length_E)
        return cls(
            edges,
            basis.cutoff_ang,
            r_KE3,
            torch.stack([unit_E3, dunit_E3]),
            torch.stack([radial_RE, radial_slope_RE * dlength_E]),
            torch.stack([envelope_E, envelope_slope_E * dlength_E]),
        )

    def moved_square_distance(self, u_KN3: Tensor) -> Tensor:
        """(K, E): how much the squared edge length has changed through displacements u (K, S, 3), over cutoff^2."""
        du_E3, *tangent = (self.edges.differences(u_N3) for u_N3 in u_KN3.unbind())
        r_E3 = self.r_KE3[0]
        change = [(du_E3 * (2 * r_E3 + du_E3)).sum(dim=1)]
        for ddu_E3 in tangent:
            change.append(2 * (ddu_E3 * (r_E3 + du_E3) + du_E3 * self.r_KE3[1]).sum(dim=1))
        return torch.stack(change) / self.cutoff_ang**2
