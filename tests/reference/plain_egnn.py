"""The EGNN as its paper writes it, in plain torch: what throughput is measured against.

Shape suffixes: N atoms, E edges, G graphs, F features, R radial functions, 3 Cartesian.
"""

from dataclasses import replace
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from scaling.config import ModelConfig
from scaling.models import Graphs
from scaling.models.ops.geometry import RadialBasis


def mlp(*widths: int, last: nn.Module | None = None) -> nn.Sequential:
    """Linear layers with SiLU between them."""
    layers: list[nn.Module] = []
    for num_in, num_out in pairwise(widths):
        layers += [nn.Linear(num_in, num_out), nn.SiLU()]
    return nn.Sequential(*layers[:-1], *([last] if last else []))


def edge_vectors(x_N3: Tensor, graphs: Graphs) -> Tensor:
    """(E, 3) from destination to source."""
    return x_N3.index_select(0, graphs.src_E) + graphs.shift_E3 - x_N3.index_select(0, graphs.dst_E)


class PlainLayer(nn.Module):
    """Satorras et al. 2021, eqs. 3-6, with the multilayer perceptrons of its appendix C."""

    def __init__(self, width: int, num_radial: int) -> None:
        super().__init__()
        self.phi_e = mlp(2 * width + 1 + num_radial, width, width, last=nn.SiLU())
        self.phi_x = mlp(width, width, 1)
        self.phi_h = mlp(2 * width, width, width)

    def forward(self, h_NF: Tensor, x_N3: Tensor, radial_ER: Tensor, graphs: Graphs) -> tuple[Tensor, Tensor]:
        """Returns the new features and positions."""
        r_E3 = edge_vectors(x_N3, graphs)
        square_E1 = r_E3.square().sum(1, keepdim=True)
        ends_EF = [h_NF.index_select(0, atoms_E) for atoms_E in (graphs.dst_E, graphs.src_E)]
        m_EF = self.phi_e(torch.cat([*ends_EF, square_E1, radial_ER], dim=1))
        moves_E3 = r_E3 * self.phi_x(m_EF)
        x_N3 = x_N3 + torch.zeros_like(x_N3).index_add(0, graphs.dst_E, moves_E3) * (len(x_N3) / len(r_E3))
        sum_NF = torch.zeros_like(h_NF).index_add(0, graphs.dst_E, m_EF)
        return h_NF + self.phi_h(torch.cat([h_NF, sum_NF], dim=1)), x_N3


class PlainEGNN(nn.Module):
    """Energies (G,) and forces (N, 3): how far the atoms have moved, or -dE/dx by create_graph."""

    def __init__(self, config: ModelConfig, *, num_elements: int, cutoff_ang: float) -> None:
        super().__init__()
        self.by_gradient = config.forces == "conservative"
        self.is_conservative = False  # its forces are differentiable: no second pass
        self.basis = RadialBasis(config.num_radial, cutoff_ang)
        self.embedding = nn.Embedding(num_elements, config.width)
        self.layers = nn.ModuleList(PlainLayer(config.width, config.num_radial) for _ in range(config.depth))
        self.head = mlp(config.width, config.width, 1)

    def forward(self, graphs: Graphs) -> tuple[Tensor, Tensor]:
        """Energies and forces, both differentiable by the parameters."""
        with torch.enable_grad():
            start_N3 = graphs.x_N3.detach().requires_grad_(self.by_gradient)
            r_E3 = edge_vectors(start_N3, graphs)
            radial_ER = self.basis.values_and_slopes(r_E3.square().sum(1).sqrt())[0].t().contiguous()
            h_NF, x_N3 = self.embedding(graphs.element_N), start_N3
            for layer in self.layers:
                h_NF, x_N3 = layer(h_NF, x_N3, radial_ER, graphs)
            energy_G = r_E3.new_zeros(graphs.num_graphs).index_add(0, graphs.graph_N, self.head(h_NF)[:, 0])
            if not self.by_gradient:
                return energy_G, x_N3 - start_N3
            (gradient_N3,) = torch.autograd.grad(energy_G.sum(), start_N3, create_graph=True)
            return energy_G, -gradient_N3


def plain_egnn(config: ModelConfig, num_params: int, **sizes: Any) -> PlainEGNN:
    """The plain network whose number of parameters comes nearest to this, its width a multiple of 4."""

    def built(width: int) -> PlainEGNN:
        return PlainEGNN(replace(config, width=width), **sizes)

    def miss(width: int) -> int:
        with torch.device("meta"):
            return abs(sum(p.numel() for p in built(width).parameters()) - num_params)

    return built(min(range(4, 2 * config.width + 4, 4), key=miss))
