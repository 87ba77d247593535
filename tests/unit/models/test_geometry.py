"""Radial functions and their hand-written derivatives."""

import math

import torch

from scaling.models.ops.edges import Edges
from scaling.models.ops.geometry import EdgeGeometry, RadialBasis


def test_slopes_of_the_basis_are_those_of_its_formula():
    basis = RadialBasis(6, 4.0).double()
    length = torch.linspace(0.8, 3.99, 20, dtype=torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(basis, (length,))


def test_basis_is_the_gaussian_times_the_envelope():
    basis = RadialBasis(6, 4.0).double()
    length = torch.linspace(0.8, 4.0, 20, dtype=torch.float64)
    envelope = 0.5 + 0.5 * torch.cos(math.pi * length / 4.0)
    gauss = torch.exp(-0.5 * ((length - basis.centres_R[:, None]) * basis.inverse_width) ** 2)
    torch.testing.assert_close(basis(length), (gauss * envelope, envelope))
    assert basis(length)[0][:, -1].abs().max() < 1e-12, "zero at the cut-off"
    assert basis(length)[0][:, 0].abs().max() > 0.5


def test_tangents_of_the_geometry_are_its_derivatives_along_a_direction():
    torch.manual_seed(0)
    basis = RadialBasis(6, 4.0).double()
    edges = Edges(torch.tensor([1, 2, 0, 0]), torch.tensor([0, 0, 1, 2]), 3)
    r_E3, direction_E3 = torch.randn(2, 4, 3, dtype=torch.float64)
    u_KN3 = torch.randn(2, 3, 3, dtype=torch.float64)

    def derived(step: float) -> list[torch.Tensor]:
        geometry = EdgeGeometry.of((r_E3 + step * direction_E3)[None], edges, basis)
        moved = geometry.moved_square_distance((u_KN3[0] + step * u_KN3[1])[None])
        return [geometry.unit_KE3[0], geometry.radial_KRE[0], geometry.envelope_KE[0], moved[0]]

    both = EdgeGeometry.of(torch.stack([r_E3, direction_E3]), edges, basis)
    found = [both.unit_KE3, both.radial_KRE, both.envelope_KE, both.moved_square_distance(u_KN3)]
    for value, ahead, behind in zip(found, derived(1e-6), derived(-1e-6), strict=True):
        torch.testing.assert_close(value[0], (ahead + behind) / 2, atol=1e-9, rtol=1e-7)
        torch.testing.assert_close(value[1], (ahead - behind) / 2e-6, atol=1e-7, rtol=1e-6)
