"""The whole potential: trunk, heads, and how forces come about.

Shape suffixes: N atoms, E edges, G graphs, 3 Cartesian.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from scaling.models.heads import DirectForceHead, EnergyHead


@dataclass(frozen=True)
class Graphs:
    """A batch of periodic graphs.

    element_N: index of each atom's element among the model's elements. x_N3: positions, angstrom. src_E, dst_E: atoms
    of each directed edge, sorted by dst_E. shift_E3: lattice translation of the source, angstrom. graph_N: the graph of
    each atom, in 0 .. num_graphs-1.
    """

    element_N: Tensor
    x_N3: Tensor
    src_E: Tensor
    dst_E: Tensor
    shift_E3: Tensor
    graph_N: Tensor
    num_graphs: int


class Potential(nn.Module):
    """Energies (G,) eV and forces (N, 3) eV/angstrom of a batch.

    Energies leave out the reference energies of the elements, which are constants of the data, not of the network.

    Args:
        trunk: maps (element_N, r_E3, src_E, dst_E) to features (N, F) and edge geometry.
        width: F. scale_ev: typical force in eV/angstrom; the network's outputs are multiplied by it.
        force_head: None for conservative forces, -dE/dx.
    """

    def __init__(self, trunk: nn.Module, *, width: int, scale_ev: float, force_head: DirectForceHead | None) -> None:
        super().__init__()
        self.trunk = trunk
        self.energy_head = EnergyHead(width)
        self.force_head = force_head
        self.scale_ev = scale_ev

    def forward(self, graphs: Graphs) -> tuple[Tensor, Tensor]:
        """Returns energies (G,) and forces (N, 3); forces can be differentiated again while training."""
        if self.force_head is not None:
            energy_G, h_NF, geometry = self._energy(graphs, graphs.x_N3)
            return energy_G, self.scale_ev * self.force_head(h_NF, geometry)
        with torch.enable_grad():
            x_N3 = graphs.x_N3.detach().requires_grad_()
            energy_G, _, _ = self._energy(graphs, x_N3)
            (gradient_N3,) = torch.autograd.grad(energy_G.sum(), x_N3, create_graph=self.training)
        return (energy_G, -gradient_N3) if self.training else (energy_G.detach(), -gradient_N3)

    def _energy(self, graphs: Graphs, x_N3: Tensor):  # type: ignore[no-untyped-def]
        r_E3 = x_N3.index_select(0, graphs.src_E) + graphs.shift_E3 - x_N3.index_select(0, graphs.dst_E)
        h_NF, geometry = self.trunk(graphs.element_N, r_E3, graphs.src_E, graphs.dst_E)
        return self.scale_ev * self.energy_head(h_NF, graphs.graph_N, graphs.num_graphs), h_NF, geometry
