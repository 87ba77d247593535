"""Quantities that carry their tangent: derivatives along a direction of the positions (see scaling/models/forces.py).

The first axis of a quantity has K = 1 rows (its values) or 2 (values and their tangents). Linear maps act on each row;
`product` is the rule for what is bilinear, `along` that for functions of the positions.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager

import torch
from torch import Tensor


def product(operation: Callable[[Tensor, Tensor], Tensor], x_K: Tensor, y_K: Tensor) -> Tensor:
    """A bilinear operation on values, and Leibniz's rule on their tangents."""
    value = operation(x_K[0], y_K[0])
    if len(x_K) == 1:
        return value[None]
    return torch.stack([value, operation(x_K[0], y_K[1]) + operation(x_K[1], y_K[0])])


def along(function: Callable[[Tensor], tuple[Tensor, ...]], r_KE3: Tensor) -> tuple[Tensor, ...]:
    """Functions of the edges' vectors, and their derivatives along the vectors' tangents, which are constants."""
    if len(r_KE3) == 1:
        return tuple(value[None] for value in function(r_KE3[0]))
    with torch.no_grad():
        values, tangents = torch.func.jvp(function, (r_KE3[0],), (r_KE3[1],))
    return tuple(torch.stack(pair) for pair in zip(values, tangents, strict=True))


def constant(value: Tensor, num_rows: int) -> Tensor:
    """A value that does not depend on positions, with its tangent if K = 2."""
    return value[None] if num_rows == 1 else torch.stack([value, torch.zeros_like(value)])


def exact(value_K: Tensor) -> AbstractContextManager[None]:
    """Where products are taken in the precision of their factors, whatever autocast says: those with directions."""
    return torch.autocast(value_K.device.type, enabled=False)  # type: ignore[no-any-return]
