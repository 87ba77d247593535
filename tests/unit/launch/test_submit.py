"""What is submitted to a cluster, and for which runs; SLURM's commands are scripts that answer as it was seen to do."""

import json
import os
import stat
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from experiments.status import standings
from scaling.config import LauncherConfig, RunConfig, SlurmConfig
from scaling.errors import ConfigError, RunError
from scaling.launch import slurm
from scaling.launch.job import copy
from scaling.launch.submission import batch_script, job_name, submit, validate_jobs
from scaling.planning import planned_device
from scaling.runs.store import RunDir

SQUEUE = """#!/bin/sh
test "$1" = --noheader && cat "$HERE/queue" 2>/dev/null; true
"""
SBATCH = """#!/bin/sh
echo "$@" >> "$HERE/asked"
case "$*" in *--test-only*) if test -e "$HERE/refuse"; then cat "$HERE/refuse" >&2; exit 1; fi; exit 0;; esac
for word in "$@"; do case $word in --comment=*) comment=${word#--comment=};; esac; done
number=$(grep -c parsable "$HERE/asked")
echo "${number}0_0|PENDING|$comment|Priority" >> "$HERE/queue"
echo "${number}0"
"""


@pytest.fixture
def cluster(tmp_path, monkeypatch) -> Path:
    """SLURM's commands on the path; what they are asked stands in files of the folder returned."""
    here = tmp_path / "cluster"
    here.mkdir()
    answers = {"squeue": SQUEUE, "sbatch": SBATCH}
    answers["sinfo"] = "#!/bin/sh\necho 'ci|4|8|4000|(null)|1:00:00'\necho 'hi|1|8|4000|gpu:4|infinite'\n"
    answers["scontrol"] = "#!/bin/sh\necho 'MaxArraySize            = 4'\n"
    for name, text in answers.items():
        (here / name).write_text(text)
        (here / name).chmod(stat.S_IRWXU)
    monkeypatch.setenv("PATH", f"{here}:{os.environ['PATH']}")
    monkeypatch.setenv("HERE", str(here))
    return here


def staged(root: Path, count: int, launcher: LauncherConfig) -> list[RunDir]:
    runs = [RunDir(root / "study" / f"run-{number}") for number in range(count)]
    for run in runs:
        run.stage(replace(RunConfig(), launcher=launcher))
    return runs


def submissions(cluster: Path) -> list[str]:
    return [line for line in (cluster / "asked").read_text().splitlines() if "parsable" in line]


def test_only_what_no_job_is_on_the_way_to_is_submitted(cluster, tmp_path):
    runs = staged(tmp_path, 3, LauncherConfig(kind="slurm"))
    assert submit(runs[:2]) == ["10"]
    assert submit(runs) == ["20"]
    assert submit(runs) == []
    listed = [path.read_text() for path in sorted((tmp_path / "study" / "slurm").glob("*/job.json"))]
    assert [text.count("run-") for text in listed] in ([2, 1], [1, 2])


def test_failed_run_is_submitted_again_though_its_job_has_not_ended(cluster, tmp_path):
    runs = staged(tmp_path, 2, LauncherConfig(kind="slurm"))
    submit(runs)
    runs[0].write_status("failed", failure="why", fruitless=3)
    assert submit(runs) == ["20"]
    assert (runs[0].status().state, runs[0].status().fruitless) == ("waiting", 0)


def test_what_has_failed_comes_after_what_was_never_tried(cluster, tmp_path):
    runs = staged(tmp_path, 3, LauncherConfig(kind="slurm"))
    runs[0].write_status("failed", failure="why")
    submit(runs)
    (listed,) = (tmp_path / "study" / "slurm").glob("*/job.json")
    assert json.loads(listed.read_text())["runs"] == ["run-1", "run-2", "run-0"]


@pytest.mark.parametrize(
    ("log", "words"),
    [
        (
            "job_script: line 14: module: command not found\n\n",
            "said: job_script: line 14: module: command not found; see",
        ),
        ("job 10_0 on n1: 1 runs\nerror: a disk is full\nsrun: gone\n", "said: error: a disk is full; see"),
        ("", "said nothing; see"),
        (None, "said nothing; see"),
    ],
)
def test_job_that_ended_before_its_runs_began_is_quoted(cluster, tmp_path, log, words):
    runs = staged(tmp_path, 1, LauncherConfig(kind="slurm"))
    assert "give the command of the study again" in standings_after(runs, cluster)
    submit(runs)
    assert standings(runs)["run-0"].job_state == "PENDING (Priority)"
    if log is not None:
        (folder,) = (tmp_path / "study" / "slurm").glob("*/")
        (folder / "10_0.txt").write_text(log)
    assert words in standings_after(runs, cluster)


