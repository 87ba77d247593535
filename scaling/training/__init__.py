"""One run: what it learns from, its loss, its steps, and what it leaves behind.

`Engine`, `construction` and `train` bring DeepSpeed, which takes seconds, and are imported when they are asked for.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from scaling.training.batch import to_graphs
from scaling.training.constants import Constants, require_own_data
from scaling.training.losses import Errors, Loss
from scaling.training.memory import most_edges, peak_bytes
from scaling.training.metrics import METRICS, Means, Sums
from scaling.training.task import Task, count_edges
from scaling.training.world import World

if TYPE_CHECKING:
    from scaling.training.engine import Engine, construction
    from scaling.training.loop import train

__all__ = [
    "METRICS",
    "Constants",
    "Engine",
    "Errors",
    "Loss",
    "Means",
    "Sums",
    "Task",
    "World",
    "construction",
    "count_edges",
    "most_edges",
    "peak_bytes",
    "require_own_data",
    "to_graphs",
    "train",
]

_ON_DEMAND = {"Engine": "engine", "construction": "engine", "train": "loop"}


def __getattr__(name: str) -> Any:
    if name not in _ON_DEMAND:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_ON_DEMAND[name]}"), name)
