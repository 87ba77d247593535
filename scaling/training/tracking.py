"""Where a run reports how it goes: metrics.jsonl always, and one more tracker if `tracking.name` names one.

A new tracker is one entry of TRACKERS.
"""

import json
import math
import numbers
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from scaling.config import TrackingConfig
from scaling.errors import ConfigError


class Tracker(Protocol):
    """What follows a run; only the first rank has one."""

    def log(self, step: int, values: dict[str, Any]) -> None:
        """Take what is known after a step: numbers, and lists of structures."""

    def close(self) -> None:
        """Write down what is left."""


class MetricsLog:
    """metrics.jsonl: one JSON object a line; on resumption cut back to where the checkpoint was."""

    def __init__(self, path: Path, *, keep_bytes: int) -> None:
        self._file = path.open("ab")
        self._file.truncate(keep_bytes)
        self._file.seek(0, os.SEEK_END)

    def log(self, step: int, values: dict[str, Any]) -> None:
        """Append one line; a number that is not finite becomes null."""
        line = {"step": step, **values}
        line = {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in line.items()}
        self._file.write((json.dumps(line, allow_nan=False) + "\n").encode())
        self._file.flush()

    def num_bytes(self) -> int:
        """Length so far, all of it on the disk."""
        os.fsync(self._file.fileno())
        return self._file.tell()

    def close(self) -> None:
        """Close the file."""
        self._file.close()


class TensorBoard:
    """Event files in RUN/tensorboard, for `tensorboard --logdir studies/NAME`."""

    def __init__(self, run: Path, first_step: int) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise ConfigError(
                f"tracking.name=tensorboard needs a package that cannot be imported ({error}); "
                "pip install 'gnn-scaling[tensorboard]', or set tracking.name=none"
            ) from error
        self._writer = SummaryWriter(run / "tensorboard", purge_step=first_step)  # type: ignore[no-untyped-call]

    def log(self, step: int, values: dict[str, Any]) -> None:
        """Add a point to the curve of each number."""
        for name, value in values.items():
            if isinstance(value, numbers.Real):
                self._writer.add_scalar(name, value, step)  # type: ignore[no-untyped-call]

    def close(self) -> None:
        """Write down what is left."""
        self._writer.close()  # type: ignore[no-untyped-call]


#: By name, what makes a tracker of a run's directory and of the first step that it will be given.
TRACKERS: dict[str, Callable[[Path, int], Tracker]] = {"tensorboard": TensorBoard}


def build_tracker(config: TrackingConfig, run: Path, first_step: int) -> Tracker | None:
    """The tracker that a run's configuration names, besides metrics.jsonl.

    Raises:
        ConfigError: if there is none of this name, or a package of it is missing.
    """
    if config.name == "none":
        return None
    if config.name not in TRACKERS:
        raise ConfigError(f"tracking.name={config.name} must be one of none, {', '.join(TRACKERS)}")
    return TRACKERS[config.name](run, first_step)


class Trackers:
    """All trackers of a run: of the first rank; the others have none."""

    def __init__(self, metrics: MetricsLog | None, other: Tracker | None) -> None:
        self._metrics = metrics
        self._all: list[Tracker] = [tracker for tracker in (metrics, other) if tracker is not None]

    @classmethod
    def build(cls, config: TrackingConfig, run: Path, *, step: int, keep_bytes: int, is_first: bool) -> "Trackers":
        """Open the trackers of the first rank.

        Args:
            step: steps that are done. keep_bytes: of metrics.jsonl, which is cut back to them.
        """
        if not is_first:
            return cls(None, None)
        other = build_tracker(config, run, step + 1)
        return cls(MetricsLog(run / "metrics.jsonl", keep_bytes=keep_bytes), other)

    def log(self, step: int, **values: Any) -> None:
        """Report what is known after a step."""
        for tracker in self._all:
            tracker.log(step, values)

    def num_bytes(self) -> int:
        """Length of metrics.jsonl, all of it on the disk; 0 where there is none."""
        return self._metrics.num_bytes() if self._metrics is not None else 0

    def close(self) -> None:
        """Write down what is left."""
        for tracker in self._all:
            tracker.close()
