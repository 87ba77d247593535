"""LMDB files of pickled PyTorch-Geometric records, as Open Catalyst 2020 and 2022 use them (S2EF).

Keys are "0", "1", ... and "length"; a record is a `Data` object of PyTorch-Geometric before 2.0 or since. The pickles
are interpreted, never run: a file that names anything beyond a record's own types is refused (`restricted_pickle`).

Units: `y` in eV, `force` are -dE/dx in eV/angstrom, `pos` and `cell` in angstrom. Whether `y` is a total energy or
an adsorption energy (reference subtracted) was chosen when the file was made and cannot be seen in it: OC22 files
hold total energies, OC20 files commonly adsorption energies; do not mix them. Forces on fixed atoms are kept as they
are (those of DFT, unconstrained). Periodicity: all three directions, as the data sets were computed, vacuum included.

Records of relaxed energies (IS2RE: `y_init`, `y_relaxed`) hold no forces and are rejected, as are the unlabelled
test records.

Group key: `sid`, the system: all frames of one relaxation, also where they lie in different files. Where a record has
none, the ratio of its elements: coarser, but no relaxation is split.

Source: Chanussot et al., ACS Catal. 11, 6059 (2021); Tran et al., ACS Catal. 13, 3066 (2023);
https://github.com/FAIR-Chem/fairchem (`lmdb_dataset.py`, `preprocess_ef.py`, `atoms_to_graphs.py`).
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from scaling.data.elements import reduced_formula, whole_numbers
from scaling.data.formats import MALFORMED_PICKLE, Inert, LmdbFile, restricted_pickle, to_array
from scaling.data.manifest import Rejected
from scaling.data.source import FileSource, as_rejected, slices
from scaling.errors import DataError
from scaling.structure import FloatArray, IntArray, Structure

MAX_RECORD_BYTES = 8 * 2**20
"""A record of 250 atoms takes 12 kB, with edges 500 kB."""
_RECORDS_PER_TASK = 512


@dataclass(frozen=True)
class Oc20Lmdb(FileSource):
    """Settings of the reader; path: an .lmdb file, or a directory of them."""

    name: str = "oc20_lmdb"

    SUFFIXES: ClassVar[tuple[str, ...]] = (".lmdb",)

    def tasks(self) -> Iterator[tuple[str, Path, int, int]]:
        """Ranges of keys of each file."""
        for name, path in self.files().items():
            with LmdbFile(path) as file:
                total = _num_records(file, path)
            yield from ((name, path, start, stop) for start, stop in slices(total, _RECORDS_PER_TASK))

    def read(self, task: tuple[str, Path, int, int]) -> Iterator[Structure | Rejected]:
        name, path, start, stop = task
        with LmdbFile(path) as file:
            for index in range(start, stop):
                yield _read_record(file, index, f"{name}#{index}")


def _read_record(file: LmdbFile, index: int, record: str) -> Structure | Rejected:
    try:
        data = file.get(str(index).encode("ascii"), MAX_RECORD_BYTES)
        if data is None:
            return Rejected(record, "no such record", f"no key {index}")
        return _parse_record(record, _fields(restricted_pickle.loads(data, record)))
    except MALFORMED_PICKLE as error:
        return as_rejected(record, error)


def _num_records(file: LmdbFile, path: Path) -> int:
    """What "length" states, or the number of keys if it is missing."""
    if not file.num_entries:
        raise DataError(f"{path} holds no records")
    try:
        stated = file.get(b"length", 1024)
        total = file.num_entries if stated is None else restricted_pickle.loads(stated, f"{path}#length")
    except MALFORMED_PICKLE as error:
        raise DataError(f"{path}: its key 'length' cannot be read: {error}") from error
    if type(total) is not int or not 0 < total <= file.num_entries:
        raise DataError(f"{path}: its key 'length' is not a count within the {file.num_entries} keys it holds")
    return total


def _fields(record: Any) -> Mapping[Any, Any]:
    """The attributes of a Data object, of PyTorch-Geometric before 2.0 (its state) or since (within a storage)."""
    if not isinstance(record, Inert):
        raise TypeError(f"a {type(record).__name__}, not a PyTorch-Geometric record")
    fields = record.state
    if isinstance(fields, dict) and "_store" in fields:
        fields = fields["_store"].state["_mapping"]
    if not isinstance(fields, dict):
        raise TypeError("a PyTorch-Geometric record without fields")
    return fields


def _parse_record(record: str, fields: Mapping[Any, Any]) -> Structure | Rejected:
    """One S2EF record; its arrays are checked by `validate`, as those of all sources."""
    if fields.get("force") is None:
        relaxed = "y_relaxed" in fields or "y_init" in fields
        return Rejected(record, "no forces", "an IS2RE record; S2EF records have forces" if relaxed else "")
    if fields.get("y") is None:
        return Rejected(record, "no energy")
    numbers = whole_numbers(to_array(fields["atomic_numbers"]).reshape(-1))
    stated = to_array(fields["natoms"]).reshape(-1) if fields.get("natoms") is not None else np.array([len(numbers)])
    if stated.tolist() != [len(numbers)]:
        return Rejected(record, "atom count disagrees with natoms", f"{len(numbers)} atoms, natoms {stated[:3]}")
    return Structure(
        numbers=numbers,
        positions=_floats(fields["pos"]),
        cell=_floats(fields["cell"]).reshape(3, 3),
        pbc=np.ones(3, dtype=bool),
        energy=_floats(fields["y"]).reshape(-1).item(),
        forces=_floats(fields["force"]),
        group=_group(fields.get("sid"), numbers),
        record=record,
    )


def _floats(value: Any) -> FloatArray:
    array = to_array(value)
    if array.dtype.kind == "b":
        raise TypeError("bool where numbers are expected")
    with np.errstate(invalid="ignore"):  # of NaN, which validation finds
        return array.astype(np.float64)


def _group(sid: Any, numbers: IntArray) -> str:
    if sid is None:
        return f"oc20 {reduced_formula(numbers)}"
    if isinstance(sid, str):
        return f"oc20 {sid}"
    return f"oc20 {_one_integer(sid)}"


def _one_integer(value: Any) -> int:
    array = to_array(value).reshape(-1)
    if array.size != 1 or array.dtype.kind not in "iu":
        raise ValueError(f"sid is {array.dtype} of {array.size} values, not one whole number")
    return int(array.item())
