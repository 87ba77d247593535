"""Networks by name. A new architecture is one file and one line in TRUNKS."""

from torch import nn

from scaling.config import ModelConfig
from scaling.models.egnn import EGNN
from scaling.models.forces import Graphs, Potential
from scaling.models.heads import DirectForceHead

__all__ = ["TRUNKS", "Graphs", "Potential", "build"]

TRUNKS: dict[str, type[nn.Module]] = {"egnn": EGNN}


def build(
    config: ModelConfig,
    *,
    num_elements: int,
    cutoff_ang: float,
    mean_degree: float,
    scale_ev: float,
    checkpointing: int = 0,
) -> Potential:
    """The network of a run; the constants come from the run's own training structures."""
    trunk = TRUNKS[config.name](
        num_elements=num_elements,
        width=config.width,
        depth=config.depth,
        num_radial=config.num_radial,
        cutoff_ang=cutoff_ang,
        mean_degree=mean_degree,
        checkpointing=checkpointing,
    )
    head = DirectForceHead(config.width, config.num_radial) if config.forces == "direct" else None
    return Potential(trunk, width=config.width, scale_ev=scale_ev, force_head=head)
