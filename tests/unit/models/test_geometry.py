"""Radial functions and their hand-written derivatives."""

import math

import torch

from scaling.models.geometry import RadialBasis


def test_first_and_second_derivatives_of_the_basis_are_those_of_its_formula():
    basis = RadialBasis(6, 4.0).double()
    length = torch.linspace(0.8, 3.99, 20, dtype=torch.float64)[:, None].requires_grad_()
    assert torch.autograd.gradcheck(lambda d: basis(d)[0], (length,))
    assert torch.autograd.gradgradcheck(lambda d: basis(d)[0], (length,))


def test_basis_is_the_gaussian_times_the_envelope():
    basis = RadialBasis(6, 4.0).double()
    length = torch.linspace(0.8, 4.0, 20, dtype=torch.float64)[:, None]
    envelope = 0.5 + 0.5 * torch.cos(math.pi * length / 4.0)
    gauss = torch.exp(-0.5 * ((length - basis.centres_R) * basis.inverse_width) ** 2)
    torch.testing.assert_close(basis(length)[0], gauss * envelope)
    assert basis(length)[0][-1].abs().max() < 1e-12, "zero at the cut-off"
    assert basis(length)[0][0].abs().max() > 0.5
