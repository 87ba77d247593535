"""A family of networks that the product does not know: all that a new one needs, in one file and one line.

python -m tests.reference.toy_family COMMAND [arguments]     (a command of experiments, in which `model=toy` is known)
"""

import runpy
import sys
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from scaling.models.config import FAMILIES, ModelConfig, Parts
from scaling.models.heads import DirectForceHead, EnergyHead
from scaling.models.ops.edges import Edges
from scaling.models.ops.geometry import EdgeGeometry, RadialBasis
from scaling.models.ops.linear import Embedding, Linear
from scaling.models.ops.messages import MessageNet
from scaling.models.ops.tangents import constant

FAMILIES["toy"] = "tests.reference.toy_family:ToyConfig"  # the line


@dataclass(frozen=True)
class ToyConfig(ModelConfig):
    """Each atom reads its neighbours once. num_bumps: radial functions of an edge. hidden_width: 0: 2 width."""

    name: str = "toy"
    num_bumps: int = 4
    hidden_width: int = 0

    def sized(self) -> "ToyConfig":
        """See `ModelConfig.sized`."""
        return type(self)(**{**vars(self), "hidden_width": self.hidden_width or 2 * self.width})

    def parts(self, *, num_elements: int, cutoff_ang: float, mean_degree: float, checkpointing: int) -> Parts:
        """See `ModelConfig.parts`."""
        backbone = Backbone(self, num_elements=num_elements, cutoff_ang=cutoff_ang)
        force_head = DirectForceHead(self.hidden_width, self.num_bumps) if self.forces == "direct" else None
        return backbone, EnergyHead(self.hidden_width), force_head

    def training_flops(self, *, num_atoms: float, num_edges: float) -> float:
        """See `ModelConfig.training_flops`."""
        return 6 * self.width * (num_edges * self.num_bumps + num_atoms * self.hidden_width)

    def activation_bytes(
        self, checkpointing: int, *, num_atoms: float, num_edges: float, block_numbers: int
    ) -> tuple[float, float]:
        """See `ModelConfig.activation_bytes`."""
        return 40 * num_edges * self.width, 0.0


class Backbone(nn.Module):
    """Elements gathered over neighbours."""

    def __init__(self, config: ToyConfig, *, num_elements: int, cutoff_ang: float) -> None:
        super().__init__()
        self.basis = RadialBasis(config.num_bumps, cutoff_ang)
        self.embedding = Embedding(num_elements, config.width)
        self.messages = MessageNet(config.width, config.num_bumps, second=False, sums=True, move_gain=None)
        self.out = Linear(config.width, config.hidden_width)

    def forward(self, element_S: Tensor, r_KE3: Tensor, edges: Edges) -> tuple[Tensor, EdgeGeometry]:
        """Returns the features (K, N, F) and the edges' geometry."""
        g = EdgeGeometry.of(r_KE3, edges, self.basis)
        h_KSF = constant(self.embedding(element_S), len(r_KE3))
        ends_KMF = torch.cat([h_KSF[:, : edges.num_atoms], h_KSF], dim=1)
        sum_KNF, _ = self.messages(ends_KMF, g.radial_KRE, None, g.envelope_KE, g.unit_KE3, edges)
        return self.out(sum_KNF), g


if __name__ == "__main__":
    module = sys.argv.pop(1)
    sys.argv[0] = module
    runpy.run_module(module, run_name="__main__", alter_sys=False)
