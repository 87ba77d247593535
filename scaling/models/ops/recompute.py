"""Activation checkpointing."""

from collections.abc import Callable
from typing import Any

import torch
from torch.utils.checkpoint import checkpoint


def recomputed(layer: Callable[..., Any], index: int, checkpointing: int, *inputs: Any) -> Any:
    """What a layer gives; its activations are computed again in backward if it is one of every `checkpointing`."""
    if checkpointing and index % checkpointing == 0 and torch.is_grad_enabled():
        return checkpoint(layer, *inputs, use_reentrant=False)
    return layer(*inputs)
