"""DimeNet++ with periodic images: messages on directed edges, which meet at the angles between them.

Shape suffixes: K 1 (values) or 2 (values and their tangents), N atoms, E edges, F features of an edge (width), T
features that meet at an angle, R radial functions, S degrees of the angular basis, 3 Cartesian.

Source: Gasteiger, Giri, Margraf, Guennemann, "Fast and Uncertainty-Aware Directional Message Passing for
Non-Equilibrium Molecules", 2020, on Gasteiger, Gross, Guennemann, "Directional Message Passing for Molecular Graphs",
ICLR 2020. It computes the same function (torch-geometric's, to rounding, with copied weights), with
- sums over angles without triplets (`scaling/models/ops/angles.py`): the message of k -> j, and the answer to
  j -> i, are computed at j, where both edges meet, and the answer is handed to j -> i by the edge i -> j;
- fixed Bessel frequencies;
- sums over neighbours divided by the root of their mean number, and initial weights of residual branches by the root
  of the depth, so that networks of any width and depth begin with predictions of the size of labels;
- for direct forces, a second set of output blocks, one dense layer each, whose outputs act along the edges.
"""

import math

import torch
from torch import Tensor, nn

from scaling.models.dimenet.config import AFTER_SKIP, BASIS_WIDTH, BEFORE_SKIP, OUTPUT_LAYERS, DimeNetPlusPlusConfig
from scaling.models.ops import (
    AFTER_SILU,
    BesselBasis,
    Edges,
    Embedding,
    Linear,
    SphericalBesselBasis,
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


class EdgeEmbedding(nn.Module):
    """First messages, from both atoms' elements and the length."""

    def __init__(self, width: int, num_radial: int) -> None:
        super().__init__()
        self.radial = Dense(num_radial, width, gain=1.0)
        self.ends = Linear(width, 2 * width, gain=1 / math.sqrt(3), bias=False)
        self.length = Linear(width, width, gain=AFTER_SILU / math.sqrt(3))

    def forward(self, element_SF: Tensor, geometry: TripletGeometry) -> Tensor:
        """Returns (K, E, F)."""
        edges, rows = geometry.edges, len(geometry.radial_KER)
        dst_SF, src_SF = self.ends(element_SF[None])[0].chunk(2, dim=1)
        ends_EF = edges.of_dst(dst_SF[None, : edges.num_atoms])[0] + src_SF.index_select(0, edges.src_E)
        return silu(self.length(self.radial(geometry.radial_KER)) + constant(ends_EF, rows))


class Residual(nn.Module):
    """x + MLP(x), two dense layers."""

    def __init__(self, width: int, *, scale: float) -> None:
        super().__init__()
        self.first = Dense(width, width, gain=1.0)
        self.second = Dense(width, width, gain=AFTER_SILU * scale)

    def forward(self, x_KEF: Tensor) -> Tensor:
        """Returns (K, E, F)."""
        return x_KEF + self.second(self.first(x_KEF))  # type: ignore[no-any-return]


class Interaction(nn.Module):
    """One round: each message reads those that come into its source, by length and angle."""

    def __init__(
        self, width: int, triplet_width: int, num_radial: int, num_spherical: int, *, sum_scale: float, depth: int
    ) -> None:
        super().__init__()
        self.sum_scale = sum_scale
        scale = 0.5 / math.sqrt(depth)
        self.own = Dense(width, width, gain=1.0)
        self.other = Dense(width, width, gain=1.0)
        self.radial = nn.Sequential(
            Linear(num_radial, BASIS_WIDTH, bias=False), Linear(BASIS_WIDTH, width, gain=2.0, bias=False)
        )
        self.down = Dense(width, triplet_width, bias=False)
        self.spherical_in = normal(
            BASIS_WIDTH, num_spherical, num_radial, std=1 / math.sqrt(num_spherical * num_radial)
        )
        self.spherical_out = normal(triplet_width, BASIS_WIDTH, std=1 / math.sqrt(BASIS_WIDTH))
        self.up = Dense(triplet_width, width, bias=False)
        self.before_skip = nn.Sequential(*(Residual(width, scale=scale) for _ in range(BEFORE_SKIP)))
        self.skip = Dense(width, width, gain=AFTER_SILU * scale)
        self.after_skip = nn.Sequential(*(Residual(width, scale=scale) for _ in range(AFTER_SKIP)))

    def forward(self, m_KEF: Tensor, geometry: TripletGeometry) -> Tensor:
        """Returns the new messages (K, E, F)."""
        gated_KEF = product(torch.mul, self.other(m_KEF), self.radial(geometry.radial_KER))
        down_KET = self.down(gated_KEF)
        basis_SRT = torch.einsum("tb,bsr->srt", self.spherical_out, self.spherical_in)
        assert geometry.spherical_KSER is not None
        with exact(geometry.spherical_KSER):
            basis_KSET = geometry.spherical_KSER @ basis_SRT.to(geometry.spherical_KSER.dtype)
        heard_KSET = product(torch.mul, down_KET[:, None], basis_KSET)
        answer = geometry.edges.swapped(self.sum_scale * geometry.angles.sum_all(heard_KSET))
        own_KEF = self.own(m_KEF)
        x_KEF = self.before_skip(own_KEF + self.up(answer.wait()))
        return self.after_skip(m_KEF + self.skip(x_KEF))  # type: ignore[no-any-return]


class DimeNetPlusPlus(TripletBackbone):
    """The backbone: from elements and edge vectors to messages."""

    def __init__(
        self,
        config: DimeNetPlusPlusConfig,
        *,
        num_elements: int,
        cutoff_ang: float,
        sum_scale: float,
        checkpointing: int,
    ) -> None:
        super().__init__(config.num_spherical, checkpointing)
        width, num_radial, num_spherical = config.width, config.num_radial, config.num_spherical
        self.radial = BesselBasis(num_radial, cutoff_ang)
        self.spherical = SphericalBesselBasis(num_spherical, num_radial, cutoff_ang)
        self.embedding = Embedding(num_elements, width)
        self.first = EdgeEmbedding(width, num_radial)
        self.layers = nn.ModuleList(
            Interaction(width, config.triplet_width, num_radial, num_spherical, sum_scale=sum_scale, depth=config.depth)
            for _ in range(config.depth)
        )

    def forward(self, element_S: Tensor, r_KE3: Tensor, edges: Edges) -> tuple[list[Tensor], TripletGeometry]:
        """See `TripletBackbone`."""
        geometry = self.geometry(r_KE3, edges)
        messages = [self.first(self.embedding(element_S), geometry)]
        for i, layer in enumerate(self.layers):
            messages.append(recomputed(layer, i, self.checkpointing, messages[-1], geometry))
        return messages, geometry


def parts(
    config: DimeNetPlusPlusConfig, *, num_elements: int, cutoff_ang: float, mean_degree: float, checkpointing: int
) -> tuple[nn.Module, nn.Module, nn.Module | None]:
    """See `ModelConfig.parts`."""
    width, num_radial, out = config.width, config.num_radial, config.output_width
    scale = 1 / math.sqrt(mean_degree)
    backbone = DimeNetPlusPlus(
        config, num_elements=num_elements, cutoff_ang=cutoff_ang, sum_scale=scale, checkpointing=checkpointing
    )

    def energy_output() -> EnergyOutput:
        hidden = (Dense(out, out, gain=AFTER_SILU if k else 1.0) for k in range(OUTPUT_LAYERS))
        mlp = nn.Sequential(Linear(width, out, bias=False), *hidden)
        return EnergyOutput(width, num_radial, mlp, out, sum_scale=scale, gain=2.0)

    def force_output() -> ForceOutput:
        return ForceOutput(width, num_radial, Dense(width, width, gain=1.0), sum_scale=scale, gain=2.0)

    return backbone, *output_blocks(config, energy_output, force_output, checkpointing)
