"""How well runs beyond an origin were predicted."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Score:
    """How one fit predicted the runs beyond its origin.

    Attributes:
        axis, size: of the origin.
        rmse: root mean square of log of predicted over observed loss.
        coverage: share of the held-out runs inside their 95 % interval; None where none was made.
    """

    axis: str
    size: float
    num_fitted: int
    num_held_out: int
    rmse: float
    coverage: float | None = None


def mean_rmse(scores: Sequence[Score]) -> float:
    """Error of log loss on held-out runs, mean over the origins; NaN without scores."""
    return float(np.mean([score.rmse for score in scores])) if scores else float("nan")


def mean_coverage(scores: Sequence[Score]) -> float | None:
    """Share of the held-out runs inside their interval, all origins together; None unless each has one."""
    shares = [score.coverage for score in scores if score.coverage is not None]
    if not shares or len(shares) < len(scores):
        return None
    return float(np.average(shares, weights=[score.num_held_out for score in scores]))


def difference(one: Sequence[Score], other: Sequence[Score]) -> tuple[float, float]:
    """Mean difference of the errors and its standard error over the origins; infinite for a single origin."""
    apart = np.array([a.rmse - b.rmse for a, b in zip(one, other, strict=True)])
    error = float(apart.std(ddof=1) / np.sqrt(len(apart))) if len(apart) > 1 else float("inf")
    return float(apart.mean()), error
