"""What networks are made of: edges, sums over them and over angles, linear layers, radial functions, tangents."""

from scaling.models.ops.activation import silu
from scaling.models.ops.angles import Angles
from scaling.models.ops.bases import BesselBasis, GaussianBasis, SphericalBesselBasis, spherical_harmonics
from scaling.models.ops.edges import Edges, block_numbers
from scaling.models.ops.geometry import EdgeGeometry, RadialBasis
from scaling.models.ops.linear import AFTER_SILU, Embedding, Linear, normal
from scaling.models.ops.messages import MessageNet
from scaling.models.ops.recompute import recomputed
from scaling.models.ops.tangents import along, constant, exact, product

__all__ = [
    "AFTER_SILU",
    "Angles",
    "BesselBasis",
    "EdgeGeometry",
    "Edges",
    "Embedding",
    "GaussianBasis",
    "Linear",
    "MessageNet",
    "RadialBasis",
    "SphericalBesselBasis",
    "along",
    "block_numbers",
    "constant",
    "exact",
    "normal",
    "product",
    "recomputed",
    "silu",
    "spherical_harmonics",
]
