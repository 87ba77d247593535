"""A run before it exists: its memory, FLOPs, device-hours and disk, and the ways to save memory that it needs."""

from scaling.planning.batches import backward, random_graphs
from scaling.planning.data import Data, data_of
from scaling.planning.device import GIB, planned_device
from scaling.planning.fit import fitted, with_ranks
from scaling.planning.rate import MEASURED_WIDTHS, Rate, measure_rate
from scaling.planning.run import plan_run
from scaling.planning.ways import is_given

__all__ = [
    "GIB",
    "MEASURED_WIDTHS",
    "Data",
    "Rate",
    "backward",
    "data_of",
    "fitted",
    "is_given",
    "measure_rate",
    "plan_run",
    "planned_device",
    "random_graphs",
    "with_ranks",
]
