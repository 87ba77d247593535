"""Ranks without torchrun: forked from one server that has imported torch and deepspeed, which take seconds."""

import importlib
import multiprocessing
import multiprocessing.forkserver
import os
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.context import ForkServerContext
from multiprocessing.process import BaseProcess
from pathlib import Path

PRELOAD = ["scaling.data.preparation.block", "scaling.training.loop"]


def forkserver() -> ForkServerContext:
    """The one server of this process, from which commands run in it fork their runs too."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOAD)
    multiprocessing.forkserver.ensure_running()
    return context


def run_ranks(module: str, ranks: int, *arguments: str, log: Path) -> list[int]:
    """Exit codes of a number of ranks of `module.main`; pytest's time limit holds. Arguments: as of `started_ranks`."""
    with started_ranks(module, ranks, *arguments, log=log) as processes:
        for process in processes:
            process.join()
        return [process.exitcode for process in processes]


@contextmanager
def started_ranks(module: str, ranks: int, *arguments: str, log: Path) -> Iterator[list[BaseProcess]]:
    """A number of ranks of `module.main`, each in the world that torchrun would give it; those left are killed.

    They are forked from this process's server, so that none has to import torch.
    """
    context = forkserver()
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    common = {"WORLD_SIZE": ranks, "LOCAL_WORLD_SIZE": ranks, "MASTER_ADDR": "localhost", "MASTER_PORT": port}
    processes = []
    try:
        for rank in range(ranks):
            world = {**common, "RANK": rank, "LOCAL_RANK": rank, "GROUP_RANK": 0, "TORCHELASTIC_RUN_ID": "tests"}
            world = {name: str(value) for name, value in world.items()}
            processes.append(context.Process(target=_rank, args=(module, arguments, world, log)))
            processes[-1].start()
        yield processes
    finally:
        for process in processes:
            process.kill()
            process.join()


def _rank(module: str, arguments: tuple[str, ...], world: dict[str, str], log: Path) -> None:
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    os.environ.update(world)
    sys.argv = [module, *arguments]
    importlib.import_module(module).main()
