"""How a grid reaches the commands: by sweepers of others, from shells that name another world, and what is refused."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time

import pandas as pd
import pytest
import yaml

from tests.conftest import ROOT, run_command, run_process
from tests.ranks import run_ranks

TINY = ["model.width=4", "model.depth=1", "train.budget.amount=20", "train.validate_every=10", "train.batch_size=4"]
OPTUNA = [
    "hydra/sweeper=optuna",
    "hydra.sweeper.sampler.seed=1",
    "hydra.sweeper.n_trials=8",
    "hydra.sweeper.n_jobs=1",
    "optim.lr=tag(log,interval(0.001,0.1))",
]
#: What an earlier job, or a launcher of somebody else's, leaves in a shell.
ANOTHER_WORLD = {
    "RANK": "0",
    "LOCAL_RANK": "0",
    "WORLD_SIZE": "2",
    "MASTER_ADDR": "localhost",
    "MASTER_PORT": "29577",
    "TORCHELASTIC_RUN_ID": "none",
    "OMPI_COMM_WORLD_SIZE": "2",
    "OMPI_COMM_WORLD_RANK": "1",
    "PMI_SIZE": "2",
    "PMI_RANK": "1",
    "SLURM_NTASKS": "2",
    "SLURM_PROCID": "1",
}
FOREIGN_LAUNCHER = """
from dataclasses import dataclass
from hydra.core.config_store import ConfigStore
from hydra.core.utils import run_job
from hydra.plugins.launcher import Launcher

class ForeignLauncher(Launcher):
    def setup(self, *, hydra_context, task_function, config):
        self.context, self.function, self.config = hydra_context, task_function, config

    def launch(self, job_overrides, initial_job_idx):
        load = self.context.config_loader.load_sweep_config
        how = {"hydra_context": self.context, "task_function": self.function}
        where = {"job_dir_key": "hydra.sweep.dir", "job_subdir_key": "hydra.sweep.subdir"}
        return [run_job(config=load(self.config, list(words)), **how, **where) for words in job_overrides]

@dataclass
class Conf:
    _target_: str = "hydra_plugins.foreign.ForeignLauncher"

