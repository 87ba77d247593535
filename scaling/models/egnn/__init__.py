"""EGNN: messages between atoms, positions that move along."""

from scaling.models.egnn.config import EGNNConfig

__all__ = ["EGNNConfig"]
