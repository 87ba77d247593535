"""Where structures come from: one reader or generator a file, all of one shape (`scaling.data.source`)."""

from scaling.data.source import StructureSource
from scaling.data.sources.emt import Emt
from scaling.data.sources.mixed import Mixed
from scaling.data.sources.mvl import Mvl

SOURCES: dict[str, type[StructureSource]] = {
    "emt": Emt,
    "mixed": Mixed,
    "mvl": Mvl,
}
