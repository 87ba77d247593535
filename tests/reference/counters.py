"""Bytes of tensors at their peak, as a GPU's allocator would count them, and FLOPs: the same on any machine."""

import weakref
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter
from torch.utils.flop_counter import FlopCounterMode


class PeakTensors(TorchDispatchMode):
    """Within it, every storage is counted once from its first tensor to its last: `now` and `peak`, in bytes.

    What it does not see: buffers inside a kernel or a library (MKL, gloo), the allocator's rounding and fragments, and
    tensors made before or by other means than torch's operators, unless they are given as `alive`.
    """

    def __init__(self, alive: Iterable[Tensor] = ()) -> None:
        super().__init__()
        self.now = self.peak = 0
        self._known: set[int] = set()
        for tensor in alive:
            self._count(tensor)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run an operator and count what it returns."""
        out = func(*args, **(kwargs or {}))
        for value in tree_iter(out):
            if isinstance(value, Tensor) and value.device.type != "meta":
                self._count(value)
        return out

    def _count(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        key = storage._cdata
        if key in self._known:
            return
        size = storage.nbytes()
        self._known.add(key)
        self.now += size
        self.peak = max(self.peak, self.now)
        weakref.finalize(storage, self._forget, key, size).atexit = False

    def _forget(self, key: int, size: int) -> None:
        self._known.discard(key)
        self.now -= size


def matrix_flops(step: Callable[[], object]) -> int:
    """FLOPs of all products of matrices in a step, counted as they are done."""
    with FlopCounterMode(display=False, custom_mapping={torch.ops.aten.addmm_: _addmm_flops}) as counter:
        step()
    return counter.get_total_flops()


def _addmm_flops(total: Any, left: Any, right: Any, out_shape: Any = None, **kwargs: Any) -> int:
    """Torch's counter leaves out the product that is added in place."""
    return 2 * left[0] * left[1] * right[1]  # type: ignore[no-any-return]
