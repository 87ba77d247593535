"""A tiny study from the command line: trained, skipped, killed, resumed, collected, reported; and users' mistakes."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time

import pandas as pd
import pytest

from tests.conftest import ROOT, run_command

GRID = [
    "--multirun",
    "model.width=4,6",
    "data.fraction=0.25,1.0",
    "train.budget.amount=60",
    "train.batch_size=4",
    "train.validate_every=20",
    "train.checkpoint_every=5",
]


def where(tiny_data, root, name="tiny") -> list[str]:
    return [f"data.path={tiny_data}", f"study.root={root}", f"study.name={name}"]


def loss_by_run(study_dir) -> dict[str, float]:
    results = [json.loads(path.read_text()) for path in study_dir.glob("*/result.json")]
    return {result["run_id"]: result["test_loss"] for result in results}


@pytest.fixture(scope="module")
def undisturbed(tiny_data, shared, tmp_path_factory):
    """The grid, trained without disturbance: a copy, which tests may change."""

    def train(root):
        done = run_command("experiments.train", *GRID, *where(tiny_data, root))
        assert done.returncode == 0, done.stderr

    root = tmp_path_factory.mktemp("undisturbed")
    return shutil.copytree(shared("undisturbed", train) / "tiny", root / "tiny")


def test_study_leaves_what_the_contract_says(undisturbed):
    runs = list(undisturbed.glob("*/config.yaml"))
    assert len(runs) == 4
    for config in runs:
        run = config.parent
        names = {"config.yaml", "status.json", "metrics.jsonl", "result.json"}
        assert names <= {path.name for path in run.iterdir()}
        assert {path.name for path in (run / "checkpoints").iterdir()} == {"best.safetensors"}
        assert json.loads((run / "status.json").read_text())["state"] == "done"


def test_same_command_again_skips_every_run(undisturbed, tiny_data):
    before = {path: path.stat().st_mtime_ns for path in undisturbed.glob("*/result.json")}
    done = run_command("experiments.train", *GRID, *where(tiny_data, undisturbed.parent))
    assert done.returncode == 0
    assert "4 runs, 4 done already" in done.stdout
    assert {path: path.stat().st_mtime_ns for path in undisturbed.glob("*/result.json")} == before


def test_collect_status_and_report(undisturbed):
    collected = run_command("experiments.collect", str(undisturbed))
    assert collected.returncode == 0, collected.stderr
    table = pd.read_parquet(undisturbed / "runs.parquet")
    assert len(table) == 4
    assert (table["status"] == "done").all()
    assert (
        table["num_params_embedding"] + table["num_params_trunk"] + table["num_params_head"] == table["num_params"]
    ).all()
    assert table.set_index("run_id")["test_loss"].to_dict() == loss_by_run(undisturbed)
    status = run_command("experiments.status", str(undisturbed), "--json")
    assert status.returncode == 0
    assert json.loads(status.stdout)["counts"] == {"waiting": 0, "running": 0, "done": 4, "failed": 0}
    reported = run_command("analysis", "report", str(undisturbed), "--bootstrap", "100")
    assert reported.returncode == 0, reported.stderr
    assert (undisturbed / "report" / "index.html").stat().st_size > 1000
    assert (undisturbed / "report" / "fit.json").exists()


def test_fractions_are_nested_in_size_and_judged_on_the_same_structures(undisturbed):
    results = [json.loads(path.read_text()) for path in undisturbed.glob("*/result.json")]
    assert len({r["test_structures"] for r in results}) == 1
    assert len({r["loss_energy_scale_ev_per_atom"] for r in results}) == 1
    sizes = {r["fraction"]: r["train_structures"] for r in results}
    assert sizes[0.25] < 0.4 * sizes[1.0]


def start(arguments) -> subprocess.Popen:
    command = [sys.executable, "-m", "experiments.train", *arguments]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def kill_after_some_steps(process: subprocess.Popen, study_dir, steps: int, delay_s: float) -> None:
    """kill -9 some time after the runs have written a number of further checkpoints."""
    seen: set[str] = set()
    deadline = time.monotonic() + 60
    first = {str(path) for path in study_dir.glob("*/checkpoints/step-*")}
    while process.poll() is None and len(seen) < steps and time.monotonic() < deadline:
        seen |= {str(path) for path in study_dir.glob("*/checkpoints/step-*")} - first
        time.sleep(0.01)
    time.sleep(delay_s)
    process.send_signal(signal.SIGKILL)
    process.wait()


@pytest.mark.long
@pytest.mark.parametrize("kills", [1, 5])
def test_study_killed_at_random_ends_with_the_same_bits(undisturbed, tiny_data, tmp_path, kills):
    arguments = [*GRID, *where(tiny_data, tmp_path)]
    rng = random.Random(0)
    for _ in range(kills):
        delay_s = rng.uniform(0, 0.5) if kills > 1 else 0.0  # a single kill is to hit running runs
        kill_after_some_steps(start(arguments), tmp_path / "tiny", rng.randint(0, 5), delay_s)
    done = run_command("experiments.train", *arguments)
    assert done.returncode == 0, done.stderr
    logs = "".join(path.read_text() for path in (tmp_path / "tiny").glob("*/log.txt"))
    assert "resumed at step" in logs, "the kills did hit running runs"
    losses = []
    for study_dir in (tmp_path / "tiny", undisturbed):
        assert run_command("experiments.collect", str(study_dir)).returncode == 0
        losses.append(pd.read_parquet(study_dir / "runs.parquet").set_index("run_id")["test_loss"].to_dict())
    assert losses[0] == losses[1]
    assert len(losses[0]) == 4
    for metrics in (tmp_path / "tiny").glob("*/metrics.jsonl"):
        same = undisturbed / metrics.relative_to(tmp_path / "tiny")
        assert metrics.read_text() == same.read_text(), "no line of the metrics twice or missing"


def test_two_commands_at_once_run_nothing_twice(undisturbed, tiny_data, tmp_path):
    arguments = [*(word.replace("4,6", "4") for word in GRID), *where(tiny_data, tmp_path)]
    both = [start(arguments), start(arguments)]
    assert [process.wait(timeout=200) for process in both] == [0, 0]
    found = loss_by_run(tmp_path / "tiny")
    assert len(found) == 2
    assert found.items() <= loss_by_run(undisturbed).items()
    attempts = [json.loads(path.read_text())["attempts"] for path in (tmp_path / "tiny").glob("*/status.json")]
    assert attempts == [1, 1]


def test_diverging_run_fails_by_step_and_the_others_go_on(tiny_data, tmp_path):
    arguments = ["-m", "optim.lr=0.01,1e9", "train.budget.amount=30", "model.width=4", *where(tiny_data, tmp_path)]
    done = run_command("experiments.train", *arguments)
    assert done.returncode == 1
    assert "1 runs done, 1 failed" in done.stdout
    status = run_command("experiments.status", str(tmp_path / "tiny"))
    assert status.returncode == 1
    assert "diverged at step" in status.stdout
    collected = run_command("experiments.collect", str(tmp_path / "tiny"))
    assert "1 done, 1 failed" in collected.stdout
    failed = pd.read_parquet(tmp_path / "tiny" / "runs.parquet").set_index("status").loc["failed"]
    assert "diverged at step" in failed["failure"]
    assert pd.isna(failed["test_loss"])


def test_killed_run_is_tried_again_by_itself(tiny_data, tmp_path):
    arguments = [
        *["model.width=4", "train.budget.amount=300", "train.checkpoint_every=10", "train.batch_size=2"],
        *where(tiny_data, tmp_path),
    ]
    process = start(arguments)
    deadline = time.monotonic() + 60
    while not list((tmp_path / "tiny").glob("*/checkpoints/step-*")) and time.monotonic() < deadline:
        time.sleep(0.05)
    (claim,) = (tmp_path / "tiny").glob("*/claim.json")
    os.kill(json.loads(claim.read_text())["pid"], signal.SIGKILL)
    assert process.wait(timeout=120) == 0
    (status,) = (tmp_path / "tiny").glob("*/status.json")
    assert json.loads(status.read_text())["attempts"] == 2
    (log,) = (tmp_path / "tiny").glob("*/log.txt")
    assert "resumed at step" in log.read_text()


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["model.wdth=4"], "wdth"),
        (["model.width=0"], "model.width=0 must be >= 1"),
        (["-m", "model.width=4,0"], "model.width=0 must be >= 1"),
        (["data.fraction=1.5"], "data.fraction=1.5 must be in (0, 1]; use 1.0 for the full set"),
        (["data.path=nowhere"], "nowhere"),
        (["study=nonesuch"], "nonesuch"),
        (["zero.checkpointing=-1"], "0: no layer, 1: every one"),
    ],
)
def test_mistake_is_one_line_and_leaves_nothing_behind(tiny_data, tmp_path, overrides, message):
    paths = [f"study.root={tmp_path / 'studies'}", "study.name=wrong"]
    data = [] if any("data.path" in o for o in overrides) else [f"data.path={tiny_data}"]
    done = run_command("experiments.train", *overrides, *data, *paths)
    assert done.returncode not in (0, 1)
    assert message in done.stderr
    assert done.stderr.startswith("error: ")
    assert "Traceback" not in done.stderr
    assert not list((tmp_path).glob("studies/wrong/*/config.yaml"))


def test_fraction_that_picks_no_group_is_refused_before_anything_runs(tiny_data, tmp_path):
    grid = ["-m", "data.fraction=1.0,0.0001", "model.width=4"]
    done = run_command("experiments.train", *grid, *where(tiny_data, tmp_path))
    assert done.returncode == 2
    assert "data.fraction=0.0001 picks no group" in done.stderr
    assert "use at least" in done.stderr
    assert not list(tmp_path.glob("tiny/*/config.yaml"))


def test_cells_that_are_the_same_run_are_refused(tiny_data, tmp_path):
    done = run_command("experiments.train", "-m", "zero.stage=0,1", *where(tiny_data, tmp_path))
    assert done.returncode == 2
    assert "are the same run" in done.stderr


def test_study_whose_data_changed_is_refused(undisturbed, tiny_data, tmp_path):
    shutil.copytree(undisturbed, tmp_path / "tiny")
    other = tmp_path / "other"
    made = run_command(
        "experiments.prepare", "source=emt", "source.num_structures=640", "source.seed=1", f"out={other}"
    )
    assert made.returncode == 0, made.stderr
    done = run_command("experiments.train", *GRID, *where(other, tmp_path))
    assert done.returncode == 4
    assert "was begun with its data" in done.stderr
    assert loss_by_run(tmp_path / "tiny") == loss_by_run(undisturbed)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_directory_without_permission_is_named(tiny_data, tmp_path):
    (tmp_path / "closed").mkdir(mode=0o500)
    done = run_command("experiments.train", *where(tiny_data, tmp_path / "closed"))
    assert done.returncode != 0
    assert "closed" in done.stderr
    assert "Traceback" not in done.stderr


def test_path_that_is_a_file_is_named(tiny_data, tmp_path):
    (tmp_path / "occupied").write_text("")
    done = run_command("experiments.train", *where(tiny_data, tmp_path / "occupied"))
    assert done.returncode != 0
    assert "occupied" in done.stderr
    assert "Traceback" not in done.stderr