def standings_after(runs: list[RunDir], cluster: Path) -> str:
    """What is said of the first run when all jobs have ended."""
    (runs[0].path.parent / "slurm").mkdir(exist_ok=True)
    (cluster / "queue").unlink(missing_ok=True)
    return standings(runs)["run-0"].status.failure


def test_more_tasks_than_an_array_may_have_become_several(cluster, tmp_path):
    submit(staged(tmp_path, 8, LauncherConfig(kind="slurm", slurm=SlurmConfig(jobs=0))))
    assert [line.split("--array=")[1].split()[0] for line in submissions(cluster)] == ["0-2", "0-2", "0-1"]


def test_one_array_for_each_shape(cluster, tmp_path):
    runs = staged(tmp_path, 2, LauncherConfig(kind="slurm"))
    runs[0].stage(replace(RunConfig(), launcher=LauncherConfig(kind="slurm", ranks=2)))
    submit(runs)
    scripts = sorted(path.read_text() for path in (tmp_path / "study" / "slurm").glob("*/job.sbatch"))
    assert [f"--nodes={nodes}" in script for nodes, script in zip((1, 2), scripts, strict=True)] == [True, True]


def test_refusal_comes_before_anything_is_submitted_with_slurms_words(cluster, tmp_path):
    (cluster / "refuse").write_text("sbatch: error: invalid partition specified: nonesuch")
    site = SlurmConfig(partition="nonesuch", options=["--exclusive"])
    config = replace(RunConfig(), launcher=LauncherConfig(kind="slurm", slurm=site))
    with pytest.raises(ConfigError) as refusal:
        validate_jobs([RunDir(tmp_path / "study" / "run")], [config])
    said = str(refusal.value)
    assert (
        "invalid partition specified: nonesuch; partitions here: ci (4 nodes of 8 cpus, 4000 MB, limit 1:00:00)" in said
    )
    assert "hi (1 nodes of 8 cpus, 4000 MB, gpu:4, limit infinite)" in said
    assert said.endswith(": --partition=nonesuch --time=240 --nodes=1 --cpus-per-task=1 --exclusive")
    assert not submissions(cluster)
    assert not (tmp_path / "study").exists()


def test_options_of_the_allocation_in_which_it_is_called_do_not_reach_sbatch(cluster, tmp_path, monkeypatch):
    (cluster / "sbatch").write_text(SBATCH.replace("#!/bin/sh\n", '#!/bin/sh\nenv >> "$HERE/environment"\n'))
    leaving = {
        "SLURM_MEM_PER_CPU": "2048",
        "SBATCH_PARTITION": "nowhere",
        "WORLD_SIZE": "2",
        "OMPI_COMM_WORLD_RANK": "1",
    }
    for name, value in {**leaving, "SLURM_CONF": "/etc/there", "MY_OWN": "stays"}.items():
        monkeypatch.setenv(name, value)
    submit(staged(tmp_path, 1, LauncherConfig(kind="slurm")))
    seen = dict(line.split("=", 1) for line in (cluster / "environment").read_text().splitlines() if "=" in line)
    assert not leaving.keys() & seen.keys()
    assert (seen["SLURM_CONF"], seen["MY_OWN"]) == ("/etc/there", "stays")


def test_ranks_on_other_nodes_inherit_the_environment_whatever_the_job_was_told_to_export():
    assert "--export=ALL" in slurm.on_each_node(2, "python", ["-m", "x"])


def test_without_sbatch_the_way_out_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", "")
    with pytest.raises(ConfigError, match="launcher=local"):
        validate_jobs([RunDir(tmp_path / "study" / "run")], [RunConfig()])


def test_controller_that_is_away_is_asked_again(cluster, monkeypatch):
    asked = cluster / "asked"
    (cluster / "squeue").write_text(
        f'#!/bin/sh\necho >> {asked}\ntest $(wc -l < {asked}) -gt 1 && echo "1_2|RUNNING|f|None" && exit\n'
        'echo "slurm_load_jobs error: Unable to contact slurm controller (connect failure)" >&2; exit 1\n'
    )
    assert slurm.live_jobs("any") == [slurm.Job("1_2", "RUNNING", "f", "None")]
    monkeypatch.setattr(slurm, "PATIENCE_S", 0.0)
    asked.unlink()
    with pytest.raises(RunError, match="Unable to contact"):
        slurm.ask("squeue")


