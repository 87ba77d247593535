"""Rows of tensors between the ranks of a group, differentiable, in flight while a rank computes."""

from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.autograd.function import once_differentiable

from scaling.parallel.groups import Group


@dataclass(frozen=True)
class Exchange:
    """Which rows go where. send_X: rows to send, by receiver; num_sent, num_received: to and from each rank."""

    send_X: Tensor
    num_sent: list[int]
    num_received: list[int]
    group: Group

    def start(self, value_NKF: Tensor) -> "Arrival":
        """Begin to send rows of a tensor (N, ...); every rank of the group takes part."""
        return Arrival(self, value_NKF.index_select(0, self.send_X))


class Arrival:
    """Rows in flight; the gradient of what arrives goes back the same way."""

    def __init__(self, exchange: Exchange, sent_XKF: Tensor) -> None:
        self._forth = _Transfer(exchange.num_sent, exchange.num_received, exchange.group)
        self._back = _Transfer(exchange.num_received, exchange.num_sent, exchange.group)
        self._sent_XKF = _Start.apply(sent_XKF, self._forth, self._back)

    def wait(self) -> Tensor:
        """The rows that have come, in order of their senders."""
        return _Wait.apply(self._sent_XKF, self._forth, self._back)  # type: ignore[no-any-return]


class _Transfer:
    """One all-to-all of rows."""

    def __init__(self, num_sent: list[int], num_received: list[int], group: Group) -> None:
        self.num_sent, self.num_received, self.group = num_sent, num_received, group

    def start(self, rows: Tensor) -> Tensor:
        """Returns the rows received, which are there after `wait`."""
        rows = rows.contiguous()
        received = rows.new_empty(sum(self.num_received), *rows.shape[1:])
        self._kept = rows  # until they have left
        self._work = dist.all_to_all_single(
            received, rows, self.num_received, self.num_sent, group=self.group.processes, async_op=True
        )
        self.received = received
        return received

    def wait(self) -> Tensor:
        self._work.wait()
        received = self.received
        del self._kept, self._work, self.received
        return received


class _Start(torch.autograd.Function):
    """Forward: begins to send rows. Backward: waits for their gradient, which `_Wait.backward` began to send."""

    @staticmethod
    def forward(ctx: Any, sent: Tensor, forth: _Transfer, back: _Transfer) -> Tensor:  # type: ignore[override]
        ctx.back = back
        forth.start(sent)
        return sent.view_as(sent)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, _unfinished: Tensor) -> Any:  # type: ignore[override]
        return ctx.back.wait(), None, None


class _Wait(torch.autograd.Function):
    """Forward: waits for rows. Backward: begins to send their gradient, and returns it before it has come."""

    @staticmethod
    def forward(ctx: Any, sent: Tensor, forth: _Transfer, back: _Transfer) -> Tensor:  # type: ignore[override]
        ctx.back = back
        return forth.wait()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Any:  # type: ignore[override]
        return ctx.back.start(grad), None, None


def total(value: Tensor, group: Group) -> Tensor:
    """The sum over a group's ranks, on all of them; its gradient is each rank's own.

    For what all ranks go on computing alike, such as the loss: the gradients of parameters then add up over the ranks.
    """
    return value if group.size == 1 else _Total.apply(value, group)  # type: ignore[no-any-return]


class _Total(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, value: Tensor, group: Group) -> Tensor:  # type: ignore[override]
        summed = value.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(summed, group=group.processes)
        return summed

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Any:  # type: ignore[override]
        return grad, None
