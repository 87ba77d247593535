"""Studies on a real SLURM: the same numbers as on this machine, whatever happens to ranks, jobs, nodes and people."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest

from scaling.runs.store import RunDir, run_dirs
from tests.conftest import ROOT, run_command
from tests.slurm.conftest import PATIENCE_S, wait_until

pytestmark = [pytest.mark.slurm, pytest.mark.timeout(600)]

#: What differs between two computations of the same run.
NOT_A_RESULT = ["study", "wall_s", "device_hours", "peak_memory_bytes"]
GRID = [
    *["-m", "model.width=4,6", "train.budget.amount=400", "train.batch_size=4", "train.validate_every=100"],
    "train.checkpoint_every=20",
]
SITE = [
    *["launcher=slurm_cpu", "launcher.slurm.cpus_per_rank=1", "launcher.slurm.mem_gb_per_rank=1"],
    *["launcher.slurm.ranks_per_node=1", "launcher.slurm.jobs=0"],
]


def where(data: Path, root: Path, name: str) -> list[str]:
    return [f"data.path={data}", f"study.root={root}", f"study.name={name}"]


def losses(study_dir: Path) -> dict[str, float]:
    return {run.run_id: run.result().test_loss for run in run_dirs(study_dir)}


def statuses(study_dir: Path) -> dict[str, dict]:
    said = run_command("experiments.status", str(study_dir), "--json")
    return json.loads(said.stdout)["runs"]


@pytest.fixture(scope="module")
def local(data, tmp_path_factory):
    """Test losses of the grid, computed on this machine by a number of ranks."""
    found: dict[int, dict[str, float]] = {}

    def compute(ranks: int) -> dict[str, float]:
        if ranks not in found:
            root = tmp_path_factory.mktemp("local")
            done = run_command("experiments.train", *GRID, f"launcher.ranks={ranks}", *where(data, root, "local"))
            assert done.returncode == 0, done.stderr
            found[ranks] = losses(root / "local")
        return found[ranks]

    return compute


class Study:
    """The grid as a study on the cluster."""

    def __init__(self, cluster, data: Path, root: Path, name: str, *overrides: str) -> None:
        self.cluster, self.name, self.path = cluster, name, root / name
        self.arguments = [*GRID, *SITE, *where(data, root, name), *overrides]

    def submit(self) -> subprocess.CompletedProcess:
        done = run_command("experiments.train", *self.arguments)
        assert done.returncode == 0, done.stderr
        return done

    def runs(self) -> list[RunDir]:
        return run_dirs(self.path)

    def wait_for_checkpoints(self) -> None:
        """Until every run has one."""
        wait_until(lambda: all(run.newest_checkpoint() > 0 for run in self.runs()), "checkpoints")

    def finish(self, patience_s: float = PATIENCE_S) -> dict[str, float]:
        self.cluster.drain(self.name, patience_s)
        assert {run.status().state for run in self.runs()} == {"done"}, statuses(self.path)
        return losses(self.path)


@pytest.fixture
def study(cluster, data, tmp_path, request):
    """Makes studies; their jobs do not outlive the test."""
    made = []

    def make(*overrides: str) -> Study:
        name = request.node.name.removeprefix("test_")[:24]
        made.append(Study(cluster, data, tmp_path, name, *overrides))
        return made[-1]

    yield make
    for each in made:
        jobs = cluster.jobs(each.name)
        if jobs:
            subprocess.run(["scancel", *jobs], check=False)
            cluster.drain(each.name)


def rank_processes(rank: int) -> list[int]:
    """Ranks of jobs, by what stands in their environment; loaders have none here."""
    found = []
    for proc in Path("/proc").glob("[0-9]*"):
        try:
            words = (proc / "environ").read_bytes().split(b"\0")
            command = (proc / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if b"scaling.launch.worker" in command and f"RANK={rank}".encode() in words and b"-u" in command:
            found.append(int(proc.name))
    return found


INSIDE_AN_ALLOCATION = {
    "SLURM_MEM_PER_CPU": "2048",
    "SLURM_CPU_BIND": "cores",
    "SLURM_TRES_PER_TASK": "cpu:1",
    "SLURM_CPUS_PER_TASK": "7",
    "SBATCH_PARTITION": "nowhere",
    "SBATCH_EXPORT": "NONE",
    "WORLD_SIZE": "3",
    "RANK": "1",
    "OMPI_COMM_WORLD_SIZE": "3",
    "PMI_RANK": "1",
}


@pytest.mark.parametrize("options", [[], ['launcher.slurm.options=["--export=NONE"]']])
def test_study_submitted_from_inside_a_job_runs_as_from_outside(study, options, monkeypatch):
    two_nodes = ["launcher.ranks=2", "launcher.slurm.ranks_per_node=1", "launcher.slurm.mem_gb_per_rank=0.5"]
    one = study("model.width=4", "data.fraction=0.5", "train.budget.amount=10", *two_nodes, *options)
    for name, value in INSIDE_AN_ALLOCATION.items():
        monkeypatch.setenv(name, value)
    said = one.submit().stdout
    assert "not handed on to the jobs: SBATCH_EXPORT=NONE, SBATCH_PARTITION=nowhere" in said
    for name in INSIDE_AN_ALLOCATION:
        monkeypatch.delenv(name)
    assert len(one.finish()) == 1


@pytest.mark.long
def test_study_of_one_and_two_node_jobs_gives_the_table_of_the_local_one(cluster, data, tmp_path):
    grid = ["-m", "data.fraction=0.25,0.5,1.0", "seed=0,1", "train.budget.amount=40", "train.batch_size=4"]
    grid += ["train.validate_every=20"]
    memory = "plan.device_memory_gib=0.021"  # too little for the wide network on one rank
    for ranks, width in ((1, 4), (2, 256)):  # as the plan below spreads them
        given = [
            f"model.width={width}",
            f"launcher.ranks={ranks}",
            "zero=auto",
            memory,
            *where(data, tmp_path, "local"),
        ]
        done = run_command("experiments.train", *grid, *given)
        assert done.returncode == 0, done.stdout + done.stderr
    planned = ["model.width=4,256", "launcher.ranks=0", memory, "launcher.slurm.wait=true", "launcher.slurm.jobs=2"]
    done = run_command("experiments.train", *grid, *SITE, *planned, *where(data, tmp_path, "far"))
    assert done.returncode == 0, done.stdout + done.stderr
    tables = []
    for name in ("local", "far"):
        assert run_command("experiments.collect", str(tmp_path / name)).returncode == 0
        tables.append(pd.read_parquet(tmp_path / name / "runs.parquet").set_index("run_id").drop(columns=NOT_A_RESULT))
    assert len(tables[0]) == 12
    assert sorted(tables[0]["world_size"].unique()) == [1, 2]
    shapes = {json.loads(path.read_text())["nodes"] for path in (tmp_path / "far" / "slurm").glob("*/job.json")}
    assert shapes == {1, 2}
    pd.testing.assert_frame_equal(tables[0].sort_index(), tables[1].sort_index(), check_exact=True)


@pytest.mark.long
def test_killed_rank(study, local):
    one = study("launcher.ranks=2")
    one.submit()
    one.wait_for_checkpoints()
    os.kill(rank_processes(1)[0], signal.SIGKILL)
    assert one.finish() == local(2)
    assert sorted(run.status().attempts for run in one.runs()) == [1, 2]


@pytest.mark.long
def test_cancelled_job(study, local):
    """Its run is taken over by another job, or, if there is none, by the next submission."""
    one = study()
    one.submit()
    one.wait_for_checkpoints()
    subprocess.run(["scancel", *one.cluster.jobs(one.name)], check=True)
    one.cluster.drain(one.name)
    for status in statuses(one.path).values():
        assert (status["state"], status["job_state"]) == ("waiting", "CANCELLED")
        assert "to go on from there" in status["failure"] or "cancelled" in status["failure"]
    one.submit()
    assert one.finish() == local(1)


@pytest.mark.long
def test_crashed_node(study, local, cluster):
    one = study("launcher.ranks=2")
    one.submit()
    one.wait_for_checkpoints()
    try:
        cluster.crash("n1")
        wait_until(lambda: not rank_processes(0) or len(rank_processes(0)) < 2, "the ranks of a node to die")
    finally:
        cluster.up()
    assert one.finish() == local(2)
    assert max(run.status().attempts for run in one.runs()) >= 2


@pytest.mark.long
def test_preempted_job(study, local):
    one = study("launcher.slurm.stop_s=30")
    one.submit()
    one.wait_for_checkpoints()
    node = subprocess.run(
        ["squeue", "-h", "-j", one.runs()[0].status().job, "-o", "%N"], capture_output=True, text=True, check=True
    ).stdout.strip()
    dear = ["sbatch", "-p", "hi", "--exclusive", "-w", node, "-o", "/dev/null", "--wrap", "sleep 3"]
    subprocess.run(dear, check=True, capture_output=True)
    assert one.finish() == local(1)
    assert max(run.status().attempts for run in one.runs()) >= 2
    assert any("stopped at step" in (run.path / "log.txt").read_text() for run in one.runs())


@pytest.mark.long
def test_restarted_controller(study, local, cluster):
    one = study()
    one.submit()
    one.wait_for_checkpoints()
    cluster.restart_controller()
    assert one.finish() == local(1)
    assert {run.status().attempts for run in one.runs()} == {1}


def test_killed_submitter(study, local, cluster):
    one = study("launcher.slurm.wait=true")
    command = [sys.executable, "-m", "experiments.train", *one.arguments]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        wait_until(lambda: cluster.jobs(one.name), "the submission")
        process.kill()
    assert one.finish() == local(1)
    assert {run.status().attempts for run in one.runs()} == {1}


def test_two_people_at_once(study, local):
    one = study()
    command = [sys.executable, "-m", "experiments.train", *one.arguments]
    both = [subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    said = [process.communicate()[0] for process in both]
    assert sum("submitted: nothing" in text for text in said) == 1
    assert one.finish() == local(1)
    assert {run.status().attempts for run in one.runs()} == {1}


POISON = """
import importlib.abc, importlib.util, os, sys

