"""Networks of conf/model."""

from pathlib import Path

import yaml

import conf
from scaling.models.config import ModelConfig, family


def preset(name: str) -> ModelConfig:
    """The network of conf/model/NAME.yaml."""
    path = Path(conf.__path__[0]) / "model" / f"{name}.yaml"
    sizes = yaml.safe_load(path.read_text(encoding="utf-8"))["model"]
    return family(sizes["name"])(**sizes)
