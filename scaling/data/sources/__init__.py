"""Where structures come from: one reader or generator a file, all of one shape (`scaling.data.source`)."""

from scaling.data.source import StructureSource
from scaling.data.sources.ani import Ani
from scaling.data.sources.ani1x import Ani1x
from scaling.data.sources.ase_db import AseDb
from scaling.data.sources.ase_files import AseFiles
from scaling.data.sources.aselmdb import AseLmdb
from scaling.data.sources.deepmd import Deepmd
from scaling.data.sources.emt import Emt
from scaling.data.sources.extxyz import Extxyz
from scaling.data.sources.hdf5_groups import Hdf5Groups
from scaling.data.sources.jarvis import Jarvis
from scaling.data.sources.mixed import Mixed
from scaling.data.sources.mptrj import MPtrj
from scaling.data.sources.mvl import Mvl
from scaling.data.sources.npz import Npz
from scaling.data.sources.oc20_lmdb import Oc20Lmdb
from scaling.data.sources.parquet import Parquet
from scaling.data.sources.qm7x import Qm7x
from scaling.data.sources.qm22 import Qm22
from scaling.data.sources.xtb import Xtb

__all__ = ["SOURCES"]

SOURCES: dict[str, type[StructureSource]] = {
    source.name: source
    for source in (
        *(Ani, Ani1x, AseDb, AseFiles, AseLmdb, Deepmd, Emt, Extxyz, Hdf5Groups, Jarvis),
        *(Mixed, MPtrj, Mvl, Npz, Oc20Lmdb, Parquet, Qm7x, Qm22, Xtb),
    )
}
