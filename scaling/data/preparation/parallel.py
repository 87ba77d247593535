"""Work shared by processes, with results in the order of the work."""

import itertools
import multiprocessing
import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.connection import wait
from typing import Any, TypeVar

from scaling.errors import DataError

T = TypeVar("T")
#: Tasks handed to each process before their results are taken.
TASKS_AHEAD = 4


def num_available_cores() -> int:
    """Cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def in_order(work: Callable[[Any], T], tasks: Iterable[Any], num_processes: int) -> Iterator[T]:
    """What `work` makes of each task, in order, a few tasks ahead of what is asked for; tasks may be without end.

    Args:
        num_processes: 0: one for each core that this process may use; 1: this process.

    Raises:
        DataError: if a process was killed; and whatever `work` raises.
    """
    num_processes = num_processes or num_available_cores()
    if num_processes == 1:
        yield from map(work, tasks)
        return
    # Forked from a server that has imported what is needed: one start-up for all, and no locks of other threads.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["scaling.data.preparation.block"])
    pool = ProcessPoolExecutor(num_processes, mp_context=context, initializer=_end_with_parent)
    coming, pending = iter(tasks), deque[Future[T]]()
    try:
        while True:
            for task in itertools.islice(coming, TASKS_AHEAD * num_processes - len(pending)):
                pending.append(pool.submit(work, task))
            if not pending:
                return
            yield pending.popleft().result()
    except BrokenProcessPool as error:
        raise DataError(
            "a process that read data was killed, perhaps for want of memory; give the command again, "
            f"with fewer than processes={num_processes}"
        ) from error
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def _end_with_parent() -> None:
    """Let this process end when the one that started it has been killed; by itself it would wait for work for ever."""
    parent = multiprocessing.parent_process()
    assert parent is not None, "only called in a pool's processes"

    def watch() -> None:
        wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
