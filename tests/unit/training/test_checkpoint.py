"""Checkpoints are whole or not there."""

import json
import resource
import signal
from contextlib import contextmanager
from dataclasses import replace

import pytest
import torch

from scaling.config import RunConfig, ZeroConfig
from scaling.errors import RunError
from scaling.models import build
from scaling.models.egnn import EGNNConfig
from scaling.optim.config import AdamWConfig
from scaling.runs.identity import settings
from scaling.training.checkpoint import KEPT, Checkpoints, Progress
from scaling.training.engine import Engine
from scaling.training.world import World


def engine(seed: int = 0, width: int = 8) -> Engine:
    torch.manual_seed(seed)
    model = build(EGNNConfig(width=width), num_elements=3, cutoff_ang=4.0, mean_degree=20.0, scale_ev=1.0)
    return Engine(model, optim=AdamWConfig(), zero=ZeroConfig(), precision="fp32", world=World.join())


def checkpoints(tmp_path, one: Engine) -> Checkpoints:
    return Checkpoints(tmp_path / "checkpoints", one, RunConfig(), "digest")


def with_rate(lr: float) -> RunConfig:
    return replace(RunConfig(), optim=replace(RunConfig().optim, lr=lr))


def flat(one: Engine) -> torch.Tensor:
    return torch.cat([value.flatten() for value in one.weights().values()])


def test_newest_checkpoint_is_resumed_with_weights_and_progress(tmp_path):
    saved = engine(seed=1)
    for step in (10, 20, 30):
        checkpoints(tmp_path, saved).save(Progress(step=step, best_val_loss=0.5, metrics_bytes=7 * step))
    other = engine(seed=2)
    assert not torch.equal(flat(other), flat(saved)), "the control"
    assert checkpoints(tmp_path, other).resume() == Progress(step=30, best_val_loss=0.5, metrics_bytes=210)
    assert torch.equal(flat(other), flat(saved))


def test_old_checkpoints_and_best_weights_that_none_names_are_thinned(tmp_path):
    one = engine()
    kept = checkpoints(tmp_path, one)
    for step in (10, 20, 30, 40):
        kept.save_best(step)
        kept.save(Progress(step=step, best_step=step))
    names = sorted(path.name for path in kept.directory.iterdir())
    assert KEPT == 2
    assert names == ["best-00000030.safetensors", "best-00000040.safetensors", "step-00000030", "step-00000040"]


def test_torn_checkpoint_is_passed_over(tmp_path):
    one = engine(seed=1)
    kept = checkpoints(tmp_path, one)
    kept.save(Progress(step=10))
    kept.save(Progress(step=20))
    weights = max((kept.directory / "step-00000020").rglob("*.pt"), key=lambda path: path.stat().st_size)
    raw = bytearray(weights.read_bytes())
    raw[len(raw) // 2] ^= 1
    weights.write_bytes(raw)
    assert checkpoints(tmp_path, engine(seed=2)).resume().step == 10
    for path in (kept.directory / "step-00000010").rglob("*.json"):
        path.unlink()
    assert checkpoints(tmp_path, engine(seed=2)).resume().step == 0


def test_what_was_half_written_is_swept_away(tmp_path):
    kept = checkpoints(tmp_path, engine())
    (kept.directory / ".tmp-00000010").mkdir()
    (kept.directory / ".tmp-best").write_text("half")
    assert list(checkpoints(tmp_path, engine()).directory.iterdir()) == []


def test_checkpoint_of_another_stage_is_refused(tmp_path):
    checkpoints(tmp_path, engine()).save(Progress(step=10))
    other = engine()
    other.zero_stage = 2
    with pytest.raises(RunError, match=r"step-00000010 cannot be continued: zero\.stage = 0 there, 2 here; .*remove"):
        checkpoints(tmp_path, other).resume()


def test_checkpoint_of_another_computation_is_refused_with_the_difference(tmp_path):
    Checkpoints(tmp_path / "checkpoints", engine(), with_rate(0.1), "digest").save(Progress(step=10))
    other = Checkpoints(tmp_path / "checkpoints", engine(), with_rate(0.5), "digest")
    with pytest.raises(RunError, match=r"cannot be continued: optim\.lr = 0\.1 there, 0\.5 here; "):
        other.resume()


def test_seal_of_an_earlier_version_which_held_every_key_is_known(tmp_path):
    config = with_rate(0.1)
    kept = Checkpoints(tmp_path / "checkpoints", engine(), config, "digest")
    kept.save(Progress(step=10))
    path = kept.directory / "step-00000010" / "seal.json"
    seal = json.loads(path.read_text())
    assert "train.batch_size" not in seal["computation"]
    added_since = ("optim.name",)
    every_key = {key: value for key, value in settings(config).items() if key not in added_since}
    seal["computation"] = {**every_key, "model.num_params": None, "version": 3, "data_digest": "digest"}
    path.write_text(json.dumps(seal))
    assert Checkpoints(kept.directory, engine(), config, "digest").resume().step == 10
    with pytest.raises(RunError, match=r"optim\.lr = 0\.1 there, 0\.5 here; "):
        Checkpoints(kept.directory, engine(), with_rate(0.5), "digest").resume()


@contextmanager
def disk_that_is_full():
    """No file may grow beyond 1 kB, as if the disk were full; writes fail with the system's own error.

    The limit holds for the whole process, the test runner's own log too, so it must end inside the test.
    """
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1024, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)


def test_full_disk_leaves_the_previous_checkpoint_whole_and_says_so(tmp_path):
    one = engine(seed=1)
    kept = checkpoints(tmp_path, one)
    kept.save_best(10)
    kept.save(Progress(step=10, best_step=10, best_val_loss=1.0))
    with disk_that_is_full():
        with pytest.raises(RunError, match=r"cannot write .*step-00000020.*before it are whole"):
            kept.save(Progress(step=20))
        with pytest.raises(RunError, match=r"cannot write .*best-00000020"):
            kept.save_best(20)
    assert [path.name for path in sorted(kept.directory.iterdir())] == ["best-00000010.safetensors", "step-00000010"]
    assert checkpoints(tmp_path, engine(seed=2)).resume().step == 10


def test_best_weights_are_put_back_for_the_test(tmp_path):
    one, other = engine(seed=1), engine(seed=2)
    checkpoints(tmp_path, one).save_best(7)
    assert not torch.equal(flat(one), flat(other)), "the control"
    checkpoints(tmp_path, other).load_best(7)
    assert torch.equal(flat(one), flat(other))
