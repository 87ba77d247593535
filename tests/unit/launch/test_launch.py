"""Runs end with a reason, whatever kills them, and leave no process behind."""

import json
import os
import signal
import subprocess
import sys
import time
import uuid
from contextlib import suppress
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path

import pytest

from experiments.launchers import execute
from experiments.train import stage
from scaling.config import BudgetConfig, DataConfig, LauncherConfig, RunConfig, StudyConfig, TrainConfig
from scaling.errors import RunError
from scaling.launch.attempt import MAX_FRUITLESS, _killed_rank
from scaling.launch.pool import Event, _Active, _settle, slots
from scaling.models.egnn import EGNNConfig
from scaling.runs.claim import Claim, holder
from scaling.runs.failure import Failure, failure_path
from scaling.runs.store import RunDir
from tests.conftest import ROOT
from tests.ranks import run_ranks

FOREVER = TrainConfig(budget=BudgetConfig(amount=1_000_000), batch_size=2, checkpoint_every=1_000_000)

COMPUTE = """
import json, sys
from pathlib import Path
from scaling.launch.pool import run_all
from scaling.runs.store import RunDir

for event in run_all([RunDir(Path(path)) for path in sys.argv[1:]], slots=[""], threads=1):
    if event.run:
        print(json.dumps([event.state, event.failure]), flush=True)
"""


class Study:
    """A process that computes runs; it and all that descends from it are known by a mark in their environment."""

    def __init__(self, *paths: Path) -> None:
        self.mark = f"STUDY_MARK={uuid.uuid4()}"
        environment = {**os.environ, **dict([self.mark.split("=")])}
        self.process = subprocess.Popen(
            [sys.executable, "-c", COMPUTE, *map(str, paths)],
            cwd=ROOT,
            env=environment,
            stdout=subprocess.PIPE,
            text=True,
        )

    def events(self) -> list[list[str]]:
        return [json.loads(line) for line in self.process.communicate(timeout=120)[0].splitlines()]

    def living(self, *words: str) -> list[int]:
        """Processes of the study that live and have these words in their command line or environment."""
        found = []
        for proc in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                described = (proc / "cmdline").read_bytes() + b"\0" + (proc / "environ").read_bytes()
                is_zombie = (proc / "stat").read_text().rpartition(")")[2].split()[0] in "ZX"
                if not is_zombie and {self.mark, *words} <= set(described.decode(errors="replace").split("\0")):
                    found.append(int(proc.name))
        return found

    def ends(self, *words: str) -> bool:
        """Whether all its processes go by themselves, soon even on a busy machine; what they compute has no end."""
        began = time.monotonic()
        while self.living(*words) and time.monotonic() < began + 20:
            time.sleep(0.1)
        return not self.living(*words)


@pytest.fixture
def study():
    """Starts studies, and leaves none of their processes behind."""
    started = []

    def start(*paths: Path) -> Study:
        started.append(Study(*paths))
        return started[-1]

    yield start
    for each in started:
        for pid in each.living():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        each.process.communicate()


@pytest.fixture
def endless(tiny_data, tmp_path) -> RunDir:
    """A run of two ranks with a loader process each that goes on until it is killed."""
    config = RunConfig(
        data=DataConfig(path=str(tiny_data), num_workers=1),
        model=EGNNConfig(width=4),
        train=FOREVER,
        launcher=LauncherConfig(ranks=2),
        study=StudyConfig(root=str(tmp_path / "studies")),
    )
    (run,) = stage([config])
    return run


def wait_for_a_step(run: RunDir, study: Study) -> None:
    deadline = time.monotonic() + 100
    while run.status().step == 0:
        assert study.process.poll() is None, (run.path / "log.txt").read_text()
        assert time.monotonic() < deadline, (run.path / "log.txt").read_text()
        time.sleep(0.1)


RANK = ("-u", "scaling.launch.worker")  # a loader process looks the same: it is forked from its rank
AGENT = ("torch.distributed.run",)
linux = pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells processes of their parents' death")


