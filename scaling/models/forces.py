"""The whole potential: backbone, heads, and how forces come about.

Conservative forces F = -dE/dx enter the loss, so its gradient by the parameters contains second derivatives. They are
found without differentiating twice. With w = dL/dE and v = dL/dF,

    dL/dtheta = d/dtheta ( sum_G w E - dE(x; v) ),    dE(x; v): derivative of sum_G E along the direction v

so that a step takes two passes: the first computes E and F, from which come the loss, w and v; the second carries the
derivative along v forward with the values (K = 2), as tangents, and ends in a scalar whose ordinary gradient is the
loss's. Nothing is differentiated twice, so activation checkpointing saves what it promises, and every ZeRO stage works,
in which parameters are there for a layer's forward and a layer's backward only.

Shape suffixes: N atoms, E edges, G graphs, 3 Cartesian.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from scaling.models.ops import Edges
from scaling.parallel import Group, Share, divide, total


@dataclass(frozen=True)
class Graphs:
    """A batch of periodic graphs.

    element_N: index of each atom's element among the model's elements. x_N3: positions, angstrom. src_E, dst_E: atoms
    of each directed edge, sorted by dst_E. shift_E3: lattice translation of the source, angstrom. graph_N: the graph of
    each atom, in 0 .. num_graphs-1. share: the part that this rank works on, if others hold the rest; None: all.
    """

    element_N: Tensor
    x_N3: Tensor
    src_E: Tensor
    dst_E: Tensor
    shift_E3: Tensor
    graph_N: Tensor
    num_graphs: int
    share: Share | None = None

    def divided(self, group: Group) -> "Graphs":
        """The same batch, of which each rank of the group works on its share."""
        if group.size == 1:
            return self
        return replace(self, share=divide(self.src_E, self.dst_E, self.shift_E3, len(self.element_N), group))

    @cached_property
    def edges(self) -> Edges:
        """Which atoms edges join, and how the work on them is cut."""
        if self.share is None:
            return Edges(self.src_E, self.dst_E, len(self.element_N), self.shift_E3)
        s = self.share
        return Edges(s.src_e, s.dst_e, s.atoms.stop - s.atoms.start, self.shift_E3[s.edges], s)

    @cached_property
    def ends(self) -> Edges:
        """The rank's edges between atoms of the whole batch."""
        if self.share is None:
            return self.edges
        own = self.share.edges
        return Edges(self.src_E[own], self.dst_E[own], len(self.element_N))

    @property
    def atoms(self) -> slice:
        """The rank's own."""
        return slice(0, len(self.element_N)) if self.share is None else self.share.atoms

    @property
    def element_S(self) -> Tensor:
        """Elements of the atoms that the rank's edges begin at: its own, then its halo."""
        own = self.element_N[self.atoms]
        return own if self.share is None else torch.cat([own, self.element_N[self.share.halo_h]])

    def total(self, value: Tensor) -> Tensor:
        """The sum over the ranks that share the batch, on all of them (see `scaling.parallel.total`)."""
        return value if self.share is None else total(value, self.share.group)

    def tensors(self) -> list[Tensor]:
        """All it holds."""
        return [value for value in vars(self).values() if isinstance(value, Tensor)]

    def to(self, device: torch.device) -> "Graphs":
        """The same batch on another device."""
        assert self.share is None, "a batch is shared where it is computed"
        moved = {f.name: getattr(self, f.name) for f in fields(self)}
        return Graphs(**{k: v.to(device) if isinstance(v, Tensor) else v for k, v in moved.items()})


class Potential(nn.Module):
    """Energies (G,) eV and forces (N, 3) eV/angstrom of a batch.

    Energies leave out the reference energies of the elements, which are constants of the data, not of the network.
    Where ranks share a batch, all of them get the energies and forces of the whole.

    Args:
        backbone: maps (element_S, r_KE3, edges) to features and the edges' geometry. energy_head: maps these to
            energies of atoms (K, N). force_head: to forces (K, N, 3); None for conservative forces, -dE/dx.
        scale_ev: typical force in eV/angstrom; the network's outputs are multiplied by it.
    """

    def __init__(
        self, backbone: nn.Module, *, energy_head: nn.Module, force_head: nn.Module | None, scale_ev: float
    ) -> None:
        super().__init__()
        self.trunk = backbone  # weights are saved under this name
        self.energy_head = energy_head
        self.force_head = force_head
        self.scale_ev = scale_ev

    @property
    def is_conservative(self) -> bool:
        """Whether forces are the gradient of the energy; then a step of training takes `surrogate`."""
        return self.force_head is None

    def forward(
        self, graphs: Graphs, cotangents: tuple[Tensor, Tensor] | None = None, *, forces: bool = True
    ) -> tuple[Tensor, ...]:
        """Energies and forces; or, given `cotangents` of conservative ones, the scalar to differentiate instead.

        Args:
            cotangents: dL/dE (G,) and dL/dF (N, 3) at the energies and forces that were returned before.
            forces: False for energies alone.
        Returns:
            energies (G,) and forces (N, 3): differentiable by parameters if direct, constants if conservative;
            energies (G,) alone, differentiable by parameters;
            or a scalar whose gradient by the parameters is that of L: its own share of it, where ranks share a batch.
        """
        r_E3 = graphs.ends.differences(graphs.x_N3) + graphs.edges.shift_E3
        if not forces:
            return (graphs.total(self._energy(graphs, r_E3[None])[0][0]),)
        if self.force_head is not None:
            energy_KG, features, geometry = self._energy(graphs, r_E3[None])
            own_N3 = self.scale_ev * self.force_head(features, geometry)[0]
            if graphs.share is None:
                return energy_KG[0], own_N3
            before, after = graphs.atoms.start, len(graphs.x_N3) - graphs.atoms.stop
            return graphs.total(energy_KG[0]), graphs.total(F.pad(own_N3, (0, 0, before, after)))
        if cotangents is not None:
            energy_cotangent_G, force_cotangent_N3 = cotangents
            r_KE3 = torch.stack([r_E3, graphs.ends.differences(force_cotangent_N3)])
            energy_KG, _, _ = self._energy(graphs, r_KE3)
            return (energy_KG[0] @ energy_cotangent_G - energy_KG[1].sum(),)
        with torch.enable_grad(), self._constant_parameters():
            r_E3 = r_E3.detach().requires_grad_()
            energy_KG, _, _ = self._energy(graphs, r_E3[None])
            (gradient_E3,) = torch.autograd.grad(energy_KG.sum(), r_E3)
        return graphs.total(energy_KG[0].detach()), graphs.total(-graphs.ends.sum_ends(gradient_E3))

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

    def _energy(self, graphs: Graphs, r_KE3: Tensor) -> tuple[Tensor, Any, Any]:
        """(K, G) what the rank's own atoms add to each structure's energy, summed in fp32 at least."""
        features, geometry = self.trunk(graphs.element_S, r_KE3, graphs.edges)
        energy_KN = self.energy_head(features, geometry)
        energy_KN = energy_KN.to(torch.promote_types(energy_KN.dtype, torch.float32))
        energy_KG = energy_KN.new_zeros(len(energy_KN), graphs.num_graphs)
        return self.scale_ev * energy_KG.index_add(1, graphs.graph_N[graphs.atoms], energy_KN), features, geometry
