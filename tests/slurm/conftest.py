"""A real SLURM of four virtual nodes on this machine: started for the tests, stopped behind them."""

import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.conftest import run_command

HERE = Path(__file__).parent
#: Of a whole test: an overloaded machine is slow, a lost job never ends.
PATIENCE_S = 240


class Cluster:
    """The running cluster and what tests do to it."""

    def __init__(self, state: Path) -> None:
        os.environ.update(SLURM_CONF=str(state / "slurm.conf"))
        self.environment = {**os.environ, "SLURM_CI_DIR": str(state)}
        self.state = state

    def up(self) -> None:
        """Start what is not running, and give back nodes that were down."""
        subprocess.run(
            [HERE / "slurm_up.sh"], env=self.environment, capture_output=True, text=True, check=True, timeout=PATIENCE_S
        )

    def crash(self, node: str) -> None:
        """The node dies, as if by a power cut."""
        subprocess.run([HERE / "slurm_crash_node.sh", node], env=self.environment, check=True)

    def restart_controller(self) -> None:
        """End slurmctld, leave the cluster without one for some seconds, and start it again."""
        pid = int((self.state / "run" / "slurmctld.pid").read_text())
        os.kill(pid, signal.SIGTERM)
        wait_until(lambda: not Path(f"/proc/{pid}").exists() or _is_zombie(pid), "slurmctld to end")
        time.sleep(5)
        self.up()

    def jobs(self, study: str) -> list[str]:
        """Jobs of a study that wait or run."""
        said = subprocess.run(["squeue", "-h", "-r", "-o", "%i %j"], capture_output=True, text=True, check=True).stdout
        return [line.split()[0] for line in said.splitlines() if line.split()[1].startswith(f"{study}-")]

    def drain(self, study: str, patience_s: float = PATIENCE_S) -> None:
        """Wait until no job of the study is left."""
        wait_until(lambda: not self.jobs(study), f"jobs of {study} to end", patience_s)


def _is_zombie(pid: int) -> bool:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"


def wait_until(is_so, what: str, patience_s: float = PATIENCE_S) -> None:
    deadline = time.monotonic() + patience_s
    while not is_so():
        assert time.monotonic() < deadline, f"waited {patience_s} s for {what}"
        time.sleep(0.2)


@pytest.fixture(scope="session")
def cluster(tmp_path_factory):
    """The cluster; where it cannot be had, its tests are skipped with the reason."""
    if os.geteuid() != 0 or not shutil.which("apt-get"):
        pytest.skip("a SLURM of virtual nodes needs root on Debian")
    installed = Path("/etc/slurm/slurm.conf")
    if installed.exists() and "ClusterName=ci\n" not in installed.read_text():
        pytest.skip(f"{installed} is of a cluster that is in use")
    running = Cluster(Path("/tmp/gnn-scaling-slurm"))
    try:
        running.up()
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
        pytest.skip(f"SLURM cannot be installed or started here: {str(error.stderr)[-300:]}")
    yield running
    subprocess.run([HERE / "slurm_down.sh"], env=running.environment, check=False)


@pytest.fixture(scope="session")
def data(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("slurm") / "emt"
    done = run_command("experiments.prepare", "source=emt", "source.num_structures=320", f"out={out}")
    assert done.returncode == 0, done.stderr
    return out
