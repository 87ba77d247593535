"""What can be varied in a run: the typed schema behind conf/. Its docstrings are the documentation of the keys.

A field whose metadata says `LOGISTICS` changes where and how fast a run is computed, never what; every other field is
part of the run's identity (scaling/runs/identity.py).
"""

from dataclasses import asdict, dataclass, field, fields, is_dataclass, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from scaling.errors import ConfigError

LOGISTICS = {"changes_result": False}

MODELS = ("egnn", "dimenetpp", "gemnet_t")
FORCES = ("conservative", "direct")
PRECISIONS = ("fp32", "tf32", "bf16")
LAUNCHERS = ("local", "slurm", "torchrun")
BUDGET_UNITS = ("steps", "samples", "epochs", "flops")


def _require(ok: bool, key: str, value: object, allowed: str, remedy: str = "") -> None:
    if not ok:
        raise ConfigError(f"{key}={value} must be {allowed}" + (f"; {remedy}" if remedy else ""))


@dataclass(frozen=True)
class DataConfig:
    """Which structures a run learns from and is judged on.

    path: directory written by `experiments.prepare`. digest: of the data there, which other data are refused for;
    filled in when a run is written down. fraction: share of the training structures, whole groups, nested.
    fraction_of: what the share is of: structures, atoms or edges.
    cutoff_ang: neighbour radius. val_share, test_share: shares of the groups, by structures (test_share is ignored
    where the source names its own test set). split_seed: of the split and of the nested fractions.
    num_workers: loader processes per rank; 0 builds neighbour lists in the training process.
    cache_mb: neighbour lists kept in memory, per loader process.
    """

    path: str = field(default="data/emt", metadata=LOGISTICS)
    digest: str = field(default="", metadata=LOGISTICS)
    fraction: float = 1.0
    fraction_of: str = "structures"
    cutoff_ang: float = 5.0
    val_share: float = 0.1
    test_share: float = 0.1
    split_seed: int = 0
    num_workers: int = field(default=0, metadata=LOGISTICS)
    cache_mb: int = field(default=128, metadata=LOGISTICS)

    def __post_init__(self) -> None:
        _require(0 < self.fraction <= 1, "data.fraction", self.fraction, "in (0, 1]", "use 1.0 for the full set")
        allowed = ("structures", "atoms", "edges")
        _require(self.fraction_of in allowed, "data.fraction_of", self.fraction_of, f"one of {', '.join(allowed)}")
        _require(self.cutoff_ang > 0, "data.cutoff_ang", self.cutoff_ang, "> 0 angstrom")
        _require(0 < self.val_share < 1, "data.val_share", self.val_share, "in (0, 1)")
        _require(0 <= self.test_share < 1, "data.test_share", self.test_share, "in [0, 1)")
        _require(
            self.val_share + self.test_share < 1,
            "data.val_share + data.test_share",
            self.val_share + self.test_share,
            "< 1",
            "nothing would be left to train on",
        )
        _require(self.split_seed >= 0, "data.split_seed", self.split_seed, ">= 0")
        _require(self.num_workers >= 0, "data.num_workers", self.num_workers, ">= 0")
        _require(self.cache_mb >= 0, "data.cache_mb", self.cache_mb, ">= 0")


def _size_of(*models: str) -> Any:
    """A size that only these models have; null: it follows from the width."""
    return field(default=None, metadata={"models": models})


