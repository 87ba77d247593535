"""DimeNet++: messages on edges, which meet at angles."""

from scaling.models.dimenet.config import DimeNetPlusPlusConfig

__all__ = ["DimeNetPlusPlusConfig"]
