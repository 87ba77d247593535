"""What DimeNet++ and GemNet-T have in common: messages on directed edges, which meet at the angles between them."""

from scaling.models.triplets.config import TripletConfig

__all__ = ["TripletConfig"]
