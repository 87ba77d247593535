"""The notebooks run from top to bottom as scripts, on a study and without one, and their pictures show something."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from matplotlib.image import imread

from analysis.example import example_runs

ROOT = Path(__file__).parents[2]
NOTEBOOKS = sorted((ROOT / "analysis" / "notebooks").glob("*.py"))


#: The others are long.
FAST = [("what_to_run_next", False)]
CASES = [
    pytest.param(
        notebook,
        on_a_study,
        id=f"{notebook.stem}-{'study' if on_a_study else 'made up'}",
        marks=[] if (notebook.stem, on_a_study) in FAST else [pytest.mark.long],
    )
    for notebook in NOTEBOOKS
    for on_a_study in (False, True)
]


@pytest.mark.parametrize(("notebook", "on_a_study"), CASES)
def test_notebook_runs_and_draws(notebook, on_a_study, tmp_path):
    if on_a_study:
        (tmp_path / "studies" / "quickstart").mkdir(parents=True)
        runs = example_runs(seed=1)
        runs[runs["depth"] <= 2].to_parquet(tmp_path / "studies" / "quickstart" / "runs.parquet")
    done = subprocess.run([sys.executable, str(notebook)], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert ("Nothing was trained" in done.stdout) != on_a_study
    named = re.findall(r'FIGURES / "(\S+\.png)"', notebook.read_text())
    assert named
    assert sorted(file.name for file in (tmp_path / "figures").iterdir()) == sorted(named)
    for file in (tmp_path / "figures").iterdir():
        assert len(np.unique(imread(file).reshape(-1, 4), axis=0)) > 20, f"{file.name} is blank"


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_is_in_jupytexts_percent_format(notebook):
    text = notebook.read_text()
    assert text.startswith("# ---\n# jupyter:\n#   jupytext:\n")
    assert "#       format_name: percent\n" in text
    cells = re.split(r"^# %%", text.split("# ---\n")[2], flags=re.MULTILINE)[1:]
    assert len(cells) > 8
    for cell in cells:
        kind, _, body = cell.partition("\n")
        assert kind in ("", " [markdown]")
        if kind:
            assert all(line.startswith("#") for line in body.splitlines() if line), "markdown cells are comments"
        else:
            compile(body, notebook.name, "exec")


def test_there_are_three():
    assert [path.stem for path in NOTEBOOKS] == ["first_law", "what_to_run_next", "width_against_depth"]
