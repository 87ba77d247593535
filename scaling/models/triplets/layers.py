"""Layers that DimeNet++ and GemNet-T have in common. Shape suffixes as in scaling/models/dimenet/network.py."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from scaling.models.ops import AFTER_SILU, Angles, Edges, Linear, along, product, recomputed, silu, spherical_harmonics
from scaling.models.triplets.config import TripletConfig


@dataclass(frozen=True)
class TripletGeometry:
    """What layers may know of the edges: who they join, directions, angles between them, functions of their lengths.

    radial_KER: the radial basis. spherical_KSER: the radial part of a basis that differs by degree, if there is one.
    """

    edges: Edges
    unit_KE3: Tensor
    angles: Angles
    radial_KER: Tensor
    spherical_KSER: Tensor | None

    @classmethod
    def of(
        cls, r_KE3: Tensor, edges: Edges, *, radial: nn.Module, spherical: nn.Module | None, num_spherical: int
    ) -> "TripletGeometry":
        """Compute all of it once for all layers."""

        def functions(r_E3: Tensor) -> tuple[Tensor, ...]:
            length_E = r_E3.square().sum(dim=1).sqrt()
            unit_E3 = r_E3 / length_E[:, None]
            # bases have nothing that ZeRO-3 could partition; its hooks have no derivative along a direction
            found = unit_E3, radial.forward(length_E), spherical_harmonics(unit_E3, num_spherical)
            return found if spherical is None else (*found, spherical.forward(length_E))

        unit_KE3, radial_KER, harmonics_KEM, *rest = along(functions, r_KE3)
        angles = Angles(harmonics_KEM, edges, num_spherical)
        return cls(edges, unit_KE3, angles, radial_KER, rest[0] if rest else None)


class TripletBackbone(nn.Module):
    """From elements and edge vectors to messages; a subclass has the layers, and `radial`, or also `spherical`, bases.

    Its forward returns the messages (K, E, F) before each layer and after the last, and the edges' geometry. It takes
    element_S, the index of each atom's element, halo atoms last; r_KE3, vectors from destination to source, angstrom,
    and their tangents if K = 2; and the edges.

    Args:
        num_spherical: degrees of the angular basis. checkpointing: recompute every k-th layer in backward; 0: none.
    """

    radial: nn.Module

    def __init__(self, num_spherical: int, checkpointing: int) -> None:
        super().__init__()
        self.num_spherical = num_spherical
        self.checkpointing = checkpointing
        self.spherical: nn.Module | None = None

    def geometry(self, r_KE3: Tensor, edges: Edges) -> TripletGeometry:
        """What layers may know of the edges."""
        return TripletGeometry.of(
            r_KE3, edges, radial=self.radial, spherical=self.spherical, num_spherical=self.num_spherical
        )


class Dense(Linear):
    """A linear layer and a SiLU; by default for inputs that come out of one."""

    def __init__(self, num_in: int, num_out: int, *, gain: float = AFTER_SILU, bias: bool = True) -> None:
        super().__init__(num_in, num_out, gain=gain, bias=bias)

    def forward(self, x_KXI: Tensor) -> Tensor:
        """Returns (K, X, O)."""
        return silu(super().forward(x_KXI))


class Stages(nn.ModuleList):
    """Output blocks, one for the messages before each layer and one for those after the last; their sum is predicted.

    Args:
        checkpointing: recompute every k-th block in backward; 0: none.
    """

    def __init__(self, blocks: Sequence[nn.Module], checkpointing: int) -> None:
        super().__init__(blocks)
        self.checkpointing = checkpointing

    def forward(self, messages: Sequence[Tensor], geometry: TripletGeometry) -> Tensor:
        """Returns the sum of what the blocks make of the messages (K, E, F)."""
        found = [
            recomputed(block, i, self.checkpointing, m_KEF, geometry)
            for i, (block, m_KEF) in enumerate(zip(self, messages, strict=True))
        ]
        return torch.stack(found).sum(dim=0) / math.sqrt(len(found))


class EnergyOutput(nn.Module):
    """Energies of atoms: messages, gated by the edge's length, are summed over an atom's edges and read by an MLP.

    Args:
        width: F. num_radial: R. mlp: from the sums to features. num_out: of these. sum_scale: factor on the sums.
    """

    def __init__(
        self, width: int, num_radial: int, mlp: nn.Module, num_out: int, *, sum_scale: float, gain: float
    ) -> None:
        super().__init__()
        self.sum_scale = sum_scale
        self.gate = Linear(num_radial, width, gain=gain, bias=False)
        self.mlp = mlp
        self.out = Linear(num_out, 1, gain=0.3, bias=False)

    def forward(self, m_KEF: Tensor, geometry: TripletGeometry) -> Tensor:
        """Returns (K, N)."""
        gated_KEF = product(torch.mul, m_KEF, self.gate(geometry.radial_KER))
        return self.out(self.mlp(self.sum_scale * geometry.edges.sum_to_dst(gated_KEF))).squeeze(2)  # type: ignore[no-any-return]


class ForceOutput(nn.Module):
    """Forces on atoms without a derivative: along each edge acts what an MLP reads from its message.

    Args: as of `EnergyOutput`.
    """

    def __init__(self, width: int, num_radial: int, mlp: nn.Module, *, sum_scale: float, gain: float) -> None:
        super().__init__()
        self.sum_scale = sum_scale
        self.mlp = mlp
        self.gate = Linear(num_radial, width, gain=gain, bias=False)
        self.out = Linear(width, 1, bias=False)

    def forward(self, m_KEF: Tensor, geometry: TripletGeometry) -> Tensor:
        """Returns (K, N, 3)."""
        pull_KE1 = self.out(product(torch.mul, self.mlp(m_KEF), self.gate(geometry.radial_KER)))
        return geometry.edges.sum_to_dst(self.sum_scale * product(torch.mul, pull_KE1, geometry.unit_KE3))


def output_blocks(
    config: TripletConfig, energy: Callable[[], nn.Module], force: Callable[[], nn.Module], checkpointing: int
) -> tuple[Stages, Stages | None]:
    """The heads for energies and, if forces are direct, for forces: a block for each layer's messages, and the last's.

    Args:
        energy, force: make one block.
    """
    count = config.depth + 1
    energies = Stages([energy() for _ in range(count)], checkpointing)
    if config.forces == "conservative":
        return energies, None
    return energies, Stages([force() for _ in range(count)], checkpointing)
