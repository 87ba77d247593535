"""A run's world is what its launcher says: what shells, schedulers and platforms export does not reach it."""

import pytest

from scaling.launch.environment import ALONE, leave_world, options_left_out, submission_environment, without_world

WORLD = {
    "RANK": "1",
    "WORLD_SIZE": "2",
    "LOCAL_RANK": "1",
    "LOCAL_WORLD_SIZE": "2",
    "GROUP_RANK": "0",
    "NODE_RANK": "0",
    "MASTER_ADDR": "elsewhere",
    "MASTER_PORT": "29500",
    "TORCHELASTIC_RUN_ID": "none",
    "PET_NNODES": "2",
    "OMPI_COMM_WORLD_RANK": "1",
    "OMPI_COMM_WORLD_SIZE": "4",
    "PMI_RANK": "1",
    "PMIX_RANK": "1",
    "MV2_COMM_WORLD_RANK": "1",
    "PALS_RANKID": "1",
}
ALLOCATION = {
    "SLURM_JOB_ID": "7",
    "SLURM_MEM_PER_CPU": "2048",
    "SLURM_TRES_PER_TASK": "cpu:1",
    "SLURM_CPU_BIND": "cores",
    "SLURM_EXPORT_ENV": "NONE",
    "SBATCH_PARTITION": "nowhere",
    "SBATCH_EXPORT": "NONE",
    "SRUN_CPUS_PER_TASK": "3",
    "SALLOC_PARTITION": "nowhere",
}
KEPT = {
    "PATH": "/bin",
    "HOME": "/root",
    "OMP_NUM_THREADS": "1",
    "DS_ACCELERATOR": "cpu",
    "PYTHONPATH": "/x",
    "CUDA_VISIBLE_DEVICES": "1",
    "RANKING": "not a rank",
    "MY_WORLD_SIZE": "2",
}
CLIENT = {"SLURM_CONF": "/etc/slurm.conf", "SLURM_JWT": "token", "SLURM_CLUSTERS": "a"}


def test_process_of_its_own_world_sees_no_other():
    assert without_world({**WORLD, **ALLOCATION, **KEPT}) == {**ALLOCATION, **KEPT}


def test_submission_hands_on_neither_a_world_nor_options_of_the_allocation():
    assert submission_environment({**WORLD, **ALLOCATION, **KEPT, **CLIENT}) == {**KEPT, **CLIENT}


def test_options_that_are_left_out_can_be_named():
    assert options_left_out({**ALLOCATION, **KEPT}) == ["SBATCH_EXPORT=NONE", "SBATCH_PARTITION=nowhere"]


@pytest.mark.parametrize("before", [{}, WORLD])
def test_world_of_one_is_named_as_one(before):
    environment = {**KEPT, **before}
    leave_world(environment)
    assert environment == {**KEPT, **ALONE}
