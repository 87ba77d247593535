"""What changes where and how fast a run is computed, never what: ZeRO, ranks, launcher, study and plan."""

from dataclasses import asdict, dataclass, field
from pathlib import Path

from scaling.schema import LOGISTICS, require

LAUNCHERS = ("local", "slurm", "torchrun")
TRACKERS = ("none", "tensorboard")


@dataclass(frozen=True)
class ZeroConfig:
    """What is partitioned over the ranks, and what is computed again in place of being kept.

    stage: 0-3, DeepSpeed ZeRO. checkpointing: recompute every k-th layer in backward (1: every layer; 0: none).
    offload: keep the state of the optimiser, and step, on the CPU; from stage 1 on. auto: stage, checkpointing and
    train.max_edges as `experiments.plan` chooses them for plan.device_memory_gib.
    """

    stage: int = field(default=0, metadata=LOGISTICS)
    checkpointing: int = field(default=0, metadata=LOGISTICS)
    offload: bool = field(default=False, metadata=LOGISTICS)
    auto: bool = field(default=False, metadata=LOGISTICS)

    def __post_init__(self) -> None:
        require(self.stage in (0, 1, 2, 3), "zero.stage", self.stage, "0, 1, 2 or 3")
        require(not (self.offload and self.stage == 0), "zero.offload", True, "false at zero.stage=0", "use stage 1")
        chosen = self.stage or self.checkpointing or self.offload
        require(not (self.auto and chosen), "zero.auto", True, "false with a stage, checkpointing or offload given")
        require(self.checkpointing >= 0, "zero.checkpointing", self.checkpointing, ">= 0 (0: no layer, 1: every one)")


@dataclass(frozen=True)
class ParallelConfig:
    """How ranks share the work. graph: number of consecutive ranks that share each batch; the rest is data parallel."""

    graph: int = field(default=1, metadata=LOGISTICS)

    def __post_init__(self) -> None:
        require(self.graph >= 1, "parallel.graph", self.graph, ">= 1")


@dataclass(frozen=True)
class SlurmConfig:
    """What a job asks of SLURM; null, 0 and empty: what the cluster gives by default.

    partition, account, qos, constraint: as in sbatch. time_min: limit of one job, which goes on in another one.
    ranks_per_node: of a run that takes several nodes. cpus_per_rank, gpus_per_rank, mem_gb_per_rank: of each rank.
    jobs: the most for all runs of one shape; each takes one run after another (0: a job for each run).
    stop_s: seconds before its end in which a job leaves its checkpoints. setup: lines of shell that a job begins with,
    e.g. module load cuda. options: further ones of sbatch, e.g. --exclusive. python: the command on the nodes (empty:
    the one that submits). stage_to: a directory of each node to copy the data to first, e.g. $TMPDIR. wait: whether the
    command stays until all jobs have ended.
    """

    partition: str | None = field(default=None, metadata=LOGISTICS)
    account: str | None = field(default=None, metadata=LOGISTICS)
    qos: str | None = field(default=None, metadata=LOGISTICS)
    constraint: str | None = field(default=None, metadata=LOGISTICS)
    time_min: int = field(default=240, metadata=LOGISTICS)
    ranks_per_node: int = field(default=1, metadata=LOGISTICS)
    cpus_per_rank: int = field(default=1, metadata=LOGISTICS)
    gpus_per_rank: int = field(default=0, metadata=LOGISTICS)
    mem_gb_per_rank: float = field(default=0.0, metadata=LOGISTICS)
    jobs: int = field(default=16, metadata=LOGISTICS)
    stop_s: int = field(default=120, metadata=LOGISTICS)
    setup: list[str] = field(default_factory=list, metadata=LOGISTICS)
    options: list[str] = field(default_factory=list, metadata=LOGISTICS)
    python: str = field(default="", metadata=LOGISTICS)
    stage_to: str = field(default="", metadata=LOGISTICS)
    wait: bool = field(default=False, metadata=LOGISTICS)

    def __post_init__(self) -> None:
        require(self.time_min >= 1, "launcher.slurm.time_min", self.time_min, ">= 1 minute")
        for key in ("ranks_per_node", "cpus_per_rank"):
            require(getattr(self, key) >= 1, f"launcher.slurm.{key}", getattr(self, key), ">= 1")
        for key in ("gpus_per_rank", "mem_gb_per_rank", "jobs"):
            require(getattr(self, key) >= 0, f"launcher.slurm.{key}", getattr(self, key), ">= 0")
        limit = 60 * self.time_min
        require(0 < self.stop_s < limit, "launcher.slurm.stop_s", self.stop_s, f"in (0, {limit}), the time limit in s")
        bad = [line for line in self.options if not line.startswith("-")]
        require(not bad, "launcher.slurm.options", bad, "options of sbatch, e.g. --exclusive")