ConfigStore.instance().store(group="hydra/launcher", name="foreign", node=Conf, provider="foreign")
"""


def where(tiny_data, root) -> list[str]:
    return [f"data.path={tiny_data}", f"study.root={root}", "study.name=grid", "launcher.workers=1"]


def test_runs_ignore_the_world_that_the_shell_names(tiny_data, tmp_path, monkeypatch):
    for name, value in ANOTHER_WORLD.items():
        monkeypatch.setenv(name, value)
    done = run_process("experiments.train", *TINY, *where(tiny_data, tmp_path), timeout=100)
    assert done.returncode == 0, done.stderr
    (result,) = tmp_path.glob("grid/*/result.json")
    assert json.loads(result.read_text())["world_size"] == 1


def test_sweep_by_optuna_goes_on_after_a_kill_and_finds_the_best_of_its_table(tiny_data, tmp_path):
    arguments = [*TINY, *OPTUNA, *where(tiny_data, tmp_path)]
    process = subprocess.Popen(
        [sys.executable, "-m", "experiments.train", *arguments], cwd=ROOT, stdout=-3, stderr=-3, start_new_session=True
    )
    deadline = time.monotonic() + 200
    while len(list(tmp_path.glob("grid/*/result.json"))) < 2:
        assert process.poll() is None, "it ended before it was killed"
        assert time.monotonic() < deadline
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    kept = {path: path.read_text() for path in tmp_path.glob("grid/*/result.json")}
    done = run_command("experiments.train", *arguments)
    assert done.returncode == 0, done.stderr
    assert run_command("experiments.collect", str(tmp_path / "grid")).returncode == 0
    table = pd.read_parquet(tmp_path / "grid" / "runs.parquet")
    assert len(table) == 8
    assert set(table["status"]) == {"done"}
    assert {path: path.read_text() for path in kept} == kept, "what was done is not trained again"
    found = yaml.safe_load((tmp_path / "grid" / "optimization_results.yaml").read_text())
    best = table.loc[table["val_loss"].idxmin()]
    assert found["best_value"] == best["val_loss"]
    assert found["best_params"]["optim.lr"] == best["optim.lr"]
    assert all(f"-lr{row['optim.lr']:g}-" in row["run_id"] for _, row in table.iterrows())


@pytest.mark.parametrize("sweeper", ["grid", "optuna"])
def test_launcher_of_others_is_refused_in_one_line_that_names_ours(sweeper, tiny_data, tmp_path):
    plugins = tmp_path / "site" / "hydra_plugins"
    plugins.mkdir(parents=True)
    (plugins / "foreign.py").write_text(FOREIGN_LAUNCHER)
    path = os.pathsep.join(filter(None, [str(tmp_path / "site"), os.environ.get("PYTHONPATH")]))
    swept = OPTUNA if sweeper == "optuna" else ["model.width=4,6"]
    words = ["-m", "hydra/launcher=foreign", *swept, *where(tiny_data, tmp_path / "studies")]
    done = subprocess.run(
        [sys.executable, "-m", "experiments.train", *words],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "error: hydra/launcher=foreign is not used here" in done.stderr
    assert "launcher=slurm_cpu" in done.stderr
    assert "Traceback" not in done.stderr
    assert not list(tmp_path.rglob("*.json"))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["hydra.mode=RUN"], "hydra.mode=RUN is not used here"),
        (["optim.lr=interval(0.1,0.2)"], "hydra/sweeper=optuna"),
        (["zero=3"], "must be the name of a file in conf/zero: auto, stage0"),
        (["launcher=slurm_cpu"], "there is no sbatch on this machine"),
        (["tracking.name=wandb"], "tracking.name=wandb must be one of none, tensorboard"),
        (["launcher=torchrun", *OPTUNA], "does not wait for the losses"),
        (["launcher=torchrun", "zero=auto"], "plan.device_memory_gib=0 must be what one rank has"),
        (["data.digest=abc"], "data.digest=abc must be that of"),
        (["zero=auto", "plan.device_memory_gib=1e-6"], "GiB a device"),
    ],
)
def test_refused_command_leaves_nothing(words, said, tiny_data, tmp_path, monkeypatch):
    nowhere = tmp_path / "bin"
    nowhere.mkdir()
    monkeypatch.setenv("PATH", str(nowhere))
    done = run_command("experiments.train", *where(tiny_data, tmp_path / "studies"), *words)
    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "studies").exists()


def test_new_key_swept_is_in_the_table_and_in_the_names(tiny_data, tmp_path):
    grid = ["-m", *TINY, "data.cutoff_ang=3.5,4.0", *where(tiny_data, tmp_path)]
    assert run_command("experiments.train", *grid).returncode == 0
    assert run_command("experiments.collect", str(tmp_path / "grid")).returncode == 0
    table = pd.read_parquet(tmp_path / "grid" / "runs.parquet")
    assert sorted(table["data.cutoff_ang"]) == [3.5, 4.0]
    assert all(f"cutoff_ang{row['data.cutoff_ang']:g}" in row["run_id"] for _, row in table.iterrows())


def test_ranks_started_by_hand_compute_a_staged_run(tiny_data, tmp_path):
    staged = run_command("experiments.train", *TINY, *where(tiny_data, tmp_path), "launcher=torchrun")
    assert staged.returncode == 0, staged.stderr
    (run,) = (path.parent for path in tmp_path.glob("grid/*/config.yaml"))
    assert f"-m scaling.launch.worker {run}" in staged.stdout
    with socket.socket() as free:
        free.bind(("", 0))
        meeting = [
            "--nnodes=2",
            "--nproc-per-node=1",
            "--master-addr=localhost",
            f"--master-port={free.getsockname()[1]}",
        ]
    torchrun = [sys.executable, "-m", "torch.distributed.run", *meeting]
    nodes = [
        subprocess.Popen([*torchrun, f"--node-rank={k}", "-m", "scaling.launch.worker", str(run)], cwd=ROOT)
        for k in range(2)
    ]
    assert [node.wait(timeout=200) for node in nodes] == [0, 0]
    assert json.loads((run / "result.json").read_text())["world_size"] == 2
    assert {path.name for path in (run / "checkpoints").iterdir()} == {"best.safetensors"}
    assert not (run / "claim.json").exists()
    before = (run / "result.json").read_text()
    assert run_ranks("scaling.launch.worker", 1, str(run), log=tmp_path / "again.txt") == [0]
    assert (run / "result.json").read_text() == before, "what is done is not trained again"


def test_several_studies_become_one_table(tiny_data, tmp_path):
    for name, width in (("a", 4), ("b", 6)):
        words = [*TINY, *where(tiny_data, tmp_path), f"study.name={name}", f"model.width={width}"]
        assert run_command("experiments.train", *words).returncode == 0
    (run,) = (path.parent for path in (tmp_path / "a").glob("*/result.json"))
    shutil.copytree(tmp_path / "a", tmp_path / "c")
    (tmp_path / "c" / run.name).rename(tmp_path / "c" / f"egnn-w4-d1-f1-s0-lr0.02-{run.name[-10:]}")
    studies = [str(tmp_path / name) for name in ("a", "b", "c")]
    refused = run_command("experiments.collect", *studies)
    assert refused.returncode == 2
    assert "--out must name a directory" in refused.stderr
    done = run_command("experiments.collect", *studies, "--out", str(tmp_path / "both"))
    assert done.returncode == 0, done.stderr
    assert f"there more than once, left out: {tmp_path / 'c' / 'egnn-w4'}" in done.stdout
    table = pd.read_parquet(tmp_path / "both" / "runs.parquet")
    assert sorted(zip(table["study"], table["width"], strict=True)) == [("a", 4), ("b", 6)]
    (run / "result.json").unlink()
    (run / "status.json").unlink()
    (tmp_path / "b" / "junk").mkdir()
    (tmp_path / "b" / "junk" / "config.yaml").write_text("foo: 1\n")
    assert run_command("experiments.collect", *studies, "--out", str(tmp_path / "both")).returncode == 0
    table = pd.read_parquet(tmp_path / "both" / "runs.parquet")
    done_in = table.loc[table["status"] == "done", ["study", "width"]]
    assert sorted(done_in.itertuples(index=False, name=None)) == [("b", 6), ("c", 4)], "the one that is done counts"
