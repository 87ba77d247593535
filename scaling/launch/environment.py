"""What a run may see of the shell's variables: its world is what its launcher says, never what was exported before."""

import os
import re
from collections.abc import Mapping, MutableMapping

#: By these torchrun, mpirun, srun and platforms of clusters name a process's place among others.
WORLD = re.compile(
    r"(GROUP_|LOCAL_|ROLE_|CROSS_)?(RANK|WORLD_SIZE)|ROLE_NAME|NODE_RANK|NNODES|NPROC_PER_NODE|MASTER_(ADDR|PORT)"
    r"|(TORCHELASTIC|PET|OMPI|PMI|PMIX|MV2|MPI|I_MPI|PALS|HYDI|FLUX|JSM|ALPS)_.*"
)
#: What an allocation leaves for the commands within it; sbatch would take them for options of the new job.
ALLOCATION = re.compile(r"(SLURM|SBATCH|SRUN|SALLOC)_.*")
#: Where SLURM's commands find their cluster, and who asks.
CLIENT = re.compile(r"SLURM_(CONF|CONF_SERVER|JWT|CLUSTERS)")
#: How the environment names a world of one.
ALONE = {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1", "LOCAL_WORLD_SIZE": "1"}


def without_world(environment: Mapping[str, str]) -> dict[str, str]:
    """The environment of a process that starts a world of its own: no variable places it in another one."""
    return {name: value for name, value in environment.items() if not WORLD.fullmatch(name)}


def submission_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """The environment that jobs inherit: neither a world nor options of the allocation in which they are submitted."""
    kept = without_world(environment)
    return {name: value for name, value in kept.items() if CLIENT.fullmatch(name) or not ALLOCATION.fullmatch(name)}


def leave_world(environment: MutableMapping[str, str] = os.environ) -> None:
    """Make this process a world of its own, whatever it has inherited."""
    for name in [name for name in environment if WORLD.fullmatch(name)]:
        del environment[name]
    environment.update(ALONE)


def options_left_out(environment: Mapping[str, str]) -> list[str]:
    """The options of sbatch that `submission_environment` leaves out: a job's stand in its script."""
    return sorted(f"{name}={value}" for name, value in environment.items() if name.startswith("SBATCH_"))
