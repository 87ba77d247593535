"""How processes of a run begin and end with each other."""

import ctypes
import os
import signal
import sys

_libc = ctypes.CDLL(None) if sys.platform == "linux" else None


def die_with_parent(sign: signal.Signals) -> None:
    """Ask the kernel (Linux) to end this process when its parent dies, however it dies."""
    pr_set_pdeathsig = 1
    if _libc is not None:
        _libc.prctl(pr_set_pdeathsig, sign)


def let_children_die_with_me() -> None:
    """Loader processes, which are forked, shall not outlive a rank that is killed."""
    os.register_at_fork(after_in_child=lambda: die_with_parent(signal.SIGKILL))


def end_at_once(code: int = 0) -> None:
    """End a rank that has done its work without the interpreter's farewell: communication threads may abort in it."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
