"""What a layer may know of an edge: its length, its direction, and sums over an atom's edges.

Shape suffixes: N atoms, E edges, F features, R radial functions, 3 Cartesian.
"""

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable


class RadialBasis(nn.Module):
    """Gaussians of the edge length times the envelope, and the envelope itself; all are zero at the cut-off.

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
        """Returns the basis (E, R) and the envelope (E, 1)."""
        angle_E1 = length_E1 * (math.pi / self.cutoff_ang)
        radial_ER = _GaussianTimesEnvelope.apply(length_E1, self.centres_R, self.inverse_width, self.cutoff_ang)
        return radial_ER, 0.5 + 0.5 * torch.cos(angle_E1)


class _GaussianTimesEnvelope(torch.autograd.Function):
    """g(d) f(d) with analytic derivatives: forces differentiate it twice, which autograd does four times slower.

    g = exp(-z^2 / 2), z = w (d - c); f = (1 + cos(pi d / d_cut)) / 2.
    """

    @staticmethod
    def forward(ctx: Any, length_E1: Tensor, centres_R: Tensor, w: float, cutoff: float) -> Tensor:
        z_ER = (length_E1 - centres_R) * w
        gauss_ER = torch.exp(z_ER * z_ER * -0.5)
        ctx.save_for_backward(length_E1, z_ER, gauss_ER)
        ctx.w, ctx.k = w, math.pi / cutoff
        return gauss_ER * (0.5 + 0.5 * torch.cos(length_E1 * ctx.k))

    @staticmethod
    def backward(ctx: Any, grad_ER: Tensor) -> Any:
        return _GaussianTimesEnvelopeSlope.apply(grad_ER, *ctx.saved_tensors, ctx.w, ctx.k), None, None, None


class _GaussianTimesEnvelopeSlope(torch.autograd.Function):
    """The gradient with respect to d, itself differentiable with respect to d and the incoming gradient."""

    @staticmethod
    def forward(
        ctx: Any, grad_ER: Tensor, length_E1: Tensor, z_ER: Tensor, gauss_ER: Tensor, w: float, k: float
    ) -> Tensor:
        f_E1 = 0.5 + 0.5 * torch.cos(length_E1 * k)
        df_E1 = torch.sin(length_E1 * k) * (-0.5 * k)
        slope_ER = gauss_ER * (df_E1 - z_ER * (f_E1 * w))  # g f' + g' f
        ctx.save_for_backward(grad_ER, z_ER, gauss_ER, slope_ER, f_E1, df_E1)
        ctx.w, ctx.k = w, k
        return (grad_ER * slope_ER).sum(dim=1, keepdim=True)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_E1: Tensor) -> Any:
        grad_ER, z_ER, gauss_ER, slope_ER, f_E1, df_E1 = ctx.saved_tensors
        w, k = ctx.w, ctx.k
        constant_E1 = (0.5 - f_E1) * k**2 - f_E1 * w**2  # f'' - w^2 f
        bend_ER = gauss_ER * (constant_E1 + z_ER * (z_ER * (f_E1 * w**2) - df_E1 * (2 * w)))  # g f'' + 2 g' f' + g'' f
        return grad_E1 * slope_ER, grad_E1 * (grad_ER * bend_ER).sum(dim=1, keepdim=True), None, None, None, None


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
