"""Functions of an edge's length and direction that triplet models are built on, smooth at the cut-off.

Shape suffixes: E edges, R radial functions, S degrees l = 0 .. S-1, M = S^2 spherical harmonics, 3 Cartesian.
"""

import math
from functools import cache
from itertools import pairwise

import numpy as np
import torch
from scipy.optimize import brentq
from scipy.special import spherical_jn
from torch import Tensor, nn
from torch.nn import functional as F

#: Exponents of the envelope in the two models' published code.
DIMENET_P, GEMNET_P = 6, 5


def envelope(x_E: Tensor, p: int) -> Tensor:
    """u(x) of x = length / cut-off: 1 at 0; at 1 it is 0, with its first and second derivative.

    Source: Gasteiger, Gross, Guennemann, "Directional Message Passing for Molecular Graphs", ICLR 2020, eq. 8.
    """
    a, b, c = -(p + 1) * (p + 2) / 2, p * (p + 2), -p * (p + 1) / 2
    return torch.where(x_E < 1, 1 + x_E**p * (a + x_E * (b + x_E * c)), 0.0)


class BesselBasis(nn.Module):
    """(E, R): sin(n pi x) u(x) / x for n = 1 .. R, with x = length / cut-off; its frequencies are fixed.

    Source: Gasteiger et al., ICLR 2020, eq. 7, less the factor sqrt(2 / cut-off), which the next layer's weights hold.
    """

    def __init__(self, num_radial: int, cutoff_ang: float) -> None:
        super().__init__()
        self.cutoff_ang = cutoff_ang
        frequency_R = math.pi * torch.arange(1, num_radial + 1, dtype=torch.float64, device="cpu")
        self.register_buffer("frequency_R", frequency_R, persistent=False)

    def forward(self, length_E: Tensor) -> Tensor:
        """Returns the basis at these lengths, angstrom."""
        x_E = length_E / self.cutoff_ang
        frequency_R = self.frequency_R.to(x_E.dtype)
        return torch.sin(x_E[:, None] * frequency_R) * (envelope(x_E, DIMENET_P) / x_E)[:, None]


class GaussianBasis(nn.Module):
    """(E, R): exp(-((x - c_n) (R - 1))^2 / 2) u(x) at R centres c_n from 0 to 1, with x = length / cut-off.

    Source: Schuett et al., "SchNet", J. Chem. Phys. 148, 241722 (2018), eq. 6, as GemNet takes it on OC20.
    """

    def __init__(self, num_radial: int, cutoff_ang: float) -> None:
        super().__init__()
        self.cutoff_ang = cutoff_ang
        self.register_buffer("centre_R", torch.linspace(0, 1, num_radial, device="cpu"), persistent=False)

    def forward(self, length_E: Tensor) -> Tensor:
        """Returns the basis at these lengths, angstrom."""
        x_E = length_E / self.cutoff_ang
        z_ER = (x_E[:, None] - self.centre_R) * (len(self.centre_R) - 1)
        return torch.exp(-0.5 * z_ER.square()) * envelope(x_E, GEMNET_P)[:, None]


