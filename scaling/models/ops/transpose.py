"""Linear maps that come in pairs, each the transpose of the other."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

Map = Callable[[Tensor], Tensor]


class _Linear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, value: Tensor, of: Map, transposed: Map) -> Tensor:  # type: ignore[override]
        ctx.maps = of, transposed
        return of(value)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:  # type: ignore[override]
        of, transposed = ctx.maps
        return linear_map(grad, transposed, of), None, None


def linear_map(value: Tensor, of: Map, transposed: Map) -> Tensor:
    """The map `of` the value, where autograd is given the derivative: the transposed map, whose derivative is `of`."""
    return _Linear.apply(value, of, transposed)  # type: ignore[no-any-return]
