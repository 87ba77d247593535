"""Networks by name. A new family is a folder or file of its own and one line in `scaling.models.config.FAMILIES`.

Names are loaded when first used, so that configurations of networks can be read without torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from scaling.models.config import FAMILIES, ModelConfig, family
    from scaling.models.counting import ParameterCount, count_parameters, parameters_of, training_flops, with_width
    from scaling.models.forces import Graphs, Potential
    from scaling.models.network import build

__all__ = [
    "FAMILIES",
    "Graphs",
    "ModelConfig",
    "ParameterCount",
    "Potential",
    "build",
    "count_parameters",
    "family",
    "parameters_of",
    "training_flops",
    "with_width",
]

_MODULES = {
    "config": ("FAMILIES", "ModelConfig", "family"),
    "counting": ("ParameterCount", "count_parameters", "parameters_of", "training_flops", "with_width"),
    "forces": ("Graphs", "Potential"),
    "network": ("build",),
}


def __getattr__(name: str) -> Any:
    for module, names in _MODULES.items():
        if name in names:
            return getattr(import_module(f"{__name__}.{module}"), name)
    raise AttributeError(f"module {__name__} has no attribute {name}")
