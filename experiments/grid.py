"""A grid of runs from what Hydra composes: every cell validated before the first one is written down or computed."""

import copy
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

import hydra
from hydra.core.config_loader import ConfigLoader
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, OverrideType
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, open_dict

from experiments.schema import register
from scaling.config import RunConfig, validated
from scaling.errors import ConfigError

#: The launcher of hydra_plugins/gnn_scaling.py, as conf/config.yaml chooses it.
LAUNCHER = "hydra_plugins.gnn_scaling.GridLauncher"
#: Sweepers that know all cells beforehand: this project's, and Hydra's own.
LISTING = ("GridSweeper", "BasicSweeper")
FOREIGN = (
    "{} is not used here, where a grid is computed as a whole: leave it out and say launcher=local "
    "(launcher.workers=N runs side by side), launcher=slurm_cpu or launcher=slurm_gpu"
)

register()


@dataclass(frozen=True)
class Grid:
    """The cells of a sweep, in its order. swept: the keys that it varies. is_drawn: by losses of the cells before."""

    configs: tuple[RunConfig, ...]
    swept: frozenset[str]
    is_drawn: bool = False


#: Hydra's flag that prints the configuration, in all its spellings.
PRINTS = re.compile(r"(--cfg|-c)(=?(job|hydra|all))?")
#: What is given a grid, and returns of each cell the validation loss, the error with which it failed, or None.
Outcome = float | Exception | None


def over_grid(compute: Callable[[Grid], Sequence[Outcome]]) -> None:
    """Give a command the grids that the command line describes: one, or one after another by a sweeper that draws.

    Raises:
        ConfigError: naming the first key that is not allowed.
    """
    _refuse_number_as_choice(sys.argv[1:])
    words = [word for word in sys.argv[1:] if word not in ("-m", "--multirun")]
    if len(words) < len(sys.argv) - 1:
        if any(PRINTS.fullmatch(word) for word in words):
            raise ConfigError("--cfg prints one configuration: leave out -m, and give each key one value")
        sys.argv[1:] = ["-m", *words]  # Hydra wants all overrides on one side of it

    @hydra.main(version_base="1.3", config_path="pkg://conf", config_name="config")
    def take(grid: Grid | DictConfig) -> Any:
        if not isinstance(grid, Grid):  # called by a launcher of others, or by none
            chosen = HydraConfig.get()
            by_none = chosen.mode == RunMode.RUN and chosen.launcher._target_ == LAUNCHER
            raise ConfigError(FOREIGN.format("hydra.mode=RUN" if by_none else _launcher_of(chosen)))
        return compute(grid)

    take()


def compose_grid(loader: ConfigLoader, master: DictConfig, batch: Sequence[Sequence[str]]) -> Grid:
    """Compose and validate the cells of a batch.

    Args:
        loader: Hydra's. master: the configuration of the whole sweep. batch: the overrides of each cell.

    Raises:
        ConfigError: naming the first key that is not allowed.
    """
    configs = tuple(validated(config) for config in _cells(loader, master, batch))
    is_drawn = not master.hydra.sweeper._target_.endswith(LISTING)
    return Grid(configs, _swept(master, batch), is_drawn)


def refuse_foreign_launcher(master: DictConfig) -> None:
    """Raise ConfigError if another launcher than this project's is chosen: it would train nothing."""
    if master.hydra.launcher._target_ != LAUNCHER:
        raise ConfigError(FOREIGN.format(_launcher_of(master.hydra)))


def _launcher_of(chosen: Any) -> str:
    return f"hydra/launcher={chosen.runtime.choices['hydra/launcher']}"


def _swept(master: DictConfig, batch: Sequence[Sequence[str]]) -> frozenset[str]:
    """The keys that a sweep varies, also where it gives one cell at a time."""
    parser = OverridesParser.create()
    params = OmegaConf.select(master, "hydra.sweeper.params") or {}
    words = [f"{key}={value}" for key, value in params.items()] + list(master.hydra.overrides.task)
    is_swept = {each.get_key_element(): each.is_sweep_override() for each in parser.parse_overrides(words)}
    drawn = {each.get_key_element() for each in parser.parse_overrides([word for cell in batch for word in cell])}
    return frozenset(key for key in drawn if is_swept.get(key, True))


def _cells(loader: ConfigLoader, master: DictConfig, batch: Sequence[Sequence[str]]) -> Iterator[DictConfig]:
    """Files are read once for each choice of them; Hydra itself would read all of them for every cell."""
    parser = OverridesParser.create(config_loader=loader)
    is_group = cache(lambda key: bool(loader.get_group_options(key)))
    read: dict[tuple[str, ...], DictConfig] = {}
    for words in batch:
        _refuse_bare_name(words)
        overrides = parser.parse_overrides(list(words))
        is_value = [each.type == OverrideType.CHANGE and not is_group(each.key_or_group) for each in overrides]
        choices = tuple(word for word, plain in zip(words, is_value, strict=True) if not plain)
        if choices not in read:
            config = loader.load_sweep_config(master, list(choices))
            with open_dict(config):
                del config["hydra"]
            read[choices] = config
        config = copy.deepcopy(read[choices])
        for override, plain in zip(overrides, is_value, strict=True):
            if plain and not override.is_hydra_override():
                _set(config, override)
        yield config


def _set(config: DictConfig, override: Override) -> None:
    if override.package is not None:
        raise ConfigError(f"{override.input_line}: there is no group {override.key_or_group} in conf")
    OmegaConf.update(config, override.key_or_group, override.value(), merge=True)


def _refuse_bare_name(overrides: Sequence[str]) -> None:
    """An architecture comes with its learning rate and basis, which its name alone would leave those of another."""
    for override in overrides:
        key, _, value = override.lstrip("+").partition("=")
        if key == "model.name":
            raise ConfigError(
                f"model.name={value} would train it with the learning rate of another architecture; say model={value}"
            )


def _refuse_number_as_choice(words: Sequence[str]) -> None:
    """A group's choice is the name of a file; of a number, as in zero=3, Hydra makes a traceback."""
    for word in words:
        group, is_given, value = word.partition("=")
        folder = files("conf").joinpath(group)
        if is_given and value.replace(".", "").isdigit() and group.isidentifier() and folder.is_dir():
            names = sorted(each.name.removesuffix(".yaml") for each in folder.iterdir() if each.name.endswith(".yaml"))
            raise ConfigError(f"{word} must be the name of a file in conf/{group}: {', '.join(names)}")
