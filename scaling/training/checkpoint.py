"""Checkpoints that are whole or not there: written aside, checksummed, renamed; a torn one is passed over."""

import errno
import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from safetensors import safe_open
from safetensors.torch import save_file

from scaling.config import RunConfig
from scaling.errors import RunError
from scaling.runs import BEST_WEIGHTS, computation, sync_directory, sync_file, unchanged, write_json
from scaling.training.engine import Engine
from scaling.training.guard import LossHistory

KEPT = 2
#: Libraries report a full disk in words of their own; with less than this left it is full.
FULL_BYTES = 2**20


@dataclass(frozen=True)
class Progress:
    """Where a run is: everything besides weights and optimiser that its future depends on.

    step: steps done. best_step, best_val_loss: of the best weights so far (-1, None: none). metrics_bytes: length of
    metrics.jsonl. loss_sum: of the steps since the last line there. seconds: spent computing. history, spikes: of the
    loss, and how often it stood out.
    """

    step: int = 0
    best_step: int = -1
    best_val_loss: float | None = None
    metrics_bytes: int = 0
    loss_sum: float = 0.0
    seconds: float = 0.0
    history: LossHistory = field(default_factory=LossHistory)
    spikes: int = 0

    @classmethod
    def read(cls, saved: dict[str, Any]) -> "Progress":
        """The inverse of `asdict`."""
        return cls(**{**saved, "history": LossHistory(**saved["history"])})


