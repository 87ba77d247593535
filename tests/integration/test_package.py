"""What is in the wheel."""

import shutil
import subprocess
import sys
import zipfile

import pytest

from tests.conftest import ROOT


@pytest.mark.long
@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="which files are the project's is asked of git")
def test_wheel_holds_every_module_configuration_and_template(tmp_path):
    tree = tmp_path / "tree"
    tree.mkdir()
    tracked = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in filter(None, tracked.split("\0")):
        if (ROOT / name).is_file():
            (tree / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, tree / name)
    build = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", str(tmp_path), "."]
    done = subprocess.run(build, cwd=tree, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (wheel,) = tmp_path.glob("*.whl")
    packed = set(zipfile.ZipFile(wheel).namelist())
    endings = (".py", ".yaml", ".j2", "py.typed")
    rooms = ("scaling/", "experiments/", "analysis/", "conf/", "hydra_plugins/")
    wanted = {name for name in tracked.split("\0") if name.startswith(rooms) and name.endswith(endings)}
    notebooks = {name for name in wanted if name.startswith("analysis/notebooks/")}
    assert wanted - notebooks <= packed, sorted(wanted - notebooks - packed)
