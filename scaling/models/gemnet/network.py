"""GemNet-T with periodic images: messages on directed edges meet at angles; atoms' features are carried along.

Shape suffixes: K 1 (values) or 2 (values and their tangents), N atoms, E edges, A features of an atom, F features of an
edge (width), T features that meet at an angle, B what they give, R radial functions, C of a projected basis, S degrees
of the angular basis, 3 Cartesian.

Source: Gasteiger, Becker, Guennemann, "GemNet: Universal Directional Graph Neural Networks for Molecules", NeurIPS
2021, the variant with triplets; layers and sizes as in the Open Catalyst Project (its gemnet_t, Gaussian radial basis),
whose graph-parallel sizes Sriram et al., ICLR 2022, Table 4, scale. Here
- sums over angles are found without triplets (`scaling/models/ops/angles.py`);
- constants are others: SiLU is not scaled by 1 / 0.6; sums over neighbours are divided by the root of their mean
  number, where the original has factors fitted to data; residual layers add what they find, and layers' updates are
  divided by the root of the depth, where the original divides both sums by sqrt(2); the sum of the output blocks is
  divided by the root of their number.
"""

import math
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor, nn

from scaling.models.gemnet.config import (
    AFTER_CONCAT,
    AFTER_SKIP,
    BEFORE_SKIP,
    CIRCULAR_WIDTH,
    OF_ATOMS,
    RADIAL_WIDTH,
    GemNetTConfig,
)
from scaling.models.ops import (
    AFTER_SILU,
    Edges,
    Embedding,
    GaussianBasis,
    Linear,
    constant,
    exact,
    normal,
    product,
    recomputed,
    silu,
)
from scaling.models.triplets.layers import (
    Dense,
    EnergyOutput,
    ForceOutput,
    TripletBackbone,
    TripletGeometry,
    output_blocks,
)

HALF = 1 / math.sqrt(2)


@dataclass(frozen=True)
class Bases:
    """What all layers share: the edges' geometry, and its radial basis projected for each use.

    meeting_KEC: gates messages to other edges. atom_KEC: gates messages to atoms. circular_KESC: of lengths and angles.
    """

    geometry: TripletGeometry
    meeting_KEC: Tensor
    atom_KEC: Tensor
    circular_KESC: Tensor


class Residual(nn.Module):
    """x + MLP(x), two dense layers."""

    def __init__(self, width: int, *, scale: float) -> None:
        super().__init__()
        self.first = Dense(width, width, gain=1.0, bias=False)
        self.second = Dense(width, width, gain=AFTER_SILU * scale, bias=False)

    def forward(self, x_KXF: Tensor) -> Tensor:
        """Returns (K, X, F)."""
        return x_KXF + self.second(self.first(x_KXF))  # type: ignore[no-any-return]


def mlp(num_in: int, width: int) -> nn.Sequential:
    """A dense layer and residual ones."""
    first = Dense(num_in, width, gain=1.0, bias=False)
    return nn.Sequential(first, *(Residual(width, scale=0.5) for _ in range(OF_ATOMS)))


class EdgeEmbedding(nn.Module):
    """Messages from both atoms' features and features of the edge."""

    def __init__(self, node_width: int, num_in: int, width: int, *, gain: float) -> None:
        super().__init__()
        third = 1 / math.sqrt(3)
        self.ends = Linear(node_width, 2 * width, gain=third, bias=False)
        self.edge = Linear(num_in, width, gain=gain * third, bias=False)

    def forward(self, h_KNA: Tensor, x_KEX: Tensor, edges: Edges) -> Tensor:
        """Returns (K, E, F)."""
        dst_KNF, src_KNF = self.ends(h_KNA).chunk(2, dim=2)
        sources = edges.sources(src_KNF)
        own_KEF = self.edge(x_KEX) + edges.of_dst(dst_KNF)
        return silu(own_KEF + sources.wait().index_select(1, edges.src_E))


class Meeting(nn.Module):
    """What each edge reads from the others of its atom, and from those of its other end, by length and angle."""

    def __init__(self, width: int, triplet_width: int, bilinear_width: int, *, sum_scale: float) -> None:
        super().__init__()
        self.sum_scale = sum_scale
        self.other = Dense(width, width, gain=1.0, bias=False)
        self.gate = Linear(RADIAL_WIDTH, width, bias=False)
        self.down = Dense(width, triplet_width, bias=False)
        self.bilinear = normal(
            CIRCULAR_WIDTH, triplet_width, bilinear_width, std=1 / math.sqrt(CIRCULAR_WIDTH * triplet_width)
        )
        self.up = Dense(bilinear_width, width, gain=1.0, bias=False)
        self.up_swapped = Dense(bilinear_width, width, gain=1.0, bias=False)

    def forward(self, m_KEF: Tensor, bases: Bases) -> Tensor:
        """Returns (K, E, F)."""
        geometry = bases.geometry
        down_KET = self.down(product(torch.mul, self.other(m_KEF), self.gate(bases.meeting_KEC)))
        met_KSET = self.sum_scale * geometry.angles.sum_each(down_KET)
        with exact(met_KSET):
            joined_KECT = product(_contract, bases.circular_KESC, met_KSET)
        answer_KEB = joined_KECT.flatten(2) @ self.bilinear.flatten(0, 1)
        swapped = geometry.edges.swapped(answer_KEB)
        own_KEF = self.up(answer_KEB)
        return HALF * (own_KEF + self.up_swapped(swapped.wait()))  # type: ignore[no-any-return]


