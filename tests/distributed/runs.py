"""Runs of one or more ranks, forked."""

from pathlib import Path

from omegaconf import OmegaConf

from experiments.train import stage
from scaling.config import validated
from scaling.runs.store import RunDir
from tests.ranks import run_ranks


def staged(data: Path, root: Path, *overrides: str) -> RunDir:
    """One run, written down."""
    (run,) = stage([validated(OmegaConf.from_dotlist([f"data.path={data}", f"study.root={root}", *overrides]))])
    return run


def trained(run: RunDir) -> RunDir:
    """Compute it, by as many ranks as it says, from its newest checkpoint."""
    log, ranks = run.path / "log.txt", run.config().launcher.ranks
    assert run_ranks("scaling.launch.worker", ranks, str(run.path), log=log) == [0] * ranks, log.read_text()
    return run