def wait_for_attempt(run: RunDir, attempt: int) -> None:
    deadline = time.monotonic() + 100
    while run.status().attempts < attempt or run.status().state != "running":
        assert time.monotonic() < deadline, (run.path / "log.txt").read_text()
        time.sleep(0.05)


@pytest.mark.long
@linux
def test_killed_rank_is_named_with_its_signal_and_the_run_is_tried_again(endless, study):
    first = study(endless.path)
    wait_for_a_step(endless, first)
    (rank_1,) = set(first.living(*RANK, "RANK=1")) - set(loaders(first))
    os.kill(rank_1, signal.SIGKILL)
    wait_for_attempt(endless, 2)
    assert "rank 1 ended early (killed by SIGKILL; out of memory?)" in (endless.path / "log.txt").read_text()


def test_rank_that_torchrun_calls_the_root_cause_is_told_and_not_one_that_it_killed_itself(tmp_path):
    log = tmp_path / "log.txt"
    entry = "  rank      : {0} (local_rank: {0})\n  exitcode  : {1} (pid: 5467)  (SIGKILL)\n"
    log.write_text("Failures:\n" + entry.format(0, -9) + "Root Cause (first observed failure):\n" + entry.format(1, -9))
    assert _killed_rank(log, 0).message.startswith("rank 1 ended early (killed by SIGKILL")


@pytest.mark.long
@linux
def test_ranks_do_not_outlive_a_killed_torchrun(endless, study):
    first = study(endless.path)
    wait_for_a_step(endless, first)
    (agent,) = first.living(*AGENT)
    ranks = first.living(*RANK)
    assert len(loaders(first)) == 2
    os.kill(agent, signal.SIGKILL)
    wait_for_attempt(endless, 2)
    assert not set(ranks) & set(first.living(*RANK))
    assert "torchrun ended early (killed by SIGKILL" in (endless.path / "log.txt").read_text()


def test_run_that_is_killed_again_and_again_without_getting_further_is_given_up(tiny_data, tmp_path, study):
    (run,) = stage(
        [
            RunConfig(
                data=DataConfig(path=str(tiny_data)),
                model=EGNNConfig(width=4),
                train=FOREVER,
                study=StudyConfig(root=str(tmp_path)),
            )
        ]
    )
    only = study(run.path)
    for attempt in range(1, MAX_FRUITLESS + 1):
        wait_for_attempt(run, attempt)
        os.kill(holder(run.path)["pid"], signal.SIGKILL)
    ((state, failure),) = only.events()
    assert state == "failed"
    assert "killed by SIGKILL" in failure
    assert (run.status().attempts, run.status().cause) == (MAX_FRUITLESS, "killed")


def stop_and_resume(run: RunDir, study: Study) -> None:
    """Ask a run to stop, and see it go on from its last step."""
    wait_for_a_step(run, study)
    os.kill(holder(run.path)["pid"], signal.SIGTERM)
    log, deadline = run.path / "log.txt", time.monotonic() + 100
    while "resumed at step" not in log.read_text() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert f"stopped at step {run.newest_checkpoint()} of" in log.read_text()
    assert f"resumed at step {run.newest_checkpoint()}" in log.read_text()


@pytest.mark.long
@linux
def test_run_of_one_rank_asked_to_stop_goes_on_from_its_last_step(tiny_data, tmp_path, study):
    config = RunConfig(
        data=DataConfig(path=str(tiny_data)),
        model=EGNNConfig(width=4),
        train=FOREVER,
        study=StudyConfig(root=str(tmp_path)),
    )
    (run,) = stage([config])
    stop_and_resume(run, study(run.path))


@linux
def test_run_asked_to_stop_goes_on_from_its_last_step_and_a_killed_study_leaves_no_process_behind(endless, study):
    first = study(endless.path)
    stop_and_resume(endless, first)
    deadline = time.monotonic() + 100
    while len(loaders(first)) < 2 and time.monotonic() < deadline:
        time.sleep(0.05)
    assert len(loaders(first)) == 2
    first.process.kill()
    first.process.wait()
    assert first.ends()
    assert endless.status().failure == "interrupted"


