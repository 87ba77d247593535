"""EGNN with periodic images: E(n)-equivariant message passing on relative vectors alone.

Shape suffixes: N atoms, E edges, F features (width), R radial functions, 3 Cartesian.

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
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from scaling.models.geometry import EdgeGeometry, RadialBasis
from scaling.models.linear import AFTER_SILU, linear


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
        self.atom_in = linear(width, 3 * width)  # W_1 h_i | W_2 h_j | the h part of phi_h
        self.radial_in = linear(num_radial, width, gain=math.sqrt(num_radial), bias=False)
        self.moved_in = None if first else nn.Parameter(torch.randn(width))
        self.message_out = linear(width, width, gain=AFTER_SILU)
        self.move = linear(width, 1, gain=0.1, bias=False) if moves_positions else None
        self.aggregate_in = linear(width, width, gain=AFTER_SILU, bias=False)
        self.update_out = linear(width, width, gain=AFTER_SILU)

    def forward(self, h_NF: Tensor, u_N3: Tensor, geometry: EdgeGeometry) -> tuple[Tensor, Tensor]:
        """Returns the new features (N, F) and displacements (N, 3)."""
        width = h_NF.shape[1]
        dst_NF, src_NF, own_NF = self.atom_in(h_NF).split(width, dim=1)
        edge_EF = (
            self.radial_in(geometry.radial_ER)
            + dst_NF.index_select(0, geometry.dst_E)
            + src_NF.index_select(0, geometry.src_E)
        )
        if self.moved_in is not None:
            edge_EF = edge_EF + geometry.moved_square_distance(u_N3) * self.moved_in
        message_EF = F.silu(self.message_out(F.silu(edge_EF))) * geometry.envelope_E1
        aggregate_NF = geometry.sum_to_dst(message_EF) * self.aggregation_scale
        if self.move is not None:
            u_N3 = u_N3 + geometry.sum_to_dst(self.move(message_EF) * geometry.unit_E3) * self.aggregation_scale
        update_NF = self.update_out(F.silu(own_NF + self.aggregate_in(aggregate_NF)))
        return h_NF + self.residual_scale * update_NF, u_N3


class EGNN(nn.Module):
    """The trunk: from elements and edge vectors to invariant features of each atom.

    Args:
        num_elements: rows of the embedding. width: F. depth: layers. num_radial: R. cutoff_ang: neighbour radius.
        mean_degree: mean number of neighbours in the training set; sums over neighbours are divided by its root.
        checkpointing: recompute each layer in backward instead of keeping its activations.
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
        checkpointing: bool = False,
    ) -> None:
        super().__init__()
        self.checkpointing = checkpointing
        self.basis = RadialBasis(num_radial, cutoff_ang)
        self.embedding = nn.Embedding(num_elements, width)
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

    def forward(self, element_N: Tensor, r_E3: Tensor, src_E: Tensor, dst_E: Tensor) -> tuple[Tensor, EdgeGeometry]:
        """Returns the features (N, F) and the edges' geometry.

        Args:
            element_N: index of each atom's element. r_E3: vectors from destination to source, angstrom.
            src_E, dst_E: atoms of each edge, sorted by destination.
        """
        geometry = EdgeGeometry.of(r_E3, src_E, dst_E, num_atoms=len(element_N), basis=self.basis)
        h_NF = self.embedding(element_N)
        u_N3 = r_E3.new_zeros(len(element_N), 3)
        for layer in self.layers:
            if self.checkpointing and torch.is_grad_enabled():
                h_NF, u_N3 = checkpoint(layer, h_NF, u_N3, geometry, use_reentrant=False)
            else:
                h_NF, u_N3 = layer(h_NF, u_N3, geometry)
        return h_NF, geometry
