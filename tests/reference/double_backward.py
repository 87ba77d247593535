"""The same network left to autograd: forces by create_graph=True, their gradient by differentiating twice.

What the product is measured against, in equality (tests) and in memory and time (experiments/bench).
"""

from torch import Tensor, autograd, enable_grad
from torch.nn import functional as F

from scaling.models.forces import Graphs, Potential
from scaling.models.ops.edges import Edges
from scaling.models.ops.geometry import RadialBasis
from scaling.models.ops.messages import MessageNet


def left_to_autograd(potential: Potential) -> Potential:
    """Turn a network into one with the same parameters and values, every derivative of which autograd works out."""
    for module in potential.modules():
        for written_out, plain in ((Potential, _Potential), (RadialBasis, _RadialBasis), (MessageNet, _MessageNet)):
            if type(module) is written_out:
                module.__class__ = plain
    return potential


class _Potential(Potential):
    @property
    def is_conservative(self) -> bool:  # its forces are differentiable: no second pass
        return False

    def forward(self, graphs: Graphs, cotangents: tuple[Tensor, Tensor] | None = None) -> tuple[Tensor, ...]:
        assert cotangents is None, "forces can be differentiated: give the loss to backward"
        if self.force_head is not None:
            return super().forward(graphs)
        with enable_grad():
            x_N3 = graphs.x_N3.detach().requires_grad_()
            energy_KG, _, _ = self._energy(graphs, (graphs.ends.differences(x_N3) + graphs.edges.shift_E3)[None])
            (gradient_N3,) = autograd.grad(energy_KG.sum(), x_N3, create_graph=True)
        return energy_KG[0], -gradient_N3


class _RadialBasis(RadialBasis):
    def forward(self, length_E: Tensor) -> tuple[Tensor, Tensor]:
        return self.values_and_slopes(length_E)[:2]


class _MessageNet(MessageNet):
    def forward(
        self,
        ends_KMF: Tensor,
        radial_KRE: Tensor,
        moved_KE: Tensor | None,
        envelope_KE: Tensor,
        unit_KE3: Tensor,
        edges: Edges,
    ) -> tuple[Tensor | None, Tensor | None]:
        dst_NF, src_NF = ends_KMF[0].chunk(2)
        z_EF = radial_KRE[0].t() @ self.first[: radial_KRE.shape[1]]
        z_EF = z_EF + dst_NF.index_select(0, edges.dst_E) + src_NF.index_select(0, edges.src_E)
        if moved_KE is not None:
            z_EF = z_EF + moved_KE[0][:, None] * self.first[-1]
        m_EF = F.silu(z_EF)
        if self.second is not None:
            m_EF = F.silu(m_EF @ self.second + self.bias)
        m_EF = m_EF * envelope_KE[0][:, None]
        sum_NF = m_EF.new_zeros(dst_NF.shape).index_add(0, edges.dst_E, m_EF)
        if self.move is None:
            return sum_NF[None], None
        pull_E3 = (m_EF @ self.move)[:, None] * unit_KE3[0]
        moved_N3 = pull_E3.new_zeros(len(dst_NF), 3).index_add(0, edges.dst_E, pull_E3)
        return sum_NF[None], moved_N3[None]
