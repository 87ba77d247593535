"""EGNN with periodic images: E(n)-equivariant message passing on relative vectors alone.

Shape suffixes: K 1 (values) or 2 (values and their tangents), N atoms, E edges, F features (width), R radial
functions, 3 Cartesian.

Source: Satorras, Hoogeboom, Welling, "E(n) Equivariant Graph Neural Networks", ICML 2021, eqs. 3-6, with
- edge vectors r_ij = x_j + S cell - x_i, so that periodic images are distinct neighbours;
- positions carried as displacements u_i from the input positions, which only ever enter as differences;
- the first linear of phi_e factored into per-atom products: W [h_i, h_j, e_ij] = W_1 h_i + W_2 h_j + W_3 e_ij;
- a smooth cut-off on messages (Behler, J. Chem. Phys. 134, 074106 (2011), eq. 4), so that energies are continuous
  when a neighbour leaves the cut-off sphere;
- sums over neighbours divided by the root of the mean degree and residual updates by the root of the depth, so that
  deep stacks train; layer normalisation in their place trained no better (docs/decisions/0005).
"""

import math

import torch
from torch import Tensor, nn

from scaling.models.egnn.config import EGNNConfig
from scaling.models.heads import DirectForceHead, EnergyHead
from scaling.models.ops import (
    AFTER_SILU,
    EdgeGeometry,
    Edges,
    Embedding,
    Linear,
    MessageNet,
    RadialBasis,
    constant,
    recomputed,
    silu,
)


class EGNNLayer(nn.Module):
    """One round of messages: edges read both ends, atoms sum their messages, features and positions move.

    Args:
        width: F. num_radial: R. residual_scale: factor on the feature update. aggregation_scale: factor on sums over
            neighbours. first: displacements are still zero. moves_positions: whether eq. 4 is applied (pointless in
            the last layer, where nothing reads the positions any more).
    """

    def __init__(
        self,
        width: int,
        num_radial: int,
        *,
        residual_scale: float,
        aggregation_scale: float,
        first: bool,
        moves_positions: bool,
    ) -> None:
        super().__init__()
        self.residual_scale = residual_scale
        self.aggregation_scale = aggregation_scale
        self.first = first
        self.atom_in = Linear(width, 3 * width)  # W_1 h_i | W_2 h_j | the h part of phi_h
        self.messages = MessageNet(
            width,
            num_radial + (not first),
            second=True,
            sums=True,
            move_gain=0.1 if moves_positions else None,
        )
        self.aggregate_in = Linear(width, width, gain=AFTER_SILU, bias=False)
        self.update_out = Linear(width, width, gain=AFTER_SILU)

    def forward(self, h_KNF: Tensor, u_KN3: Tensor, geometry: EdgeGeometry) -> tuple[Tensor, Tensor]:
        """Returns the new features (K, N, F) and displacements (K, N, 3)."""
        width, edges = h_KNF.shape[2], geometry.edges
        atom_KNF = self.atom_in(h_KNF)
        sources = edges.sources(atom_KNF[..., width : 2 * width])
        moved_KE = None if self.first else geometry.moved_square_distance(edges.sources(u_KN3).wait())
        sum_KNF, move_KN3 = self.messages(
            torch.cat([atom_KNF[..., :width], sources.wait()], dim=1),
            geometry.radial_KRE,
            moved_KE,
            geometry.envelope_KE,
            geometry.unit_KE3,
            edges,
        )
        if move_KN3 is not None:
            u_KN3 = u_KN3 + move_KN3 * self.aggregation_scale
        own_KNF = atom_KNF[..., 2 * width :]
        update_KNF = self.update_out(silu(own_KNF + self.aggregate_in(sum_KNF * self.aggregation_scale)))
        return h_KNF + self.residual_scale * update_KNF, u_KN3


class EGNN(nn.Module):
    """The backbone: from elements and edge vectors to invariant features of each atom.

    Args:
        num_elements: rows of the embedding. width: F. depth: layers. num_radial: R. cutoff_ang: neighbour radius.
        mean_degree: mean number of neighbours in the training set; sums over neighbours are divided by its root.
        checkpointing: recompute every k-th layer in backward instead of keeping its activations; 0: none.
    """

    def __init__(
        self,
        *,
        num_elements: int,
        width: int,
        depth: int,
        num_radial: int,
        cutoff_ang: float,
        mean_degree: float,
        checkpointing: int = 0,
    ) -> None:
        super().__init__()
        self.checkpointing = checkpointing
        self.basis = RadialBasis(num_radial, cutoff_ang)
        self.embedding = Embedding(num_elements, width)
        self.layers = nn.ModuleList(
            EGNNLayer(
                width,
                num_radial,
                residual_scale=1 / math.sqrt(depth),
                aggregation_scale=1 / math.sqrt(mean_degree),
                first=i == 0,
                moves_positions=i < depth - 1,
            )
            for i in range(depth)
        )

    def forward(self, element_S: Tensor, r_KE3: Tensor, edges: Edges) -> tuple[Tensor, EdgeGeometry]:
        """Returns the features (K, N, F) and the edges' geometry.

        Args:
            element_S: index of each atom's element, halo atoms last. r_KE3: vectors from destination to
                source, angstrom, and their tangents if K = 2.
        """
        geometry = EdgeGeometry.of(r_KE3, edges, self.basis)
        element_N = element_S[: edges.num_atoms]
        h_KNF = constant(self.embedding(element_N), len(r_KE3))
        u_KN3 = r_KE3.new_zeros(len(r_KE3), len(element_N), 3)
        for i, layer in enumerate(self.layers):
            h_KNF, u_KN3 = recomputed(layer, i, self.checkpointing, h_KNF, u_KN3, geometry)
        return h_KNF, geometry


def parts(
    config: EGNNConfig, *, num_elements: int, cutoff_ang: float, mean_degree: float, checkpointing: int
) -> tuple[nn.Module, nn.Module, nn.Module | None]:
    """See `ModelConfig.parts`."""
    backbone = EGNN(
        num_elements=num_elements,
        width=config.width,
        depth=config.depth,
        num_radial=config.num_radial,
        cutoff_ang=cutoff_ang,
        mean_degree=mean_degree,
        checkpointing=checkpointing,
    )
    force_head = DirectForceHead(config.width, config.num_radial) if config.forces == "direct" else None
    return backbone, EnergyHead(config.width), force_head
