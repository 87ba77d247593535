"""A run killed at any one of its durable writes and started again ends with the bits of an undisturbed one."""

import os

from omegaconf import OmegaConf

from experiments.train import stage
from scaling.config import validated
from scaling.launch.worker import work
from tests.ranks import forkserver

SETTINGS = [
    *["model.width=4", "train.batch_size=4", "optim.lr=0.02", "study.name=tiny"],
    *["train.budget.amount=6", "train.validate_every=3", "train.checkpoint_every=2"],
]


def staged(tiny_data, root):
    (run,) = stage([validated(OmegaConf.from_dotlist([*SETTINGS, f"data.path={tiny_data}", f"study.root={root}"]))])
    return run


def work_until_write(run, nth: int) -> None:
    """Compute the run, and die as by kill -9 right before the nth rename."""
    replace, seen = os.replace, 0

    def deadly(source, target):
        nonlocal seen
        seen += 1
        if seen == nth:
            os._exit(137)
        replace(source, target)

    os.replace = deadly
    work(run)


def compute(run, nth: int = 10**9) -> int:
    process = forkserver().Process(target=work_until_write, args=(run, nth))
    process.start()
    process.join()
    return process.exitcode


def test_run_killed_at_any_write_ends_with_the_same_bits(tiny_data, tmp_path):
    undisturbed = staged(tiny_data, tmp_path / "undisturbed")
    assert compute(undisturbed) == 0
    nth = 1
    while compute(run := staged(tiny_data, tmp_path / f"{nth}"), nth) == 137:
        assert compute(run) == 0
        assert run.result().test_loss == undisturbed.result().test_loss
        assert run.metrics_path.read_text() == undisturbed.metrics_path.read_text()
        nth += 1
    assert nth > 9, "best weights, two checkpoints and their seals, the published weights, result and status"
