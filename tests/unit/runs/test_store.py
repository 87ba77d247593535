"""Runs are files: who may write them, and what a run that is done leaves."""

import json
import re
from dataclasses import MISSING, fields, replace

import pytest

from scaling.config import LauncherConfig, RunConfig
from scaling.errors import RunError
from scaling.runs.claim import TOKEN_VARIABLE, Claim
from scaling.runs.identity import settings
from scaling.runs.record import RunResult
from scaling.runs.store import COLUMNS, RunDir, collect

TWO_RANKS = replace(RunConfig(), launcher=LauncherConfig(ranks=2))


@pytest.fixture
def run(tmp_path) -> RunDir:
    run = RunDir(tmp_path / "run")
    run.stage(RunConfig())
    return run


@pytest.fixture
def result() -> RunResult:
    return RunResult(**{entry.name: 7 for entry in fields(RunResult) if entry.default_factory is MISSING})


def test_changed_logistics_are_staged_again_but_not_of_a_run_done_or_held(run, result):
    with Claim.take(run.path):
        run.stage(TWO_RANKS)
    assert run.config() == RunConfig()
    run.stage(TWO_RANKS)
    assert run.config() == TWO_RANKS
    run.write_result(result)
    run.stage(RunConfig())
    assert run.config() == TWO_RANKS


def test_holder_that_lost_its_claim_writes_neither_result_nor_status(run, result, monkeypatch):
    with Claim.take(run.path) as claim:
        monkeypatch.setenv(TOKEN_VARIABLE, claim.token)
        run.write_status("running", step=3, attempts=1)
        (run.path / "claim.json").unlink()
        assert Claim.take(run.path) is not None
        with pytest.raises(RunError, match="taken over by another process"):
            run.write_status("failed", attempts=1)
        with pytest.raises(RunError, match="taken over by another process"):
            run.write_result(result)
    assert not run.result_path.exists()
    assert run.status().state == "running"


def test_holder_writes_its_result(run, result, monkeypatch):
    with Claim.take(run.path) as claim:
        monkeypatch.setenv(TOKEN_VARIABLE, claim.token)
        run.write_result(result)
    assert run.result() == result


@pytest.fixture
def killed_at_the_end(run, result) -> RunDir:
    """A run whose process was killed after it wrote the result and before it cleaned up."""
    run.write_status("running", step=5, num_steps=7, attempts=2)
    (run.checkpoints / "step-00000005").mkdir(parents=True)
    (run.checkpoints / "step-00000005" / "seal.json").write_text("{}")
    for name in ("best.safetensors", "best-00000004.safetensors", ".tmp-best"):
        (run.checkpoints / name).write_text("weights")
    run.write_result(result)
    return run


def test_tidy_leaves_the_best_weights_and_says_done(killed_at_the_end):
    killed_at_the_end.tidy()
    assert [path.name for path in killed_at_the_end.checkpoints.iterdir()] == ["best.safetensors"]
    written = json.loads((killed_at_the_end.path / "status.json").read_text())
    assert (written["state"], written["step"], written["attempts"]) == ("done", 7, 2)
    assert not (killed_at_the_end.path / "claim.json").exists()


def test_tidy_leaves_a_run_alone_that_is_held_or_has_no_result(killed_at_the_end):
    before = sorted(killed_at_the_end.checkpoints.iterdir())
    with Claim.take(killed_at_the_end.path):
        killed_at_the_end.tidy()
    killed_at_the_end.result_path.unlink()
    killed_at_the_end.tidy()
    assert sorted(killed_at_the_end.checkpoints.iterdir()) == before


def test_tidy_writes_nothing_where_nothing_is_left_over(killed_at_the_end):
    killed_at_the_end.tidy()
    before = {path: path.stat().st_mtime_ns for path in killed_at_the_end.path.iterdir()}
    killed_at_the_end.tidy()
    assert {path: path.stat().st_mtime_ns for path in killed_at_the_end.path.iterdir()} == before


@pytest.mark.parametrize(
    ("file", "content", "remedy"),
    [
        ("status.json", '{"state": "run', r"status\.json is damaged .*remove it"),
        ("status.json", "[]", r"status\.json is damaged .*remove it"),
        ("result.json", "{}", r"result\.json is damaged .*remove it to run again"),
        ("config.yaml", "seed: [", r"config\.yaml is damaged.*remove the run"),
        ("config.yaml", "- 1", r"config\.yaml is not a run configuration"),
        ("config.yaml", "model: {width: 0}", r"config\.yaml: model\.width=0 must be"),
    ],
)
def test_damaged_file_of_a_run_is_named_with_the_way_out_and_hides_no_other(run, file, content, remedy):
    (run.path / file).write_text(content)
    row = run.row()
    assert row["status"] == "failed"
    assert re.search(remedy, row["failure"])
    other = RunDir(run.path.parent / "other")
    other.path.mkdir()
    (other.path / "status.json").write_text("{}")
    table = collect(run.path.parent)
    assert dict(zip(table["run_id"], table["status"], strict=True)) == {run.run_id: "failed", "other": "failed"}


def test_run_whose_result_was_removed_waits_to_be_done_again(killed_at_the_end):
    run = killed_at_the_end
    run.tidy()
    assert run.status().state == "done"
    run.result_path.unlink()
    assert run.status().state == "waiting"
    assert "result.json was removed" in run.status().failure


def test_every_key_that_changes_the_result_is_a_column(tmp_path, result):
    config = replace(RunConfig(), train=replace(RunConfig().train, batch_size=7))
    waiting, done = (RunDir(tmp_path / "study" / name) for name in ("a", "b"))
    waiting.stage(config)
    done.stage(config)
    done.write_result(replace(result, settings=settings(config)))
    table = collect(tmp_path / "study").set_index("run_id")
    assert list(table["train.batch_size"]) == [7, 7]
    named = {COLUMNS.get(key, key) for key, value in settings(config).items() if value is not None}
    assert named <= set(table.columns)
    assert table.loc["a", "width"] == config.model.width
    assert not {"data.path", "zero.stage", "model.width"} & set(table.columns)


def test_result_of_an_earlier_version_gets_its_columns_from_the_configuration(tmp_path, result):
    run = RunDir(tmp_path / "study" / "a")
    run.stage(RunConfig())
    run.write_result(result)
    assert collect(tmp_path / "study").loc[0, "data.cutoff_ang"] == 5.0


def test_renamed_run_is_the_same_run_under_its_new_name(tmp_path, result):
    run = RunDir(tmp_path / "study" / "a")
    run.stage(RunConfig())
    run.write_result(result)
    run.path.rename(tmp_path / "study" / "b")
    assert list(collect(tmp_path / "study")["run_id"]) == ["b"]
