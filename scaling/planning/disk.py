"""The disk that a run takes: its checkpoints while it trains, and the weights that it leaves."""

import math
from dataclasses import dataclass

from scaling.config import TrainConfig

FLOAT = 4
#: Checkpoints that a run in training keeps (`scaling/training/checkpoint.py`); one more is there while it is written.
KEPT = 2
#: Numbers for each parameter in a checkpoint, by ZeRO stage: weights and two moments; at stages 1 and 2 also the
#: optimiser's copy of the weights, which at stage 3 is the only one.
IN_CHECKPOINT = {0: 3, 1: 4, 2: 4, 3: 3}


@dataclass(frozen=True)
class Disk:
    """Bytes of a run's directory: training_bytes: at most, while it trains; kept_bytes: when it is done."""

    training_bytes: float
    kept_bytes: float


def disk_of(num_params: int, *, zero_stage: int, steps: int, train: TrainConfig) -> Disk:
    """What a run's files take, but for its log and metrics, and some ten kilobytes a checkpoint beside its numbers.

    Every validation may leave best weights, which stay until no checkpoint names them; of a run that is done only the
    best of them stay.
    """
    checkpoints = min((steps - 1) // train.checkpoint_every, KEPT + 1)
    since_the_last = math.ceil(min(train.checkpoint_every, steps) / train.validate_every)
    best = min(KEPT + since_the_last, math.ceil(steps / train.validate_every))
    weights = FLOAT * num_params
    return Disk(weights * (IN_CHECKPOINT[zero_stage] * checkpoints + best), weights)
