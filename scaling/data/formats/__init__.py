"""Files as others write them, read without trust: a file can be refused, never run."""

from scaling.data.formats.archive import ARCHIVES, documents, read_json
from scaling.data.formats.hdf5 import MALFORMED_HDF5, ConformerSource, Hdf5File, num_conformers, read_conformers
from scaling.data.formats.json_lists import JsonListSource
from scaling.data.formats.json_stream import pieces
from scaling.data.formats.keyed import KeyedSource
from scaling.data.formats.lmdb_file import LmdbFile
from scaling.data.formats.pymatgen_dict import parse_structure
from scaling.data.formats.record import Record
from scaling.data.formats.restricted_pickle import MALFORMED_PICKLE, Inert, loads, to_array
from scaling.data.formats.units import stated_units
from scaling.data.formats.xyz_frames import broken_frame, frames_of, next_frame

__all__ = [
    "ARCHIVES",
    "MALFORMED_HDF5",
    "MALFORMED_PICKLE",
    "ConformerSource",
    "Hdf5File",
    "Inert",
    "JsonListSource",
    "KeyedSource",
    "LmdbFile",
    "Record",
    "broken_frame",
    "documents",
    "frames_of",
    "loads",
    "next_frame",
    "num_conformers",
    "parse_structure",
    "pieces",
    "read_conformers",
    "read_json",
    "stated_units",
    "to_array",
]
