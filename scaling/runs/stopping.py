"""SIGTERM asks a run to stop: it ends behind its next step, with a checkpoint to go on from."""

import signal

_asked: list[int] = []


def listen() -> None:
    """From here on SIGTERM asks this process to stop, and no longer kills it."""
    signal.signal(signal.SIGTERM, lambda signum, _frame: _asked.append(signum))


def is_asked() -> bool:
    """Whether this process was asked to stop."""
    return bool(_asked)
