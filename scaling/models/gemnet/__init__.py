"""GemNet-T: messages on edges, which meet at angles, and features of atoms."""

from scaling.models.gemnet.config import GemNetTConfig

__all__ = ["GemNetTConfig"]
