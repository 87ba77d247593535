"""Prepared structures: what lies on the disk, how it is split, and who neighbours whom. Free of torch.

Rooms of its own: `sources` (where structures come from) on `formats`, `preparation` (sources to shards), `loading`
(shards to batches; brings torch). Neighbour lists are in `neighbors`, whose library brings torch too.
"""

from scaling.data.baseline import Baseline
from scaling.data.files import describe
from scaling.data.manifest import COPIES, Manifest, read_manifest
from scaling.data.shard_file import read_columns
from scaling.data.shards import ShardSet, StoredStructure
from scaling.data.split import Split, choose, nested_fraction

__all__ = [
    "COPIES",
    "Baseline",
    "Manifest",
    "ShardSet",
    "Split",
    "StoredStructure",
    "choose",
    "describe",
    "nested_fraction",
    "read_columns",
    "read_manifest",
]