def loaders(study: Study) -> list[int]:
    """Loader processes: children of ranks that look like ranks."""
    ranks = study.living(*RANK)
    parents = {}
    for pid in ranks:
        with suppress(OSError):
            parents[pid] = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    return [pid for pid, parent in parents.items() if parent in ranks]


def test_run_that_cannot_write_a_file_fails_with_its_name(tmp_path, study):
    run = RunDir(tmp_path / "run")
    run.stage(RunConfig())
    (run.path / "log.txt").mkdir()
    failure = f"{run.path / 'log.txt'}: Is a directory"
    assert study(run.path).events() == [["failed", failure]]
    status = run.status()
    assert (status.state, status.failure, status.attempts) == ("failed", failure, 1)


def test_rank_that_cannot_leave_its_reason_still_says_it_and_fails(tmp_path):
    run = RunDir(tmp_path / "run")
    run.stage(replace(RunConfig(), data=DataConfig(path=str(tmp_path / "nowhere"))))
    failure_path(run, 0).mkdir()
    log = tmp_path / "log.txt"
    assert run_ranks("scaling.launch.worker", 1, str(run.path), log=log) == [1]
    assert "error: " in log.read_text()
    assert "nowhere" in log.read_text()
    assert "Traceback" not in log.read_text()


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (RunError("diverged at step 7\n  on these structures"), "diverged at step 7 on these structures"),
        (OSError(28, "No space left on device", "r/metrics.jsonl"), "r/metrics.jsonl: No space left on device"),
        (OSError(28, "No space left on device"), "r: No space left on device"),
        (KeyError("x\ny"), "KeyError: 'x\\ny'; see r/log.txt"),
        (ValueError("two\nlines"), "ValueError: two lines; see r/log.txt"),
    ],
)
def test_reason_of_a_failure_is_one_line(error, line):
    assert Failure.of(error, RunDir(Path("r"))).message == line


@pytest.fixture
def died(tmp_path) -> _Active:
    """A run whose process died without a word."""
    run = RunDir(tmp_path / "run")
    run.stage(RunConfig())
    run.write_status("running", step=3, num_steps=9, attempts=1, fruitless=1)
    context = get_context("fork")
    process = context.Process(target=os._exit, args=(3,))
    process.start()
    process.join()
    return _Active(run, "", process, context.Pipe(duplex=False)[0], log_bytes=0)


def test_process_that_died_without_a_word_has_failed(died):
    assert "exit code 3" in _settle(died).failure.message
    status = died.run.status()
    assert (status.state, status.step, status.num_steps, status.attempts) == ("failed", 3, 9, 1)
    assert not (died.run.path / "claim.json").exists()


def test_failure_is_not_written_over_a_run_that_another_process_goes_on_with(died):
    with Claim.take(died.run.path):
        assert _settle(died).state == "held"
        assert died.run.status().state == "running"


def test_failure_that_cannot_be_written_is_told_all_the_same(died):
    died.run.path.rename(died.run.path.with_name("gone"))
    outcome = _settle(died)
    assert outcome.state == "failed"
    assert "exit code 3" in outcome.failure.message
    assert "No such file" in outcome.failure.message


def test_command_for_the_cpu_sees_no_gpus_and_does_not_load_torch():
    code = (
        "import sys; from scaling.launch.pool import slots; from scaling.config import RunConfig\n"
        "assert set(slots(RunConfig())) == {''}; assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


def test_runs_that_take_all_threads_have_one_slot(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    sizes = {threads: len(slots(replace(RunConfig(), train=TrainConfig(num_threads=threads)))) for threads in (0, 1, 4)}
    assert sizes == {0: 1, 1: 8, 4: 2}


def test_failure_that_says_nothing_and_one_of_many_lines_are_shown(died, monkeypatch, capsys):
    ended = [Event(died.run, "failed", ""), Event(died.run, "failed", "first\nlast\n\n")]
    monkeypatch.setattr("experiments.launchers.run_all", lambda *_, **__: iter(ended))
    assert execute([died.run], RunConfig()) == 2
    shown = capsys.readouterr()
    assert "last" in shown.out + shown.err
