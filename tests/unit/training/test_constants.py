"""A run that was copied under another name is the same run."""

import shutil

import pytest

from scaling.data.shards import ShardSet
from scaling.errors import RunError
from scaling.runs.store import RunDir
from scaling.training.constants import Constants, require_own_data
from scaling.use.calculator import TrainedPotential
from tests.unit.training.runs import trained


@pytest.fixture(scope="module")
def copied(tiny_data, tmp_path_factory) -> RunDir:
    root = tmp_path_factory.mktemp("study")
    run = trained(tiny_data, root, ["train.budget.amount=2"])
    return RunDir(shutil.copytree(run.path, root / "my-favourite"))


def test_copy_of_a_run_is_judged_on_its_own_data(copied, tiny_data):
    potential = TrainedPotential(copied.path)
    require_own_data(potential.run, potential.config, ShardSet(tiny_data).manifest.digest)
    with pytest.raises(RunError, match=r"is not what .*my-favourite was trained on; put its data there again"):
        require_own_data(potential.run, potential.config, "of other data")


def test_copy_without_its_constants_finds_them_again(copied):
    written = Constants.read(copied, copied.config())
    copied.constants_path.unlink()
    assert Constants.read(copied, copied.config()) == written
