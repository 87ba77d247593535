"""What people mistype, and what the commands answer."""

import pytest

from tests.conftest import run_command


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["model.widht=8"], "did you mean model.width?"),
        (["train.budget.amout=8"], "did you mean amount?"),
        (["zero=stge1"], "stage1"),
        (["-m", "model.name=egnn,gemnet_t"], "say model=egnn"),
        (["model.name=gemnet_t"], "error: model.name=gemnet_t would"),
        (["-m", "study.name=a", "model.width=4,4"], "name a value twice"),
        (["-m", "--cfg", "job", "model.width=4,6"], "--cfg prints one configuration"),
        (["--cfg=job", "-m", "model.width=4,6"], "--cfg prints one configuration"),
        (["model.width=1000000000"], "model.width=1000000000 must be at most"),
        (["model.width=4,5", "model.width=6,7"], "model.width is swept twice"),
        (["data.split_seed=-1"], "data.split_seed=-1 must be >= 0"),
        (["launcher.slurm.time_min=4:00:00"], "a whole number is wanted\ntimes are in the unit"),
        (["launcher.slurm.options=--exclusive"], """'KEY=["one","two"]'"""),
        (["launcher.slurm.options=[--mem-per-cpu=4G]"], """'KEY=["a=b"]'"""),
        (["study.root=/proc/nowhere"], "check that it exists, its permissions"),
    ],
)
def test_mistake_is_told_in_few_lines_and_leaves_nothing(arguments, words, tiny_data, tmp_path):
    flags, overrides = [word for word in arguments if "=" not in word], [word for word in arguments if "=" in word]
    where = [f"data.path={tiny_data}", f"study.root={tmp_path}"]
    done = run_command("experiments.train", *flags, *where, *overrides)
    assert done.returncode in (1, 2)
    assert words in done.stderr
    assert "Traceback" not in done.stderr
    assert "Error executing job" not in done.stderr
    assert "provider=hydra" not in done.stderr
    assert len(done.stderr.splitlines()) < 12
    assert not list(tmp_path.rglob("*.json"))