def test_submission_without_an_answer_is_not_made_twice(cluster, tmp_path):
    (cluster / "sbatch").write_text(
        SBATCH.replace('echo "${number}0"\n', 'echo "sbatch: error: Socket timed out" >&2; exit 1\n')
    )
    assert submit(staged(tmp_path, 1, LauncherConfig(kind="slurm"))) == ["10"]
    assert (cluster / "asked").read_text().count("parsable") == 1


def test_batch_script_asks_for_what_the_runs_of_a_job_need(tmp_path):
    site = SlurmConfig(partition="p", ranks_per_node=4, cpus_per_rank=2, mem_gb_per_rank=1.5, options=["--exclusive"])
    one = batch_script(LauncherConfig(kind="slurm", ranks=2, workers=3, slurm=site), tmp_path, name="n")
    for words in ("--partition=p", "--nodes=1", "--cpus-per-task=12", "--mem=9216M", "--exclusive", "--requeue"):
        assert f"#SBATCH {words}" in one
    assert "account" not in one
    gpus = replace(site, gpus_per_rank=1)
    two = batch_script(LauncherConfig(kind="slurm", ranks=8, workers=3, slurm=gpus), tmp_path, name="n")
    for words in ("--nodes=2", "--gpus-per-node=4", "--cpus-per-task=24"):
        assert f"#SBATCH {words}" in two


def test_signal_during_the_setup_does_not_end_the_job(tmp_path):
    """Nobody would put it back into the queue: scaling.launch.job, which does, listens only some seconds later."""
    (tmp_path / "python").write_text("#!/bin/sh\necho began\n")
    (tmp_path / "python").chmod(stat.S_IRWXU)
    site = SlurmConfig(python=str(tmp_path / "python"), setup=["kill -USR1 $$"])
    (tmp_path / "job.sbatch").write_text(batch_script(LauncherConfig(kind="slurm", slurm=site), tmp_path, name="n"))
    done = subprocess.run(["bash", str(tmp_path / "job.sbatch")], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "began\n")


def test_jobs_of_studies_of_the_same_name_differ(tmp_path):
    assert job_name(tmp_path / "a" / "s") != job_name(tmp_path / "b" / "s")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: LauncherConfig(kind="slrm"), "launcher.kind=slrm must be one of local, slurm"),
        (lambda: LauncherConfig(ranks=0), "launcher.ranks=0 must be >= 1"),
        (
            lambda: LauncherConfig(kind="slurm", ranks=6, slurm=SlurmConfig(ranks_per_node=4)),
            "launcher.ranks=6 must be",
        ),
        (lambda: SlurmConfig(time_min=0), "launcher.slurm.time_min=0"),
        (lambda: SlurmConfig(time_min=1, stop_s=60), "launcher.slurm.stop_s=60 must be in"),
        (lambda: SlurmConfig(options=["exclusive"]), "launcher.slurm.options"),
    ],
)
def test_mistake_is_named(make, message):
    with pytest.raises(ConfigError) as raised:
        make()
    assert message in str(raised.value)


def test_memory_of_a_clusters_device_must_be_given_to_plan():
    launcher = LauncherConfig(kind="slurm", slurm=SlurmConfig(gpus_per_rank=1, mem_gb_per_rank=60))
    with pytest.raises(ConfigError, match=r"plan\.device_memory_gib=0 must be"):
        planned_device(replace(RunConfig(), launcher=launcher))
    on_cpus = LauncherConfig(kind="slurm", slurm=SlurmConfig(mem_gb_per_rank=2))
    assert planned_device(replace(RunConfig(), launcher=on_cpus)) == ("cpu", 2 * 2**30)


def test_data_are_copied_to_a_node_whole_and_once(tmp_path):
    data, here = tmp_path / "data", tmp_path / "node" / "copy"
    here.parent.mkdir()
    data.mkdir()
    (data / "shard").write_text("content")
    copy(data, str(here))
    assert (here / "shard").read_text() == "content"
    (data / "shard").write_text("later")
    copy(data, str(here))
    assert (here / "shard").read_text() == "content"
    assert [path.name for path in here.parent.iterdir()] == ["copy"]
    with pytest.raises(RunError, match="no such variable"):
        copy(data, "$NO_SUCH_VARIABLE/copy")
    with pytest.raises(RunError, match=r"/proc/.*; name a directory of the nodes with room"):
        copy(data, "/proc/nowhere/copy")