@dataclass(frozen=True)
class LauncherConfig:
    """Where runs are computed: on this machine (kind local), by jobs of a cluster (slurm), by hand (torchrun).

    ranks: processes of a run; 0: as few as the network fits on (`experiments.plan`). workers: runs side by side on this
    machine, or in one job (0: as many as fit; in a job on CPUs 1).
    """

    kind: str = field(default="local", metadata=LOGISTICS)
    ranks: int = field(default=1, metadata=LOGISTICS)
    workers: int = field(default=0, metadata=LOGISTICS)
    slurm: SlurmConfig = field(default_factory=SlurmConfig)

    def __post_init__(self) -> None:
        require(self.kind in LAUNCHERS, "launcher.kind", self.kind, f"one of {', '.join(LAUNCHERS)}")
        least = 0 if self.kind == "slurm" else 1
        require(
            self.ranks >= least, "launcher.ranks", self.ranks, ">= 1, or with launcher=slurm 0: as few as it fits on"
        )
        require(self.workers >= 0, "launcher.workers", self.workers, ">= 0 (0: as many as the cores allow)")
        per_node = self.slurm.ranks_per_node
        is_even = self.kind != "slurm" or self.ranks <= per_node or self.ranks % per_node == 0
        allowed = f"at most launcher.slurm.ranks_per_node={per_node}, or a multiple of it"
        require(is_even, "launcher.ranks", self.ranks, allowed)

    @property
    def nodes(self) -> int:
        """Over how many a run's ranks are spread."""
        return max(1, self.ranks // self.slurm.ranks_per_node) if self.kind == "slurm" else 1


@dataclass(frozen=True)
class StudyConfig:
    """The grid a run belongs to: its directory is root/name."""

    name: str = field(default="single", metadata=LOGISTICS)
    root: str = field(default="studies", metadata=LOGISTICS)

    def __post_init__(self) -> None:
        ok = bool(self.name) and Path(self.name).name == self.name and not self.name.startswith(".")
        require(ok, "study.name", repr(self.name), "a plain directory name")


@dataclass(frozen=True)
class TrackingConfig:
    """Where a run reports how it goes, besides its metrics.jsonl: none or tensorboard."""

    name: str = field(default="none", metadata=LOGISTICS)

    def __post_init__(self) -> None:
        require(self.name in TRACKERS, "tracking.name", self.name, f"one of {', '.join(TRACKERS)}")


@dataclass(frozen=True)
class PlanConfig:
    """What `experiments.plan`, and zero.auto, are to assume; nothing that a run reads.

    device_memory_gib: of one device (0: of this machine). num_devices: a run may use (0: launcher.ranks). flops_per_s:
    of one device (0: measured on this machine in seconds). num_structures, num_atoms, num_edges, num_elements: of the
    training set and of its mean structure, where the data are not at hand (0: read from data.path).
    """

    device_memory_gib: float = field(default=0.0, metadata=LOGISTICS)
    num_devices: int = field(default=0, metadata=LOGISTICS)
    flops_per_s: float = field(default=0.0, metadata=LOGISTICS)
    num_structures: int = field(default=0, metadata=LOGISTICS)
    num_atoms: float = field(default=0.0, metadata=LOGISTICS)
    num_edges: float = field(default=0.0, metadata=LOGISTICS)
    num_elements: int = field(default=0, metadata=LOGISTICS)

    def __post_init__(self) -> None:
        for key, value in asdict(self).items():
            require(0 <= value < float("inf"), f"plan.{key}", value, ">= 0")
        given = [self.num_structures > 0, self.num_atoms > 0, self.num_edges > 0, self.num_elements > 0]
        require(
            all(given) or not any(given),
            "plan.num_structures, num_atoms, num_edges, num_elements",
            [self.num_structures, self.num_atoms, self.num_edges, self.num_elements],
            "all given or none",
        )
