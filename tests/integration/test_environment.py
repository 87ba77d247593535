"""What the shell exports does not reach the tests, and each command is a program with an exit code of its own."""

import os
import subprocess
import sys

import pytest

from tests.conftest import OF_A_CLUSTER, ROOT, run_process

LEFT_BEHIND = {
    **{"WORLD_SIZE": "2", "RANK": "1", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "n7"},
    **{"MASTER_PORT": "1", "OMPI_COMM_WORLD_SIZE": "2", "PMI_RANK": "1", "PMI_SIZE": "2", "SLURM_JOB_ID": "7"},
    **{"SLURM_MEM_PER_CPU": "1", "SLURM_CONF": "/nowhere", "SLURM_CI_NODES": "1", "SBATCH_PARTITION": "nonesuch"},
    **{"SQUEUE_FORMAT": "%i", "GNN_SCALING_DATA": "/nowhere", "TORCHELASTIC_RUN_ID": "x", "COLUMNS": "20"},
}


def test_no_variable_of_a_cluster_is_left():
    by_an_engine_of_this_process = {"LOCAL_RANK"}
    left = {variable for variable in os.environ if OF_A_CLUSTER.fullmatch(variable)}
    assert not left - by_an_engine_of_this_process


def test_variables_of_a_cluster_are_taken_away_before_any_test():
    code = f"import os, tests.conftest; print(sorted(set(os.environ) & {set(LEFT_BEHIND)}))"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env={**os.environ, **LEFT_BEHIND},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "[]\n"


@pytest.mark.parametrize(
    ("module", "argument"),
    [
        ("experiments.prepare", "verify=nowhere"),
        ("experiments.train", "data.path=nowhere"),
        ("experiments.plan", "model.width=0"),
        ("experiments.status", "nowhere"),
        ("experiments.collect", "nowhere"),
        ("analysis", "nocommand"),
    ],
)
def test_command_is_a_program_whose_exit_code_tells_of_a_mistake(module, argument, tmp_path):
    """All other tests call its main function."""
    done = run_process(module, argument, cwd=tmp_path)
    assert done.returncode > 0
    assert "error: " in done.stderr
    assert "Traceback" not in done.stderr
    assert not list(tmp_path.iterdir())