class Checkpoints:
    """The checkpoints of one run, in its `checkpoints/` directory."""

    def __init__(self, directory: Path, engine: Engine, config: RunConfig, data_digest: str) -> None:
        self.directory = directory
        self.engine = engine
        self.computation = computation(config, data_digest)
        self._unchanged = unchanged(config)
        self._is_first = engine.world.rank == 0
        if self._is_first:
            directory.mkdir(exist_ok=True)
            for left_over in directory.glob(".tmp-*"):
                shutil.rmtree(left_over) if left_over.is_dir() else left_over.unlink()
        engine.world.barrier()

    def save(self, progress: Progress) -> None:
        """Write a checkpoint, then forget all but the newest `KEPT`.

        Raises:
            RunError: if it cannot be written, e.g. on a full disk; the previous ones stay whole.
        """
        temporary = self.directory / f".tmp-{progress.step:08d}"
        final = self.directory / f"step-{progress.step:08d}"
        if self._is_first:
            shutil.rmtree(temporary, ignore_errors=True)
            shutil.rmtree(final, ignore_errors=True)
            temporary.mkdir()
        self.engine.world.barrier()
        with self._explained(final, temporary):
            self.engine.save(temporary)
            self.engine.world.barrier()
            if self._is_first:
                self._seal(temporary, progress)
                os.replace(temporary, final)
                sync_directory(self.directory)
                self._thin(progress)
        self.engine.world.barrier()

    def resume(self) -> Progress:
        """Load the newest whole checkpoint into the engine, or begin at the beginning.

        Raises:
            RunError: if a checkpoint is of another computation, or of another ZeRO stage.
        """
        for path in sorted(self.directory.glob("step-*"), reverse=True):
            seal = _read_seal(path)
            if seal is None:
                continue
            self._refuse_unlike(path, seal)
            if seal["partition"] == self._partition():
                self.engine.load(path)
            else:
                self._load_by_other_ranks(path)
            return Progress.read(seal["progress"])
        return Progress()

    def _refuse_unlike(self, path: Path, seal: dict[str, Any]) -> None:
        # Seals of before 2026-12 hold every key, whether it was set or not.
        written = seal.get("computation", {}).items()
        there = {key: value for key, value in written if value is not None and value != self._unchanged.get(key)}
        here = dict(self.computation)
        there["zero.stage"], here["zero.stage"] = seal["partition"]["zero_stage"], self.engine.zero_stage
        unlike = [key for key in sorted(there.keys() | here.keys()) if there.get(key) != here.get(key)]
        if unlike:
            differences = ", ".join(f"{key} = {there.get(key)} there, {here.get(key)} here" for key in unlike)
            raise RunError(
                f"{path} cannot be continued: {differences}; go on as it was begun, or remove {self.directory} "
                "to begin again"
            )

    def _load_by_other_ranks(self, path: Path) -> None:
        whole = self.directory / f".tmp-whole-{path.name}"
        if self._is_first:
            shutil.rmtree(whole, ignore_errors=True)
            whole.mkdir()
        self.engine.world.barrier()
        self.engine.load(path, by_other_ranks=whole)
        self.engine.world.barrier()
        if self._is_first:
            shutil.rmtree(whole)

    def save_best(self, step: int) -> None:
        """Keep the weights of this step for the test."""
        self._save_weights(self._best_path(step))

    def load_best(self, step: int) -> None:
        """Put the weights that `save_best` kept into the engine's network."""
        with safe_open(self._best_path(step), "pt") as file:
            self.engine.set_weights(file.get_tensor)

    def publish_best(self, step: int) -> None:
        """Give the best weights their final name; `RunDir.tidy` then removes all else."""
        if self._is_first:
            temporary = self.directory / ".tmp-best"
            temporary.unlink(missing_ok=True)
            os.link(self._best_path(step), temporary)
            os.replace(temporary, self.directory / BEST_WEIGHTS)

    def _save_weights(self, final: Path) -> None:
        weights = self.engine.weights()
        if self._is_first:
            temporary = final.with_name(f".tmp-{final.name}")
            with self._explained(final, temporary):
                save_file(weights, temporary)
                sync_file(temporary)
                os.replace(temporary, final)
        self.engine.world.barrier()

    def _best_path(self, step: int) -> Path:
        return self.directory / f"best-{step:08d}.safetensors"

    def _partition(self) -> dict[str, int]:
        return {"ranks": self.engine.world.size, "zero_stage": self.engine.zero_stage}

    @contextmanager
    def _explained(self, final: Path, temporary: Path) -> Iterator[None]:
        """Sweep away what was half written; a failure to write, e.g. on a full disk, becomes a RunError."""
        try:
            yield
        except Exception as error:
            if temporary.is_dir():
                shutil.rmtree(temporary)
            else:
                temporary.unlink(missing_ok=True)
            if not _is_write_failure(error):
                raise
            is_full = shutil.disk_usage(self.directory).free < FULL_BYTES
            reason = os.strerror(errno.ENOSPC) if is_full else str(error).strip().splitlines()[0]
            raise RunError(
                f"cannot write {final}: {reason}; the checkpoints before it are whole: make room and give the same "
                "command again"
            ) from error

    def _seal(self, path: Path, progress: Progress) -> None:
        files = {str(p.relative_to(path)): _sha256(p) for p in sorted(path.rglob("*")) if p.is_file()}
        seal = {
            "computation": self.computation,
            "partition": self._partition(),
            "progress": asdict(progress),
            "sha256": files,
        }
        write_json(path / "seal.json", seal)

    def _thin(self, progress: Progress) -> None:
        steps = sorted(self.directory.glob("step-*"))
        for old in steps[:-KEPT]:
            shutil.rmtree(old)
        seals = [_read_seal(path, verify=False) for path in steps[-KEPT:]]
        still_named = {seal["progress"]["best_step"] for seal in seals if seal}
        for path in self.directory.glob("best-*.safetensors"):
            if int(path.stem.split("-")[1]) not in still_named | {progress.best_step}:
                path.unlink()


def _read_seal(path: Path, *, verify: bool = True) -> dict | None:  # type: ignore[type-arg]
    """The seal of a whole checkpoint; None if it is torn."""
    try:
        seal = json.loads((path / "seal.json").read_text())
        if verify and any(_sha256(path / name) != digest for name, digest in seal["sha256"].items()):
            return None
    except (OSError, json.JSONDecodeError, KeyError):
        return None
    return seal  # type: ignore[no-any-return]


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _is_write_failure(error: Exception) -> bool:
    """Torch and safetensors report the system's errors in words of their own."""
    words = ("os error", "I/O error", "PytorchStreamWriter", "unexpected pos", "file write failed", "No space left")
    return isinstance(error, OSError) or any(word in str(error) for word in words)