class SphericalBesselBasis(nn.Module):
    """(S, E, R): N_ln j_l(z_ln x) u(x) / x sqrt((2 l + 1) / 4 pi), with z_ln the n-th zero of j_l, N_ln its norm.

    The radial part of the basis of lengths and angles; the angular part is the Legendre polynomial P_l. Computed in
    double precision, in which the recurrence l -> l + 1 keeps all digits of single precision.

    Source: Gasteiger et al., ICLR 2020, eq. 6; recurrence: Abramowitz and Stegun, eq. 10.1.19.
    """

    def __init__(self, num_spherical: int, num_radial: int, cutoff_ang: float) -> None:
        super().__init__()
        self.cutoff_ang = cutoff_ang
        zero_SR = spherical_bessel_zeros(num_spherical, num_radial)
        degree_S1 = np.arange(num_spherical)[:, None]
        norm_SR = math.sqrt(2) / np.abs(spherical_jn(degree_S1 + 1, zero_SR))
        norm_SR *= np.sqrt((2 * degree_S1 + 1) / (4 * math.pi))
        self.register_buffer("zero_SR", torch.tensor(zero_SR, device="cpu"), persistent=False)
        self.register_buffer("norm_SR", torch.tensor(norm_SR, device="cpu"), persistent=False)

    def forward(self, length_E: Tensor) -> Tensor:
        """Returns the basis at these lengths, angstrom, in their precision."""
        x_E = length_E.double() / self.cutoff_ang
        z_SER = self.zero_SR.double()[:, None] * x_E[:, None]
        sine_SER, inverse_SER = torch.sin(z_SER), 1 / z_SER
        degrees = [sine_SER[:1] * inverse_SER[:1]]
        before, now = sine_SER * inverse_SER, (sine_SER * inverse_SER - torch.cos(z_SER)) * inverse_SER
        for degree in range(1, len(z_SER)):
            degrees.append(now[degree : degree + 1])
            before, now = now, (2 * degree + 1) * inverse_SER * now - before
        factor_E1 = (envelope(x_E, DIMENET_P) / x_E)[:, None]
        return (torch.cat(degrees) * self.norm_SR.double()[:, None] * factor_E1).to(length_E.dtype)


@cache
def spherical_bessel_zeros(num_spherical: int, num_radial: int) -> np.ndarray:
    """(S, R) the first positive zeros of j_0 .. j_{S-1}; those of j_l lie between neighbouring ones of j_{l-1}."""
    zeros = math.pi * np.arange(1, num_radial + num_spherical)
    rows = [zeros[:num_radial]]
    for degree in range(1, num_spherical):
        zeros = np.array([brentq(lambda x, n=degree: spherical_jn(n, x), a, b, xtol=1e-14) for a, b in pairwise(zeros)])
        rows.append(zeros[:num_radial])
    return np.array(rows)


def spherical_harmonics(unit_E3: Tensor, num_spherical: int) -> Tensor:
    """(E, M) real spherical harmonics up to degree S - 1, scaled so that sum_m Y_lm(a) Y_lm(b) = P_l(a . b).

    Rows l^2 .. (l + 1)^2 are those of degree l; recurrences in Cartesian coordinates, without a pole.

    Source: addition theorem and recurrence of associated Legendre functions, DLMF 14.30.9 and 14.10.3.
    """
    x_E, y_E, z_E1 = unit_E3[:, 0], unit_E3[:, 1], unit_E3[:, 2:]
    turns = [torch.ones_like(x_E) + 0j]  # (x + i y)^m
    for _ in range(1, num_spherical):
        turns.append(turns[-1] * torch.complex(x_E, y_E))
    turn_Em = torch.stack(turns, dim=1)
    cosine_Em, sine_Em = turn_Em.real, turn_Em.imag
    # P_l^m over sin(theta)^m for m = 0 .. l, from those of l - 1 and l - 2
    legendre_Em, before_Em = torch.ones_like(z_E1), z_E1[:, :0]
    rows = [legendre_Em]
    for l in range(1, num_spherical):  # noqa: E741 - the degree is called l
        m = torch.arange(l, dtype=z_E1.dtype, device=z_E1.device)
        lower_Em = (2 * l - 1) / (l - m) * z_E1 * legendre_Em
        lower_Em = lower_Em - F.pad((l + m[:-1] - 1) / (l - m[:-1]) * before_Em, (0, 1))
        highest_E1 = torch.full_like(z_E1, math.prod(range(1, 2 * l, 2)))
        before_Em, legendre_Em = legendre_Em, torch.cat([lower_Em, highest_E1], dim=1)
        norm = [math.sqrt((2 if m else 1) * math.factorial(l - m) / math.factorial(l + m)) for m in range(l + 1)]
        scaled_Em = legendre_Em * legendre_Em.new_tensor(norm)
        rows += [scaled_Em * cosine_Em[:, : l + 1], scaled_Em[:, 1:] * sine_Em[:, 1 : l + 1]]
    return torch.cat(rows, dim=1)
