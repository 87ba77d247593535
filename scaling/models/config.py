"""What is known of a network before it is built: the configuration that each family extends, and families by name.

Free of torch, as each family's own config.py: configurations are read where no network is built.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass, fields
from importlib import import_module
from typing import Any, Self

from scaling.schema import require

#: Where each family's configuration is defined: module:class. A new family is its own file or folder and one line here.
FAMILIES = {
    "egnn": "scaling.models.egnn.config:EGNNConfig",
    "dimenetpp": "scaling.models.dimenet.config:DimeNetPlusPlusConfig",
    "gemnet_t": "scaling.models.gemnet.config:GemNetTConfig",
}
FORCES = ("conservative", "direct")
#: Of a width or any other size: the products of two are counted in 64 bits.
MAX_SIZE = 2**20
#: Torch's modules, which this file does not know: backbone, energy head, and force head or None.
Parts = tuple[Any, Any, Any]


@dataclass(frozen=True)
class ModelConfig(ABC):
    """What all networks share; a family adds its own sizes, and says what it is built of and what it costs.

    An int whose default is 0 is a size that follows from the width unless it is given; other ints are 1 at least.

    name: of the family. width: features per atom, or per edge for networks whose messages live on edges. depth:
    message-passing layers. forces: `conservative` (-dE/dx) or `direct` (a head of its own; not a gradient of the
    energy). num_params: in place of a width: the width whose network comes nearest to this number of parameters at this
    depth.
    """

    name: str = ""
    width: int = 16
    depth: int = 2
    forces: str = "conservative"
    num_params: float | None = None

    def __post_init__(self) -> None:
        own_name = type(self).__dataclass_fields__["name"].default
        require(self.name == own_name, "model.name", self.name, f"{own_name} for the sizes of {own_name}")
        for entry in fields(self):
            if entry.type is int:
                value, least = getattr(self, entry.name), 0 if entry.default == 0 else 1
                allowed = f">= {least}" if least else ">= 0 (0: it follows from the width)"
                require(value >= least, f"model.{entry.name}", value, allowed)
                require(value <= MAX_SIZE, f"model.{entry.name}", value, f"at most {MAX_SIZE:,}")
        require(self.forces in FORCES, "model.forces", self.forces, f"one of {', '.join(FORCES)}")
        if self.num_params is not None:
            require(1 <= self.num_params < 1e13, "model.num_params", self.num_params, "in [1, 1e13)")
            is_free = self.width == type(self).__dataclass_fields__["width"].default
            require(is_free, "model.width", self.width, "left out where model.num_params is given", "give one of them")

    def sized(self) -> Self:
        """The same with every size as a number: those that follow from the width are filled in."""
        return self

    @abstractmethod
    def parts(self, *, num_elements: int, cutoff_ang: float, mean_degree: float, checkpointing: int) -> Parts:
        """Backbone, energy head and force head (None for conservative forces) of a network with these sizes.

        What they take and return: `scaling.models.Potential`. Parameters count as embedding where `.embedding.` is in
        their name.

        Args:
            num_elements: chemical elements of the data. cutoff_ang: neighbour radius. mean_degree: mean number of
                neighbours in the training set. checkpointing: recompute every k-th layer in backward; 0: none.
        """

    @abstractmethod
    def training_flops(self, *, num_atoms: float, num_edges: float) -> float:
        """FLOPs of a training step with these sizes; what is counted: `scaling.models.counting.training_flops`."""

    def force_head_flops(self, *, num_atoms: float, num_edges: float) -> float:
        """Of `training_flops` with direct forces, those of the head that predicts them."""
        return 0.0

    @abstractmethod
    def activation_bytes(
        self, checkpointing: int, *, num_atoms: float, num_edges: float, block_numbers: int
    ) -> tuple[float, float]:
        """Bytes that a micro-batch adds at the peak, and the part of them that does not depend on depth.

        Args:
            num_atoms, num_edges: of the micro-batch. block_numbers: the largest block of edges on the device, in
                numbers (`scaling/models/ops/edges.py`).
        """


def family(name: str) -> type[ModelConfig]:
    """The configuration class of a family.

    Raises:
        ConfigError: if there is no such family.
    """
    require(name in FAMILIES, "model.name", name, f"one of {', '.join(FAMILIES)}")
    module, _, config = FAMILIES[name].partition(":")
    return getattr(import_module(module), config)  # type: ignore[no-any-return]
