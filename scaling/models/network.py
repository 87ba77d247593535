"""A network from its configuration."""

from scaling.models.config import ModelConfig
from scaling.models.forces import Potential


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
    backbone, energy_head, force_head = config.sized().parts(
        num_elements=num_elements, cutoff_ang=cutoff_ang, mean_degree=mean_degree, checkpointing=checkpointing
    )
    return Potential(backbone, energy_head=energy_head, force_head=force_head, scale_ev=scale_ev)