class Finder(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name != "scaling.training.loop":
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        load = spec.loader.exec_module
        def exec_module(module):
            load(module)
            run = module.Trainer.run
            def poisoned(self):
                if self.config.model.width == 6:
                    POISONED
                return run(self)
            module.Trainer.run = poisoned
        spec.loader.exec_module = exec_module
        return spec

sys.meta_path.insert(0, Finder())
"""


def poison(folder: Path, deed: str) -> str:
    """An override with which the run of width 6 does this deed on the nodes, before it trains."""
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(POISON.replace("POISONED", deed))
    return f"launcher.slurm.setup=['export PYTHONPATH={folder}:$PYTHONPATH']"


@pytest.mark.long
def test_time_limit_reached_twice(study, local, tmp_path):
    """A minute is the shortest limit, and SLURM gives its signal up to half a minute earlier than it was asked to.

    The first two attempts are too slow for any limit, however late its signal; the third is not.
    """
    slowly = "import time; step = self._step; self._step = lambda *given: (time.sleep(0.5), step(*given))[1]"
    twice = f"if self.run_dir.status().attempts <= 2: {slowly}"
    one = study("launcher.slurm.time_min=1", "launcher.slurm.stop_s=25", poison(tmp_path / "p", twice))
    one.submit()
    assert one.finish(patience_s=400) == local(1)
    assert max(run.status().attempts for run in one.runs()) >= 3
    assert max((run.path / "log.txt").read_text().count("stopped at step") for run in one.runs()) >= 2


@pytest.mark.long
def test_exception_in_rank_1_alone(study, local, tmp_path):
    one = study("launcher.ranks=2", poison(tmp_path / "p", "assert os.environ.get('RANK') != '1', 'poisonous'"))
    began = time.monotonic()
    one.submit()
    one.cluster.drain(one.name)
    found = {"-w6-" in run_id: status for run_id, status in statuses(one.path).items()}
    assert (found[True]["state"], found[True]["cause"], found[True]["attempts"]) == ("failed", "exception", 1)
    assert "AssertionError: poisonous" in found[True]["failure"]
    assert "in poisoned" in found[True]["traceback"]
    assert found[False]["state"] == "done"
    assert set(losses_of_done(one).items()) <= set(local(2).items())
    assert time.monotonic() - began < 200, "rank 0 waited for rank 1"


def losses_of_done(study: Study) -> dict[str, float]:
    return {run.run_id: run.result().test_loss for run in study.runs() if run.result_path.exists()}


@pytest.mark.long
def test_run_that_exceeds_its_memory(study, local, tmp_path):
    taker = poison(tmp_path / "p", "import torch; kept = [torch.ones(2**28) for _ in range(100)]")
    limit = taker.replace("']", "','ulimit -v 12000000']")
    one = study(limit)
    one.submit()
    one.cluster.drain(one.name)
    found = {"-w6-" in run_id: status for run_id, status in statuses(one.path).items()}
    assert (found[True]["state"], found[True]["cause"], found[True]["attempts"]) == ("failed", "out of memory", 1)
    assert set(losses_of_done(one).items()) <= set(local(1).items())
    assert found[False]["state"] == "done"


@pytest.mark.long
def test_data_are_staged_once_on_each_node(study, local, tmp_path):
    where_it_is = poison(tmp_path / "p", "print('data at', self.config.data.path, flush=True)")
    nodes = tmp_path / "nodes"
    one = study("launcher.ranks=2", f"launcher.slurm.stage_to='{nodes}/$SLURMD_NODENAME'", where_it_is)
    one.submit()
    assert one.finish() == local(2)
    read = {line for run in one.runs() for line in (run.path / "log.txt").read_text().splitlines() if "data at" in line}
    staged = sorted(nodes.glob("n[1-4]/*"))
    assert read <= {f"data at {path}" for path in staged}
    assert len(read) == 2
    assert len(staged) == len(list(nodes.iterdir())), "more than one copy on a node, or a part of one"


def test_data_that_cannot_be_staged_are_the_reason_given(study):
    one = study("launcher.slurm.stage_to=/proc/nowhere", "launcher.slurm.jobs=1")
    one.submit()
    one.cluster.drain(one.name)
    for status in statuses(one.path).values():
        assert status["state"] == "waiting"
        assert "launcher.slurm.stage_to=/proc/nowhere: the data could not be copied" in status["failure"]
        assert "name a directory of the nodes with room for the data" in status["failure"]


def test_runs_side_by_side_in_one_job(study, local):
    one = study("launcher.workers=2", "launcher.slurm.jobs=1")
    one.submit()
    one.wait_for_checkpoints()  # a run that is done has none
    assert one.finish() == local(1)
    assert len({run.status().job for run in one.runs()}) == 1
    assert {run.status().attempts for run in one.runs()} == {1}


def test_setup_that_fails_is_the_reason_given(study):
    one = study("launcher.slurm.setup=['module load nonesuch']", "launcher.slurm.jobs=1")
    one.submit()
    one.cluster.drain(one.name)
    assert all("module: command not found" in status["failure"] for status in statuses(one.path).values())


def test_bad_partition_is_refused_before_anything_is_submitted(study):
    one = study("launcher.slurm.partition=nonesuch")
    done = run_command("experiments.train", *one.arguments)
    assert done.returncode == 2
    assert "invalid partition specified: nonesuch" in done.stderr
    assert "partitions here: ci (4 nodes of 4 cpus, 4000 MB" in done.stderr
    assert not one.cluster.jobs(one.name)
    assert not list((one.path / "slurm").glob("*/"))


@pytest.mark.long
def test_sweep_is_measured(cluster, tmp_path):
    out = tmp_path / "found.json"
    done = run_command(
        "experiments.bench.sweep", "--quick", "--jobs", "2", "--folder", str(tmp_path), "--json", str(out)
    )
    assert done.returncode == 0, done.stderr
    (row,) = json.loads(out.read_text())["rows"]
    assert row["runs"] == 20
    assert row["controller_requests"] > 0
