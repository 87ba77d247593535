"""Checkpoints that are whole or not there: written aside, checksummed, renamed; a torn one is passed over."""

import errno
import hashlib
import json
import os
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from scaling.errors import RunError
from scaling.runs.files import write_json
from scaling.training.engine import Engine

KEPT = 2
BEST = "best.safetensors"


@dataclass(frozen=True)
class Progress:
    """Where a run is: everything besides weights and optimiser that its future depends on.

    step: steps done. best_step, best_val_loss: of the best weights so far (-1: none). metrics_bytes: length of
    metrics.jsonl. seconds: spent computing.
    """

    step: int = 0
    best_step: int = -1
    best_val_loss: float = float("inf")
    metrics_bytes: int = 0
    seconds: float = 0.0


class Checkpoints:
    """The checkpoints of one run, in its `checkpoints/` directory."""

    def __init__(self, directory: Path, engine: Engine, *, run_id: str) -> None:
        self.directory = directory
        self.engine = engine
        self.run_id = run_id
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
        try:
            self.engine.save(temporary)
            self.engine.world.barrier()
            if self._is_first:
                self._seal(temporary, progress)
                os.replace(temporary, final)
                _sync_directory(self.directory)
                self._thin(progress)
        except (OSError, RuntimeError) as error:
            if isinstance(error, RuntimeError) and not _is_write_failure(error):
                raise
            if self._is_first:
                shutil.rmtree(temporary, ignore_errors=True)
            raise RunError(
                f"cannot write checkpoint {final}: {_reason(error, self.directory)}; the checkpoints before it are whole: free some space "
                "and give the same command again"
            ) from error
        self.engine.world.barrier()

    def resume(self) -> Progress:
        """Load the newest whole checkpoint into the engine, or begin at the beginning.

        Raises:
            RunError: if a checkpoint was written by another number of ranks or ZeRO stage.
        """
        for path in sorted(self.directory.glob("step-*"), reverse=True):
            seal = _read_seal(path)
            if seal is None:
                continue
            here = self._partition()
            if seal["partition"] != here:
                raise RunError(
                    f"{path} was written with {seal['partition']}, now it is {here}: go on as before, or remove "
                    f"{self.directory} to begin again"
                )
            self.engine.load(path)
            return Progress(**seal["progress"])
        return Progress()

    def save_best(self, step: int) -> None:
        """Keep the weights of this step for the test."""
        weights = self.engine.weights()
        if self._is_first:
            final = self._best_path(step)
            temporary = final.with_name(f".tmp-{final.name}")
            try:
                save_file({name: value.contiguous().cpu() for name, value in weights.items()}, temporary)
                os.replace(temporary, final)
            except Exception as error:
                temporary.unlink(missing_ok=True)
                if isinstance(error, OSError) or "o space left" in str(error):
                    raise RunError(f"cannot write {final}: {_reason(error, self.directory)}; free some space and give the same command again") from error
                raise
        self.engine.world.barrier()

    def load_best(self, step: int) -> None:
        """Put the weights that `save_best` kept into the engine's network."""
        self.engine.set_weights(load_file(self._best_path(step), device=str(self.engine.world.device)))

    def publish_best(self, step: int) -> None:
        """Give the best weights their final name, `best.safetensors`."""
        if self._is_first:
            temporary = self.directory / ".tmp-best"
            temporary.unlink(missing_ok=True)
            os.link(self._best_path(step), temporary)
            os.replace(temporary, self.directory / BEST)

    def clear(self) -> None:
        """A run that is done needs only its best weights."""
        if self._is_first:
            for path in self.directory.iterdir():
                if path.is_dir():
                    shutil.rmtree(path)
                elif path.name != BEST:
                    path.unlink()

    def _best_path(self, step: int) -> Path:
        return self.directory / f"best-{step:08d}.safetensors"

    def _partition(self) -> dict[str, int]:
        return {"ranks": self.engine.world.size, "zero_stage": self.engine.zero_stage}

    def _seal(self, path: Path, progress: Progress) -> None:
        files = {str(p.relative_to(path)): _sha256(p) for p in sorted(path.rglob("*")) if p.is_file()}
        seal = {"run_id": self.run_id, "partition": self._partition(), "progress": asdict(progress), "sha256": files}
        if progress.best_step < 0:
            seal["progress"]["best_val_loss"] = None
        write_json(path / "seal.json", seal)

    def _thin(self, progress: Progress) -> None:
        steps = sorted(self.directory.glob("step-*"))
        for old in steps[:-KEPT]:
            shutil.rmtree(old)
        still_named = {seal["progress"]["best_step"] for path in steps[-KEPT:] if (seal := _read_seal(path, verify=False))}
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
    if seal["progress"]["best_val_loss"] is None:
        seal["progress"]["best_val_loss"] = float("inf")
    return seal  # type: ignore[no-any-return]


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sync_directory(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _is_write_failure(error: RuntimeError) -> bool:
    """torch's zip writer reports a full disk as a RuntimeError of its own."""
    return any(word in str(error) for word in ("PytorchStreamWriter", "unexpected pos", "file write", "No space left"))


def _reason(error: Exception, directory: Path) -> str:
    if isinstance(error, OSError) and error.errno is not None:
        return os.strerror(error.errno)
    if shutil.disk_usage(directory).free < 2**20:
        return os.strerror(errno.ENOSPC)
    return str(error).splitlines()[0]
