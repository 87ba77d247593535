"""What can be varied in a run: the typed schema behind conf/. Its docstrings are the documentation of the keys.

A field whose metadata says `LOGISTICS` changes where and how fast a run is computed, never what; every other field is
part of the run's identity (scaling/runs/identity.py). The keys of `model` and `optim` are those of the network's family
and of the optimiser that `name` names: scaling/models/*/config.py, scaling/optim/config.py.
"""

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, fields, is_dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from scaling.errors import ConfigError
from scaling.logistics import (
    LauncherConfig,
    ParallelConfig,
    PlanConfig,
    SlurmConfig,
    StudyConfig,
    TrackingConfig,
    ZeroConfig,
)
from scaling.models.config import FAMILIES, ModelConfig, family
from scaling.optim.config import OPTIMIZERS, AdamWConfig, BudgetConfig, OptimConfig, optimizer_config
from scaling.schema import LOGISTICS, require

__all__ = [
    "BY_NAME",
    "BudgetConfig",
    "DataConfig",
    "LauncherConfig",
    "ModelConfig",
    "OptimConfig",
    "ParallelConfig",
    "PlanConfig",
    "RunConfig",
    "SlurmConfig",
    "StudyConfig",
    "TrackingConfig",
    "TrainConfig",
    "ZeroConfig",
    "read_config",
    "result_fields",
    "to_yaml",
    "validated",
    "writable",
]

PRECISIONS = ("fp32", "tf32", "bf16")
DEFAULT_FAMILY = "egnn"


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
        require(0 < self.fraction <= 1, "data.fraction", self.fraction, "in (0, 1]", "use 1.0 for the full set")
        allowed = ("structures", "atoms", "edges")
        require(self.fraction_of in allowed, "data.fraction_of", self.fraction_of, f"one of {', '.join(allowed)}")
        require(self.cutoff_ang > 0, "data.cutoff_ang", self.cutoff_ang, "> 0 angstrom")
        require(0 < self.val_share < 1, "data.val_share", self.val_share, "in (0, 1)")
        require(0 <= self.test_share < 1, "data.test_share", self.test_share, "in [0, 1)")
        require(
            self.val_share + self.test_share < 1,
            "data.val_share + data.test_share",
            self.val_share + self.test_share,
            "< 1",
            "nothing would be left to train on",
        )
        require(self.split_seed >= 0, "data.split_seed", self.split_seed, ">= 0")
        require(self.num_workers >= 0, "data.num_workers", self.num_workers, ">= 0")
        require(self.cache_mb >= 0, "data.cache_mb", self.cache_mb, ">= 0")


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
        require(self.batch_size >= 1, "train.batch_size", self.batch_size, ">= 1")
        weights = {entry.name: getattr(self, entry.name) for entry in fields(self) if entry.name.endswith("_weight")}
        for name, weight in weights.items():
            require(weight >= 0, f"train.{name}", weight, ">= 0")
        require(sum(weights.values()) > 0, "the sum of the weights in train", 0, "> 0", "nothing would be learned")
        require(self.precision in PRECISIONS, "train.precision", self.precision, f"one of {', '.join(PRECISIONS)}")
        require(self.validate_every >= 1, "train.validate_every", self.validate_every, ">= 1")
        require(self.checkpoint_every >= 1, "train.checkpoint_every", self.checkpoint_every, ">= 1")
        require(self.max_edges >= 0, "train.max_edges", self.max_edges, ">= 0 (0: one micro-batch a step)")
        require(self.num_threads >= 0, "train.num_threads", self.num_threads, ">= 0")

    @property
    def labels(self) -> dict[str, str]:
        """The labels that the loss asks for, each with the setting that does: all terms but energy_weight's ask for
        forces."""
        asked: dict[str, str] = {}
        for entry in fields(self):
            if entry.name.endswith("_weight") and (weight := getattr(self, entry.name)) > 0:
                asked.setdefault(
                    "energy" if entry.name == "energy_weight" else "forces", f"train.{entry.name}={weight}"
                )
        return asked