def _contract(circular_ESC: Tensor, met_SET: Tensor) -> Tensor:
    """(E, C, T): the sum over degrees."""
    return circular_ESC.to(met_SET.dtype).transpose(1, 2) @ met_SET.transpose(0, 1)


class AtomUpdate(nn.Module):
    """Features of atoms from their messages."""

    def __init__(self, node_width: int, width: int, *, sum_scale: float) -> None:
        super().__init__()
        self.sum_scale = sum_scale
        self.gate = Linear(RADIAL_WIDTH, width, bias=False)
        self.mlp = mlp(width, node_width)

    def forward(self, m_KEF: Tensor, bases: Bases) -> Tensor:
        """Returns (K, N, A)."""
        gated_KEF = product(torch.mul, m_KEF, self.gate(bases.atom_KEC))
        return self.mlp(self.sum_scale * bases.geometry.edges.sum_to_dst(gated_KEF))  # type: ignore[no-any-return]


class Interaction(nn.Module):
    """One round: edges read edges, atoms read edges, edges read atoms."""

    def __init__(self, config: GemNetTConfig, *, sum_scale: float) -> None:
        super().__init__()
        width, node_width = config.width, config.node_width
        self.scale = 1 / math.sqrt(config.depth)
        residual = partial(Residual, width, scale=0.5 * self.scale)
        self.skip = Dense(width, width, gain=1.0, bias=False)
        self.meeting = Meeting(width, config.triplet_width, config.bilinear_width, sum_scale=sum_scale)
        self.before_skip = nn.Sequential(*(residual() for _ in range(BEFORE_SKIP)))
        self.after_skip = nn.Sequential(*(residual() for _ in range(AFTER_SKIP)))
        self.atoms = AtomUpdate(node_width, width, sum_scale=sum_scale)
        self.concat = EdgeEmbedding(node_width, width, width, gain=1.0)
        self.after_concat = nn.Sequential(*(residual() for _ in range(AFTER_CONCAT)))

    def forward(self, h_KNA: Tensor, m_KEF: Tensor, bases: Bases) -> tuple[Tensor, Tensor]:
        """Returns the new features of atoms (K, N, A) and messages (K, E, F)."""
        x_KEF = HALF * (self.skip(m_KEF) + self.meeting(m_KEF, bases))
        m_KEF = self.after_skip(m_KEF + self.scale * self.before_skip(x_KEF))
        h_KNA = h_KNA + self.scale * self.atoms(m_KEF, bases)
        x_KEF = self.after_concat(self.concat(h_KNA, m_KEF, bases.geometry.edges))
        return h_KNA, m_KEF + self.scale * x_KEF


class GemNetT(TripletBackbone):
    """The backbone: from elements and edge vectors to messages; atoms have features too."""

    def __init__(
        self, config: GemNetTConfig, *, num_elements: int, cutoff_ang: float, sum_scale: float, checkpointing: int
    ) -> None:
        super().__init__(config.num_spherical, checkpointing)
        width, num_radial, node_width = config.width, config.num_radial, config.node_width
        self.radial = GaussianBasis(num_radial, cutoff_ang)
        gain = math.sqrt(num_radial)  # of many Gaussians a few are not zero
        self.embedding = Embedding(num_elements, node_width)
        self.first = EdgeEmbedding(node_width, num_radial, width, gain=gain)
        self.meeting_basis, self.atom_basis, self.output_basis = (
            Linear(num_radial, RADIAL_WIDTH, gain=gain, bias=False) for _ in range(3)
        )
        self.circular_basis = Linear(num_radial, config.num_spherical * CIRCULAR_WIDTH, gain=gain, bias=False)
        self.layers = nn.ModuleList(Interaction(config, sum_scale=sum_scale) for _ in range(config.depth))

    def forward(self, element_S: Tensor, r_KE3: Tensor, edges: Edges) -> tuple[list[Tensor], TripletGeometry]:
        """See `TripletBackbone`; the geometry is that for the output blocks."""
        geometry = self.geometry(r_KE3, edges)
        radial_KER = geometry.radial_KER
        bases = Bases(
            geometry,
            self.meeting_basis(radial_KER),
            self.atom_basis(radial_KER),
            self.circular_basis(radial_KER).unflatten(2, (self.num_spherical, CIRCULAR_WIDTH)),
        )
        h_KNA = constant(self.embedding(element_S[: edges.num_atoms]), len(r_KE3))
        messages = [self.first(h_KNA, radial_KER, edges)]
        for i, layer in enumerate(self.layers):
            h_KNA, m_KEF = recomputed(layer, i, self.checkpointing, h_KNA, messages[-1], bases)
            messages.append(m_KEF)
        return messages, replace(geometry, radial_KER=self.output_basis(radial_KER))


def parts(
    config: GemNetTConfig, *, num_elements: int, cutoff_ang: float, mean_degree: float, checkpointing: int
) -> tuple[nn.Module, nn.Module, nn.Module | None]:
    """See `ModelConfig.parts`."""
    width, node_width = config.width, config.node_width
    scale = 1 / math.sqrt(mean_degree)
    backbone = GemNetT(
        config, num_elements=num_elements, cutoff_ang=cutoff_ang, sum_scale=scale, checkpointing=checkpointing
    )

    def energy_output() -> EnergyOutput:
        return EnergyOutput(width, RADIAL_WIDTH, mlp(width, node_width), node_width, sum_scale=scale, gain=1.0)

    def force_output() -> ForceOutput:
        return ForceOutput(width, RADIAL_WIDTH, mlp(width, width), sum_scale=scale, gain=1.0)

    return backbone, *output_blocks(config, energy_output, force_output, checkpointing)
