"""What Hydra composes against: the schema of a run, and the families of networks as choices of `model=`."""

from dataclasses import field, fields, make_dataclass
from importlib.resources import files
from typing import Any

from hydra.core.config_store import ConfigStore
from omegaconf import DictConfig, OmegaConf

from scaling.config import BY_NAME, RunConfig, writable
from scaling.models import FAMILIES


def register() -> None:
    """Give Hydra the schema, and a choice for each family that has no file in conf/model."""
    store = ConfigStore.instance()
    store.store(name="schema", node=_schema())
    described = {path.name.removesuffix(".yaml") for path in files("conf").joinpath("model").iterdir()}
    for name in FAMILIES.keys() - described:
        store.store(group="model", name=name, node={"name": name})


def _schema() -> DictConfig:
    """RunConfig, but `model` and `optim` open: their keys depend on their name, and `validated` refuses all others."""
    entries: list[tuple[str, Any, Any]] = []
    for entry in fields(RunConfig):
        if entry.name in BY_NAME:
            named = {"name": BY_NAME[entry.name].default}
            entries.append((entry.name, dict[str, Any], field(default_factory=named.copy)))
        else:
            default: dict[str, Any] = {"default": entry.default, "default_factory": entry.default_factory}
            entries.append((entry.name, entry.type, field(**default)))
    schema = writable(make_dataclass("RunConfig", entries))
    for key in BY_NAME:
        OmegaConf.set_struct(schema[key], False)
    return schema
