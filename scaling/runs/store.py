"""Runs are files: studies/NAME/RUN/{config.yaml, status.json, metrics.jsonl, result.json, checkpoints/}."""

import shutil
import time
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd

from scaling.config import RunConfig, read_config, to_yaml
from scaling.errors import ConfigError, RunError
from scaling.runs.claim import Claim, as_holder, holder
from scaling.runs.files import read_json, write_atomic, write_json
from scaling.runs.identity import settings as computed_settings
from scaling.runs.record import RunResult

STATES = ("waiting", "running", "done", "failed")
#: All that a run which is done keeps in checkpoints/: what evaluation needs.
BEST_WEIGHTS = "best.safetensors"
#: Keys that have columns of their own names since the first version; all others are named as they are.
COLUMNS = {
    "seed": "seed",
    "model.name": "model",
    "model.width": "width",
    "model.depth": "depth",
    "model.forces": "forces",
    "data.fraction": "fraction",
    "train.precision": "precision",
}


@dataclass(frozen=True)
class Status:
    """Where a run stands.

    failure: why it failed, in one line; cause: the kind of it; traceback: of the rank that failed first. attempts: how
    often it was started; fruitless: how many of the last ones ended without a checkpoint newer than `reached`, the one
    they began with. job: SLURM's id of the job that last worked on it.
    """

    state: str = "waiting"
    step: int = 0
    num_steps: int = 0
    failure: str = ""
    attempts: int = 0
    updated: float = 0.0
    cause: str = ""
    traceback: str = ""
    fruitless: int = 0
    reached: int = 0
    job: str = ""


class RunDir:
    """The directory of one run."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.run_id = path.name
        self.config_path = path / "config.yaml"
        self.metrics_path = path / "metrics.jsonl"
        self.result_path = path / "result.json"
        self.constants_path = path / "constants.json"
        self.checkpoints = path / "checkpoints"

    def config(self) -> RunConfig:
        """The run's configuration."""
        return read_config(self.config_path)

    def stage(self, config: RunConfig) -> None:
        """Write down what the run will compute; again if only its logistics changed, but not of a run done or held."""
        self.path.mkdir(parents=True, exist_ok=True)
        text = to_yaml(config)
        if self.config_path.exists():
            is_fixed = self.result_path.exists() or holder(self.path) is not None
            if is_fixed or self.config_path.read_text() == text:
                return
        write_atomic(self.config_path, text)

    def status(self) -> Status:
        """The last status written; a run is done when its result says so, and failed if a file of it is damaged."""
        try:
            if self.result_path.exists():
                steps = int(self.result().steps)
                written = self._written_or_none()
                return replace(written, state="done", step=steps, num_steps=steps, failure="", cause="", traceback="")
            status = self._written()
        except RunError as error:
            return Status("failed", failure=str(error))
        if status.state == "done":
            return Status("waiting", failure="its result.json was removed", attempts=status.attempts)
        if status.state == "running" and holder(self.path) is None:
            return replace(status, state="waiting", failure="interrupted")
        return status

    def write_status(self, state: str, **changes: Any) -> None:
        """Replace the status: what is not given stays, but for the reason of a failure.

        Raises:
            RunError: if this process held a claim, and lost it.
        """
        assert state in STATES, state
        before = self._written_or_none()
        reason = {"failure": "", "cause": "", "traceback": ""}
        status = replace(before, state=state, updated=time.time(), **{**reason, **changes})
        with as_holder(self.path):
            write_json(self.path / "status.json", asdict(status))

    def try_again(self) -> None:
        """Give a run that has failed new attempts, unless another process holds it."""
        if self.status().state != "done" and holder(self.path) is None and self.path.is_dir():
            self.write_status("waiting", fruitless=0, job="")

    def newest_checkpoint(self) -> int:
        """The step of the newest checkpoint, 0 if there is none."""
        return max((int(path.name.removeprefix("step-")) for path in self.checkpoints.glob("step-*")), default=0)

    def result(self) -> RunResult:
        """The result of a run that is done.

        Raises:
            RunError: if the file is not a whole result.
        """
        return read_json(self.result_path, lambda found: RunResult(**found), remedy="remove it to run again")

    def write_result(self, result: RunResult) -> None:
        """The last write of a run: it is done from here on.

        Raises:
            RunError: if this process held a claim, and lost it.
        """
        with as_holder(self.path):
            write_json(self.result_path, asdict(result))

    def tidy(self) -> None:
        """Finish what a run that is done was killed in; what cannot be removed is left to the next command."""
        has_best = (self.checkpoints / BEST_WEIGHTS).exists()
        left_over = [path for path in self.checkpoints.glob("*") if path.name != BEST_WEIGHTS] if has_best else []
        if not left_over and self._written().state == "done":
            return
        with suppress(OSError):
            claim = Claim.take(self.path)
            if claim is None:
                return
            with claim:
                steps = self.result().steps
                for path in left_over:
                    shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
                self.write_status("done", step=steps, num_steps=steps)

    def _written(self) -> Status:
        try:
            return read_json(
                self.path / "status.json",
                lambda found: Status(**found),
                remedy="remove it: the run goes on all the same",
            )
        except FileNotFoundError:
            return Status()

    def _written_or_none(self) -> Status:
        try:
            return self._written()
        except RunError:  # damaged
            return Status()

    def row(self) -> dict[str, Any]:
        """The run as one row of the study's table, done or not: a column for every key that changes the result."""
        status = self.status()
        standing = {"run_id": self.run_id, "study": self.path.resolve().parent.name}
        standing |= {"status": status.state, "failure": status.failure}
        result = self.result() if status.state == "done" else None
        try:
            settings = result.settings if result and result.settings else computed_settings(self.config())
        except (ConfigError, OSError) as error:
            if result is None:
                return {**standing, "status": "failed", "failure": str(error)}
            settings = {}
        columns = {COLUMNS.get(key, key): value for key, value in settings.items() if value is not None}
        return {**(result.row() if result else {}), **columns, **standing}


def run_dirs(study_dir: Path) -> list[RunDir]:
    """All runs of a study, by id.

    Raises:
        RunError: if there is no such study.
    """
    if not study_dir.is_dir():
        raise RunError(f"{study_dir} is not a directory; train first: python -m experiments.train study=NAME")
    paths = {
        path.parent for name in ("config.yaml", "status.json", "result.json") for path in study_dir.glob(f"*/{name}")
    }
    found = [RunDir(path) for path in sorted(paths)]
    if not found:
        raise RunError(f"{study_dir} holds no runs; train first: python -m experiments.train study=NAME")
    return found


def collect(study_dir: Path) -> pd.DataFrame:
    """One row a run: results of those that are done, standing and failure of the others."""
    rows = [run.row() for run in run_dirs(study_dir)]
    first = ["run_id", "study", "status", "failure"]
    table = pd.DataFrame(rows)
    return table[first + [column for column in table.columns if column not in first]]