@dataclass(frozen=True)
class RunConfig:
    """One training run, whole. `seed`: of the weights and of the order of batches."""

    seed: int = 0
    data: DataConfig = field(default_factory=DataConfig)
    model: ModelConfig = field(default_factory=lambda: family(DEFAULT_FAMILY)())
    optim: OptimConfig = field(default_factory=AdamWConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    zero: ZeroConfig = field(default_factory=ZeroConfig)
    parallel: ParallelConfig = field(default_factory=ParallelConfig)
    launcher: LauncherConfig = field(default_factory=LauncherConfig)
    study: StudyConfig = field(default_factory=StudyConfig)
    plan: PlanConfig = field(default_factory=PlanConfig)
    tracking: TrackingConfig = field(default_factory=TrackingConfig)

    def __post_init__(self) -> None:
        require(self.seed >= 0, "seed", self.seed, ">= 0")
        key, ranks = ("launcher.ranks", self.launcher.ranks)
        if self.plan.num_devices:
            key, ranks = ("plan.num_devices", self.plan.num_devices)
        allowed = f"a divisor of {key}={ranks}"
        require(ranks % self.parallel.graph == 0, "parallel.graph", self.parallel.graph, allowed)


@dataclass(frozen=True)
class Choice:
    """A part of RunConfig whose keys depend on its name. find: the schema of a name, or a ConfigError."""

    names: Mapping[str, Any]
    find: Callable[[str], type]
    default: str


BY_NAME = {
    "model": Choice(FAMILIES, family, DEFAULT_FAMILY),
    "optim": Choice(OPTIMIZERS, optimizer_config, AdamWConfig.name),
}
#: What helps against a value of the wrong type.
REMEDIES = {
    re.compile(
        r"Value '\[.*\]' of type"
    ): "a grid of values is written without brackets: model.width: 4,8 (on the command line after -m)",
    re.compile(r"could not be converted to Integer"): "a whole number is wanted",
}


def writable(schema: Any) -> DictConfig:
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
    named = {key: choice.find(_name(config.get(key), choice)) for key, choice in BY_NAME.items()}
    _refuse_unknown(config, RunConfig, named)
    schema = RunConfig(**{key: schema() for key, schema in named.items()})
    try:
        run = OmegaConf.to_object(OmegaConf.merge(writable(schema), OmegaConf.to_container(config)))
    except OmegaConfBaseException as error:
        what = str(error).partition("\n")[0]
        remedies = [remedy for pattern, remedy in REMEDIES.items() if pattern.search(what)]
        raise ConfigError("; ".join([f"{getattr(error, 'full_key', '')}: {what}", *remedies[:1]])) from error
    assert isinstance(run, RunConfig)
    _require_finite(run)
    return run


def _require_finite(part: Any, prefix: str = "") -> None:
    for entry in fields(part):
        value = getattr(part, entry.name)
        if is_dataclass(value):
            _require_finite(value, f"{prefix}{entry.name}.")
        elif isinstance(value, float):
            require(math.isfinite(value), f"{prefix}{entry.name}", value, "a finite number")


def _name(section: Any, choice: Choice) -> str:
    """The family or optimiser that is chosen; the default one where none is."""
    return str(section.get("name", choice.default)) if isinstance(section, DictConfig) else choice.default


def _refuse_unknown(config: DictConfig, schema: Any, named: Mapping[str, type], prefix: str = "") -> None:
    """Refuse keys that the schema does not have.

    Args:
        named: the schemas of the parts whose keys depend on their name.
    """
    known = {entry.name: named.get(entry.name, entry.type) if not prefix else entry.type for entry in fields(schema)}
    for key in map(str, config):
        if key not in known:
            _refuse_size_of_another(config, key, prefix.rstrip("."))
            near = get_close_matches(key, known, n=1)
            hint = f"did you mean {prefix}{near[0]}?" if near else f"allowed: {', '.join(known)}"
            raise ConfigError(f"{prefix}{key} is not a key; {hint}")
        child = config._get_node(key)
        if isinstance(child, DictConfig) and not child._is_none() and is_dataclass(known[key]):
            _refuse_unknown(child, known[key], named, f"{prefix}{key}.")


def _refuse_size_of_another(section: DictConfig, key: str, where: str) -> None:
    """Say of a key that other families or optimisers have that it is theirs."""
    if where not in BY_NAME:
        return
    choice = BY_NAME[where]
    owners = [name for name in choice.names if key in {entry.name for entry in fields(choice.find(name))}]
    allowed = f"left out for {where}.name={_name(section, choice)}"
    require(not owners, f"{where}.{key}", section.get(key), allowed, f"it is of {' and '.join(owners)}")


#: Sizes that were null where they followed from the width, in files written before each family had keys of its own.
ONCE_NULL = ("num_spherical", "triplet_width", "output_width", "node_width", "bilinear_width")


def read_config(path: Path) -> RunConfig:
    """Read a run's config.yaml.

    Raises:
        ConfigError: if the file is damaged, or of a run that cannot be.
    """
    try:
        loaded = OmegaConf.load(path)
    except (YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is damaged: {' '.join(str(error).split())}; remove the run's directory") from error
    if not isinstance(loaded, DictConfig):
        raise ConfigError(f"{path} is not a run configuration; remove the run's directory")
    model = loaded.get("model")
    if isinstance(model, DictConfig):
        for key in ONCE_NULL:
            if key in model and model[key] is None:
                del model[key]
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
        elif entry.metadata.get("changes_result", True):
            kept[entry.name] = float(value) if entry.type is float else value
    return {key: value for key, value in kept.items() if value != {}}
