"""The study of a smoke run: four cells, and the one command that takes them to their law."""

import json
import subprocess
import time

import pandas as pd
import pytest
from omegaconf import OmegaConf

from tests.conftest import ROOT, run_command


def test_smoke_study_has_four_cells_of_two_widths_and_two_fractions(tiny_data, tmp_path):
    planned = ["study=smoke", f"data.path={tiny_data}", f"study.root={tmp_path}", "plan.flops_per_s=1e9"]
    done = run_command("experiments.plan", *planned)
    assert done.returncode == 0, done.stderr
    runs = json.loads((tmp_path / "smoke" / "plan.json").read_text())["runs"]
    assert {(run["width"], run["fraction"]) for run in runs} == {(4, 0.25), (4, 1.0), (8, 0.25), (8, 1.0)}
    assert len(runs) == 4


def test_smoke_study_trains_on_the_data_that_make_smoke_prepares():
    study = OmegaConf.load(ROOT / "conf" / "study" / "smoke.yaml")
    recipe = (ROOT / "Makefile").read_text().partition("\nsmoke:")[2].partition("\n\n")[0]
    assert study.data.path == "data/smoke"
    assert f"out='$(SMOKE)/{study.data.path}'" in recipe


@pytest.mark.long
def test_make_smoke_takes_under_a_minute(tmp_path):
    began = time.monotonic()
    command = ["make", "-o", ".venv/.ready", "smoke", f"SMOKE={tmp_path}"]  # set-up is not what is timed
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert time.monotonic() - began < 60, "on two quiet cores"
    study = tmp_path / "studies" / "smoke"
    assert pd.read_parquet(study / "runs.parquet")["status"].tolist() == 4 * ["done"]
    assert "the data do not determine beta" in done.stdout, "four runs are not enough for a law, and it says so"
    assert (study / "report" / "index.html").stat().st_size > 1000
    assert json.loads((study / "report" / "fit.json").read_text())["n"] == 4
