"""Networks by name. A new architecture is one file and one line in PARTS."""

from scaling.config import ModelConfig
from scaling.models import dimenet, egnn, gemnet
from scaling.models.forces import Graphs, Potential

__all__ = ["PARTS", "Graphs", "Potential", "build"]

#: What makes the trunk, energy head and force head of a network.
PARTS = {"egnn": egnn.parts, "dimenetpp": dimenet.parts, "gemnet_t": gemnet.parts}


def build(
    config: ModelConfig,
    *,
    num_elements: int,
    cutoff_ang: float,
    mean_degree: float,
    scale_ev: float,
    checkpointing: int = 0,
) -> Potential:
    """The network of a run; the constants come from the run's own training structures.

    Args:
        cutoff_ang: neighbour radius. mean_degree: mean number of neighbours, by the root of which sums over them are
            divided. scale_ev: typical force, eV/angstrom. checkpointing: recompute every k-th layer in backward instead
            of keeping its activations; 0: none.
    """
    trunk, energy_head, force_head = PARTS[config.name](
        config,
        num_elements=num_elements,
        cutoff_ang=cutoff_ang,
        mean_degree=mean_degree,
        checkpointing=checkpointing,
    )
    return Potential(trunk, energy_head=energy_head, force_head=force_head, scale_ev=scale_ev)