@dataclass(frozen=True)
class ModelConfig:
    """The network. width: features per atom (egnn) or per edge (dimenetpp, gemnet_t). depth: message-passing layers.

    num_radial: radial basis functions. forces: `conservative` (-dE/dx) or `direct` (a head of its own; not a gradient
    of the energy). num_params: in place of a width: the width whose network has nearest to so many parameters at this
    depth.

    Of triplet models, null means by the width: num_spherical: degrees of the angular basis (7). triplet_width: features
    that meet at an angle (width / 2). output_width: of dimenetpp's output blocks (2 width). node_width: features per
    atom of gemnet_t (width). bilinear_width: of what its angles give (triplet_width).
    """

    name: str = "egnn"
    width: int = 16
    depth: int = 2
    num_radial: int = 10
    forces: str = "conservative"
    num_params: float | None = None
    num_spherical: int | None = _size_of("dimenetpp", "gemnet_t")
    triplet_width: int | None = _size_of("dimenetpp", "gemnet_t")
    output_width: int | None = _size_of("dimenetpp")
    node_width: int | None = _size_of("gemnet_t")
    bilinear_width: int | None = _size_of("gemnet_t")

    def __post_init__(self) -> None:
        _require(self.name in MODELS, "model.name", self.name, f"one of {', '.join(MODELS)}")
        _require(self.width >= 1, "model.width", self.width, ">= 1")
        _require(self.depth >= 1, "model.depth", self.depth, ">= 1")
        for entry in fields(self):
            value = getattr(self, entry.name)
            if value is None or "models" not in entry.metadata:
                continue
            key, models = f"model.{entry.name}", entry.metadata["models"]
            _require(
                self.name in models,
                key,
                value,
                f"left out for model.name={self.name}",
                f"it is of {' and '.join(models)}",
            )
            _require(value >= 1, key, value, ">= 1")
        if self.num_params is not None:
            _require(1 <= self.num_params < 1e13, "model.num_params", self.num_params, "in [1, 1e13)")
            is_free = self.width == type(self).__dataclass_fields__["width"].default
            _require(is_free, "model.width", self.width, "left out where model.num_params is given", "give one of them")
        _require((self.num_spherical or 1) <= 16, "model.num_spherical", self.num_spherical, "<= 16", "more overflow")
        _require(self.num_radial >= 2, "model.num_radial", self.num_radial, ">= 2")
        _require(self.forces in FORCES, "model.forces", self.forces, f"one of {', '.join(FORCES)}")

    def sized(self) -> "ModelConfig":
        """The same with every size that the model has given as a number."""
        if self.name == "egnn":
            return self
        triplet = self.triplet_width or max(1, self.width // 2)
        own: dict[str, Any] = {"num_spherical": self.num_spherical or 7, "triplet_width": triplet}
        if self.name == "dimenetpp":
            own["output_width"] = self.output_width or 2 * self.width
        else:
            own |= {"node_width": self.node_width or self.width, "bilinear_width": self.bilinear_width or triplet}
        return replace(self, **own)


@dataclass(frozen=True)
class OptimConfig:
    """AdamW with warm-up, a stable stretch and a linear decay to zero.

    The peak learning rate is lr * (model.width / lr_reference_width) ** lr_width_exponent: one rate for all widths
    mistunes the large ones and bends the law in N. warmup_share, decay_share: of all steps.
    max_grad_norm: clipping of the global gradient norm; 0 switches it off.
    """

    lr: float = 0.02
    lr_reference_width: int = 16
    lr_width_exponent: float = -0.25
    beta1: float = 0.9
    beta2: float = 0.99
    weight_decay: float = 0.001
    max_grad_norm: float = 1.0
    warmup_share: float = 0.05
    decay_share: float = 0.5

    def __post_init__(self) -> None:
        _require(0 < self.lr < float("inf"), "optim.lr", self.lr, "> 0 and finite")
        _require(self.lr_reference_width >= 1, "optim.lr_reference_width", self.lr_reference_width, ">= 1")
        _require(0 <= self.beta1 < 1, "optim.beta1", self.beta1, "in [0, 1)")
        _require(0 <= self.beta2 < 1, "optim.beta2", self.beta2, "in [0, 1)")
        _require(self.weight_decay >= 0, "optim.weight_decay", self.weight_decay, ">= 0")
        _require(self.max_grad_norm >= 0, "optim.max_grad_norm", self.max_grad_norm, ">= 0 (0: no clipping)")
        _require(0 <= self.warmup_share <= 1, "optim.warmup_share", self.warmup_share, "in [0, 1]")
        _require(0 <= self.decay_share <= 1, "optim.decay_share", self.decay_share, "in [0, 1]")
        _require(
            self.warmup_share + self.decay_share <= 1,
            "optim.warmup_share + optim.decay_share",
            self.warmup_share + self.decay_share,
            "<= 1",
        )

    def peak_lr(self, width: int) -> float:
        """The learning rate of the stable stretch at this width."""
        return float(self.lr * (width / self.lr_reference_width) ** self.lr_width_exponent)


@dataclass(frozen=True)
class BudgetConfig:
    """How long a run trains: `amount` of `unit` (steps, samples, epochs or flops), rounded up to whole steps."""

    unit: str = "steps"
    amount: float = 2000

    def __post_init__(self) -> None:
        _require(self.unit in BUDGET_UNITS, "train.budget.unit", self.unit, f"one of {', '.join(BUDGET_UNITS)}")
        _require(0 < self.amount < float("inf"), "train.budget.amount", self.amount, "> 0 and finite")


@dataclass(frozen=True)
class TrainConfig:
    """The optimisation: batch_size structures a step over all ranks, and the weights of the two loss terms.

    energy_weight: forces carry 3 N labels a structure, the energy one, whose gradient is the noisier: at equal weights
    both end up worse (docs/decisions/0005).

    precision: fp32; tf32 in products of matrices, on GPUs that have it; bf16 by autocast. validate_every,
    checkpoint_every: steps; validation chooses the weights that are tested, so it is part of the result, checkpointing
    is not. max_edges: edge budget of one micro-batch, over all ranks that share it (0: one micro-batch a step).
    num_threads: of one rank; 0 leaves torch's choice.
    """

    budget: BudgetConfig = field(default_factory=BudgetConfig)
    batch_size: int = 32
    energy_weight: float = 0.1
    force_weight: float = 1.0
    precision: str = "fp32"
    validate_every: int = 500
    checkpoint_every: int = field(default=500, metadata=LOGISTICS)
    max_edges: int = field(default=0, metadata=LOGISTICS)
    num_threads: int = field(default=1, metadata=LOGISTICS)

    def __post_init__(self) -> None:
        _require(self.batch_size >= 1, "train.batch_size", self.batch_size, ">= 1")
        _require(self.energy_weight >= 0, "train.energy_weight", self.energy_weight, ">= 0")
        _require(self.force_weight >= 0, "train.force_weight", self.force_weight, ">= 0")
        _require(
            self.energy_weight + self.force_weight > 0,
            "train.energy_weight + train.force_weight",
            0,
            "> 0",
            "nothing would be learned",
        )
        _require(self.precision in PRECISIONS, "train.precision", self.precision, f"one of {', '.join(PRECISIONS)}")
        _require(self.validate_every >= 1, "train.validate_every", self.validate_every, ">= 1")
        _require(self.checkpoint_every >= 1, "train.checkpoint_every", self.checkpoint_every, ">= 1")
        _require(self.max_edges >= 0, "train.max_edges", self.max_edges, ">= 0 (0: one micro-batch a step)")
        _require(self.num_threads >= 0, "train.num_threads", self.num_threads, ">= 0")


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
        _require(self.stage in (0, 1, 2, 3), "zero.stage", self.stage, "0, 1, 2 or 3")
        _require(not (self.offload and self.stage == 0), "zero.offload", True, "false at zero.stage=0", "use stage 1")
        chosen = self.stage or self.checkpointing or self.offload
        _require(not (self.auto and chosen), "zero.auto", True, "false with a stage, checkpointing or offload given")
        _require(self.checkpointing >= 0, "zero.checkpointing", self.checkpointing, ">= 0 (0: no layer, 1: every one)")


@dataclass(frozen=True)
class ParallelConfig:
    """How ranks share the work. graph: so many consecutive ranks share each batch; the rest is data parallel."""

    graph: int = field(default=1, metadata=LOGISTICS)

    def __post_init__(self) -> None:
        _require(self.graph >= 1, "parallel.graph", self.graph, ">= 1")


@dataclass(frozen=True)
class SlurmConfig:
    """What a job asks of SLURM; null, 0 and empty: what the cluster gives by default.

    partition, account, qos, constraint: as in sbatch. time_min: limit of one job, which goes on in another one.
    ranks_per_node: of a run that takes several nodes. cpus_per_rank, gpus_per_rank, mem_gb_per_rank: of each rank.
    jobs: at most so many for all runs of one shape; each takes one run after another (0: a job for each run).
    stop_s: before its end a job has so long to leave its checkpoints. setup: lines of shell at the beginning of a job,
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
        _require(self.time_min >= 1, "launcher.slurm.time_min", self.time_min, ">= 1 minute")
        for key in ("ranks_per_node", "cpus_per_rank"):
            _require(getattr(self, key) >= 1, f"launcher.slurm.{key}", getattr(self, key), ">= 1")
        for key in ("gpus_per_rank", "mem_gb_per_rank", "jobs"):
            _require(getattr(self, key) >= 0, f"launcher.slurm.{key}", getattr(self, key), ">= 0")
        limit = 60 * self.time_min
        _require(0 < self.stop_s < limit, "launcher.slurm.stop_s", self.stop_s, f"in (0, {limit}), the time limit in s")
        bad = [line for line in self.options if not line.startswith("-")]
        _require(not bad, "launcher.slurm.options", bad, "options of sbatch, e.g. --exclusive")


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
        _require(self.kind in LAUNCHERS, "launcher.kind", self.kind, f"one of {', '.join(LAUNCHERS)}")
        least = 0 if self.kind == "slurm" else 1
        _require(
            self.ranks >= least, "launcher.ranks", self.ranks, ">= 1, or with launcher=slurm 0: as few as it fits on"
        )
        _require(self.workers >= 0, "launcher.workers", self.workers, ">= 0 (0: as many as the cores allow)")
        per_node = self.slurm.ranks_per_node
        is_even = self.kind != "slurm" or self.ranks <= per_node or self.ranks % per_node == 0
        allowed = f"at most launcher.slurm.ranks_per_node={per_node}, or a multiple of it"
        _require(is_even, "launcher.ranks", self.ranks, allowed)

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
        _require(ok, "study.name", repr(self.name), "a plain directory name")


@dataclass(frozen=True)
class TrackingConfig:
    """Where a run reports how it goes, besides its metrics.jsonl: none or tensorboard."""

    name: str = field(default="none", metadata=LOGISTICS)


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
            _require(0 <= value < float("inf"), f"plan.{key}", value, ">= 0")
        given = [self.num_structures > 0, self.num_atoms > 0, self.num_edges > 0, self.num_elements > 0]
        _require(
            all(given) or not any(given),
            "plan.num_structures, num_atoms, num_edges, num_elements",
            [self.num_structures, self.num_atoms, self.num_edges, self.num_elements],
            "all given or none",
        )


@dataclass(frozen=True)
class RunConfig:
    """One training run, whole. `seed`: of the weights and of the order of batches."""

    seed: int = 0
    data: DataConfig = field(default_factory=DataConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    zero: ZeroConfig = field(default_factory=ZeroConfig)
    parallel: ParallelConfig = field(default_factory=ParallelConfig)
    launcher: LauncherConfig = field(default_factory=LauncherConfig)
    study: StudyConfig = field(default_factory=StudyConfig)
    plan: PlanConfig = field(default_factory=PlanConfig)
    tracking: TrackingConfig = field(default_factory=TrackingConfig)

    def __post_init__(self) -> None:
        _require(self.seed >= 0, "seed", self.seed, ">= 0")
        key, ranks = ("launcher.ranks", self.launcher.ranks)
        if self.plan.num_devices:
            key, ranks = ("plan.num_devices", self.plan.num_devices)
        allowed = f"a divisor of {key}={ranks}"
        _require(ranks % self.parallel.graph == 0, "parallel.graph", self.parallel.graph, allowed)


def writable(schema: type) -> DictConfig:
    """A frozen dataclass as a schema that overrides may write to (OmegaConf makes frozen ones read-only)."""
    node: DictConfig = OmegaConf.structured(schema)
    _clear_read_only(node)
    return node


def _clear_read_only(node: DictConfig) -> None:
    node._set_flag("readonly", None)
    for key in node:
        child = node._get_node(key)
        if isinstance(child, DictConfig) and not child._is_none() and not child._is_missing():
            _clear_read_only(child)


def validated(config: DictConfig) -> RunConfig:
    """Turn a composed config into the frozen dataclasses.

    Raises:
        ConfigError: naming the key, its value and what is allowed.
    """
    _refuse_unknown(config, RunConfig)
    try:
        run = OmegaConf.to_object(OmegaConf.merge(writable(RunConfig), config))
    except OmegaConfBaseException as error:
        raise ConfigError(str(error).replace("\n", "; ")) from error
    assert isinstance(run, RunConfig)
    return run


def _refuse_unknown(config: DictConfig, schema: Any, prefix: str = "") -> None:
    known = {entry.name: entry for entry in fields(schema)}
    for key in map(str, config):
        if key not in known:
            near = get_close_matches(key, known, n=1)
            hint = f"did you mean {prefix}{near[0]}?" if near else f"allowed: {', '.join(known)}"
            raise ConfigError(f"{prefix}{key} is not a key; {hint}")
        child = config._get_node(key)
        if isinstance(child, DictConfig) and not child._is_none() and is_dataclass(known[key].type):
            _refuse_unknown(child, known[key].type, f"{prefix}{key}.")


def read_config(path: Path) -> RunConfig:
    """Read a run's config.yaml."""
    try:
        loaded = OmegaConf.load(path)
    except (YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is damaged: {' '.join(str(error).split())}; remove the run's directory") from error
    if not isinstance(loaded, DictConfig):
        raise ConfigError(f"{path} is not a run configuration; remove the run's directory")
    try:
        return validated(loaded)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from error


def to_yaml(config: RunConfig) -> str:
    """The inverse of `read_config`."""
    return OmegaConf.to_yaml(OmegaConf.create(asdict(config)))


def result_fields(config: Any) -> dict[str, Any]:
    """The part of a config that changes the result, as nested dicts."""
    kept: dict[str, Any] = {}
    for entry in fields(config):
        value = getattr(config, entry.name)
        if is_dataclass(value):
            kept[entry.name] = result_fields(value)
        elif "models" in entry.metadata and config.name not in entry.metadata["models"]:
            continue
        elif entry.metadata.get("changes_result", True):
            kept[entry.name] = float(value) if entry.type is float else value
    return {key: value for key, value in kept.items() if value != {}}
