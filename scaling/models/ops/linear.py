"""Linear layers that keep the size of a signal, at any width."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

#: 1 / sqrt(E[SiLU(z)^2]) for standard normal z: what a layer that follows a SiLU multiplies its input by.
AFTER_SILU = 1.6791767


def normal(*shape: int, std: float = 1.0) -> nn.Parameter:
    """Random numbers of this size, drawn on the CPU whatever the device, so that every machine begins alike.

    On the meta device nothing is drawn.
    """
    if torch.get_default_device().type == "meta":
        return nn.Parameter(torch.empty(*shape))
    return nn.Parameter(torch.randn(*shape, device="cpu") * std)


class Embedding(nn.Module):
    """A row of numbers for each element."""

    def __init__(self, num_elements: int, width: int) -> None:
        super().__init__()
        self.weight = normal(num_elements, width)

    def forward(self, element_N: Tensor) -> Tensor:
        """Returns (N, F)."""
        return F.embedding(element_N, self.weight)


class Linear(nn.Module):
    """A layer whose outputs begin `gain` times the size of its inputs (root mean square); biases begin at zero.

    PyTorch's own initialisation shrinks a signal by 0.58 a layer; after this network's half a dozen of them the forces
    would begin a thousand times too small.

    Source: He et al., "Delving Deep into Rectifiers", ICCV 2015, eq. 10, with the constant of SiLU.
    """

    def __init__(self, num_in: int, num_out: int, *, gain: float = 1.0, bias: bool = True) -> None:
        super().__init__()
        self.weight = normal(num_out, num_in, std=gain / math.sqrt(num_in))
        self.bias = nn.Parameter(torch.zeros(num_out)) if bias else None

    def forward(self, x_KNI: Tensor) -> Tensor:
        """Returns (K, N, O) for values (K = 1), or values and tangents (K = 2), to which a bias adds nothing."""
        if len(x_KNI) == 1 or self.bias is None:
            return F.linear(x_KNI, self.weight, self.bias)
        y_KNO = F.linear(x_KNI, self.weight)
        # autocast has no say in a sum: a bias in fp32 would make it fp32
        return y_KNO + F.pad(self.bias[None, None].to(y_KNO.dtype), (0, 0, 0, 0, 0, 1))
