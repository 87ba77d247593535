"""SiLU of values, or of values and their tangents, with its derivative written out.

Shape suffixes: K 1 (values) or 2 (values and their tangents), N rows, F features. Inside, a quantity is a sequence of
its value and, if K = 2, its tangent.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F


def silu_rows(z: Sequence[Tensor]) -> list[Tensor]:
    """SiLU of a value and, if there is one, its tangent."""
    value = F.silu(z[0])
    return [value] if len(z) == 1 else [value, torch.ops.aten.silu_backward(z[1], z[0])]


class Silu:
    """SiLU where it is differentiated: once for values, twice for tangents."""

    def __init__(self, z: Sequence[Tensor]) -> None:
        self.z = z
        if len(z) == 2:
            self.s = torch.sigmoid(z[0])
            ds = torch.addcmul(self.s, self.s, self.s, value=-1)
            bend = z[0] * ds
            self.slope = self.s + bend
            self.bend = bend.addcmul_(self.s, bend, value=-2).add_(ds, alpha=2)  # z s'' + 2 s'

    def values(self) -> list[Tensor]:
        """SiLU of the value and, if there is one, its tangent."""
        return [F.silu(self.z[0])] if len(self.z) == 1 else [self.z[0] * self.s, self.slope * self.z[1]]

    def backward(self, grad: list[Tensor]) -> list[Tensor]:
        """The gradient of z from that of the values."""
        if len(self.z) == 1:
            return [torch.ops.aten.silu_backward(grad[0], self.z[0])]
        return [(grad[0] * self.slope).addcmul_(grad[1] * self.z[1], self.bend), grad[1] * self.slope]


class _SiluOfBoth(torch.autograd.Function):
    """SiLU of values and tangents."""

    @staticmethod
    def forward(ctx: Any, z_KNF: Tensor) -> Tensor:  # type: ignore[override]
        ctx.save_for_backward(z_KNF)
        return torch.stack(silu_rows(z_KNF.unbind()))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_KNF: Tensor) -> Tensor:  # type: ignore[override]
        (z_KNF,) = ctx.saved_tensors
        return torch.stack(Silu(z_KNF.unbind()).backward(list(grad_KNF)))


def silu(z_KNF: Tensor) -> Tensor:
    """SiLU of values, or of values and tangents."""
    return F.silu(z_KNF) if len(z_KNF) == 1 else _SiluOfBoth.apply(z_KNF)  # type: ignore[no-any-return]
