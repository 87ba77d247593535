"""The whole potential: trunk, heads, and how forces come about.

Conservative forces F = -dE/dx enter the loss, so its gradient by the parameters contains second derivatives. They are
had without differentiating twice. With w = dL/dE and v = dL/dF,

    dL/dtheta = d/dtheta ( sum_G w E - dE(x; v) ),    dE(x; v): derivative of sum_G E along the direction v

so that a step takes two passes: the first computes E and F, from which come the loss, w and v; the second carries the
derivative along v forward with the values (K = 2), as tangents, and ends in a scalar whose ordinary gradient is the
loss's. Nothing is differentiated twice, so activation checkpointing saves what it promises, and every ZeRO stage works,
in which parameters are there for a layer's forward and a layer's backward only.

Shape suffixes: N atoms, E edges, G graphs, 3 Cartesian.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from functools import cached_property

import torch
from torch import Tensor, nn

from scaling.models.geometry import EdgeGeometry
from scaling.models.heads import DirectForceHead, EnergyHead
from scaling.models.messages import Edges


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

    @cached_property
    def edges(self) -> Edges:
        """Who sees whom, and how the work on edges is cut."""
        return Edges(self.src_E, self.dst_E, len(self.element_N))

    def tensors(self) -> list[Tensor]:
        """All it holds."""
        return [value for value in vars(self).values() if isinstance(value, Tensor)]

    def to(self, device: torch.device) -> "Graphs":
        """The same batch on another device."""
        moved = {f.name: getattr(self, f.name) for f in fields(self)}
        return Graphs(**{k: v.to(device) if isinstance(v, Tensor) else v for k, v in moved.items()})


class Potential(nn.Module):
    """Energies (G,) eV and forces (N, 3) eV/angstrom of a batch.

    Energies leave out the reference energies of the elements, which are constants of the data, not of the network.

    Args:
        trunk: maps (element_N, r_KE3, edges) to features (K, N, F) and edge geometry.
        width: F. scale_ev: typical force in eV/angstrom; the network's outputs are multiplied by it.
        force_head: None for conservative forces, -dE/dx.
    """

    def __init__(self, trunk: nn.Module, *, width: int, scale_ev: float, force_head: DirectForceHead | None) -> None:
        super().__init__()
        self.trunk = trunk
        self.energy_head = EnergyHead(width)
        self.force_head = force_head
        self.scale_ev = scale_ev

    @property
    def is_conservative(self) -> bool:
        """Whether forces are the gradient of the energy; then a step of training takes `surrogate`."""
        return self.force_head is None

    def forward(self, graphs: Graphs, cotangents: tuple[Tensor, Tensor] | None = None) -> tuple[Tensor, ...]:
        """Energies and forces; or, given `cotangents` of conservative ones, the scalar to differentiate instead.

        Args:
            cotangents: dL/dE (G,) and dL/dF (N, 3) at the energies and forces that were returned before.
        Returns:
            energies (G,) and forces (N, 3): differentiable by parameters if direct, constants if conservative;
            or a scalar whose gradient by the parameters is that of L.
        """
        r_E3 = graphs.edges.differences(graphs.x_N3) + graphs.shift_E3
        if self.force_head is not None:
            energy_KG, h_KNF, geometry = self._energy(graphs, r_E3[None])
            return energy_KG[0], self.scale_ev * self.force_head(h_KNF, geometry)[0]
        if cotangents is not None:
            energy_cotangent_G, force_cotangent_N3 = cotangents
            r_KE3 = torch.stack([r_E3, graphs.edges.differences(force_cotangent_N3)])
            energy_KG, _, _ = self._energy(graphs, r_KE3)
            return (energy_KG[0] @ energy_cotangent_G - energy_KG[1].sum(),)
        with torch.enable_grad(), self._constant_parameters():
            r_E3 = r_E3.detach().requires_grad_()
            energy_KG, _, _ = self._energy(graphs, r_E3[None])
            (gradient_E3,) = torch.autograd.grad(energy_KG.sum(), r_E3)
        return energy_KG[0].detach(), -graphs.edges.sum_ends(gradient_E3)

    @contextmanager
    def _constant_parameters(self) -> Iterator[None]:
        """Where only what depends on positions has a gradient."""
        trained = [parameter for parameter in self.parameters() if parameter.requires_grad]
        for parameter in trained:
            parameter.requires_grad_(False)
        try:
            yield
        finally:
            for parameter in trained:
                parameter.requires_grad_()

    def _energy(self, graphs: Graphs, r_KE3: Tensor) -> tuple[Tensor, Tensor, EdgeGeometry]:
        h_KNF, geometry = self.trunk(graphs.element_N, r_KE3, graphs.edges)
        return self.scale_ev * self.energy_head(h_KNF, graphs.graph_N, graphs.num_graphs), h_KNF, geometry
