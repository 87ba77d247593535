"""Sources to shards: validated, duplicates removed, every record accounted for; and what splits would leak."""

from scaling.data.preparation.consistency import warnings
from scaling.data.preparation.cutting import UNCORRELATED, SplitConfig, try_split
from scaling.data.preparation.duplicates import CONFLICT, REMEDIES
from scaling.data.preparation.finishing import WAYS_OUT
from scaling.data.preparation.leaks import FAR_SHARE, TOLERANCE_ANG, leaks_of_splits
from scaling.data.preparation.pipeline import Prepared, prepare, verify
from scaling.data.preparation.validation import Bounds

__all__ = [
    "CONFLICT",
    "FAR_SHARE",
    "REMEDIES",
    "TOLERANCE_ANG",
    "UNCORRELATED",
    "WAYS_OUT",
    "Bounds",
    "Prepared",
    "SplitConfig",
    "leaks_of_splits",
    "prepare",
    "try_split",
    "verify",
    "warnings",
]
