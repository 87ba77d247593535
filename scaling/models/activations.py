"""Which activations are there at once: what the families' memory in closed form has in common."""

from scaling.models.config import ModelConfig

FLOAT = 4


def num_rows(config: ModelConfig) -> int:
    """Rows that a tensor of activations has: values, and for conservative forces their tangents."""
    return 1 if config.forces == "direct" else 2


def is_recomputed(count: int, checkpointing: int) -> list[bool]:
    """Of each of `count` layers, whether its activations are computed again in backward."""
    return [bool(checkpointing) and i % checkpointing == 0 for i in range(count)]


def most_kept(recomputed: list[bool]) -> int:
    """Layers whose activations are there at once: when backward begins, or when one is computed again."""
    again = [recomputed[:i].count(False) + 1 for i, is_again in enumerate(recomputed) if is_again]
    return max(recomputed.count(False), *again, 0)
