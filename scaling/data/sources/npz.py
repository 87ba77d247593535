"""NumPy archives (.npz) of many frames: rMD17, MD17, MD22 (sGDML) and their kin.

Layout: atomic numbers (N,) for all frames, or (n, N) with zeros where a frame has fewer atoms; positions (n, N, 3);
energies (n,) or (n, 1), forces (n, N, 3), stress (n, 3, 3) or (n, 6), charges Q (n,); `lattice` (3, 3), whose columns
are the vectors, as sGDML has it, or `cell` in rows; not periodic without. Names in any case: nuclear_charges, z,
atomic_numbers; coords, R, positions; energies, E, energy; forces, F, gradients; labels otherwise as
`scaling.data.formats.keyed`. Forces are -dE/dx.

Units: what the file states (e_unit, r_unit, as sGDML writes them; forces in the one over the other). Else kcal/mol and
angstrom for the published rMD17 (it has old_energies) and MD17 (it has md5); any other file needs `energy_unit`.

Group key, where `group_key` is empty: the reduced formula; one file is one molecule as a rule.

Nothing is unpickled: arrays of objects are refused. An archive is held in memory whole, each worker its own.

Source: Christensen, von Lilienfeld, Mach. Learn.: Sci. Technol. 1, 045018 (2020), https://figshare.com/articles/12672038;
http://www.sgdml.org (MD17, MD22); Unke, Meuwly, J. Chem. Theory Comput. 15, 3678 (2019) (padded arrays with N and Q)
"""

import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from scaling.data.formats import KeyedSource, Record, arrays, stated_units
from scaling.data.manifest import Rejected
from scaling.data.source import as_rejected, slices
from scaling.errors import DataError
from scaling.structure import Structure

MAX_COMPRESSION = 1100
_ATOMS_PER_TASK = 50_000
_KCAL = {"energy": "kcal/mol", "forces": "kcal/mol/Ang", "length": "Ang"}
_PUBLISHED = ({"old_energies", "nuclear_charges", "coords"}, {"md5", "e", "f", "r", "z"})


@dataclass(frozen=True)
class Archive:
    """The arrays of a file, by what they are; n frames."""

    numbers: NDArray[Any]
    positions: NDArray[Any]
    cell: NDArray[Any] | None
    pbc: NDArray[Any] | None
    per_frame: Mapping[str, NDArray[Any]]
    stated: Mapping[str, tuple[str, str]]
    layout: Mapping[str, str]


@dataclass(frozen=True)
class Npz(KeyedSource):
    """Settings of the reader, see `KeyedSource`; path: one .npz file, or a directory of them.

    group_key: an array of one entry a frame that names the groups.
    """

    name: str = "npz"

    SUFFIXES: ClassVar[tuple[str, ...]] = (".npz",)
    NAMES: ClassVar[Mapping[str, tuple[str, ...]]] = arrays.ARRAY_NAMES

    def tasks(self) -> Iterator[tuple[str, Path, int, int]]:
        """Name and path of the file, range of frames."""
        for name, path in self.files().items():
            archive = _loaded(path, path.stat().st_mtime_ns)
            arrays.require_units(path, self.energy_unit, archive.stated, archive.layout)
            num_frames, num_atoms = archive.positions.shape[:2]
            for start, stop in slices(num_frames, max(1, _ATOMS_PER_TASK // max(num_atoms, 1))):
                yield name, path, start, stop

    def read(self, task: tuple[str, Path, int, int]) -> Iterator[Structure | Rejected]:
        name, path, start, stop = task
        archive = _loaded(path, path.stat().st_mtime_ns)
        for index in range(start, stop):
            label = f"{name}#{index}"
            try:
                yield self._structure(_record(archive, index, label))
            except (LookupError, TypeError, ValueError, OverflowError) as error:
                yield as_rejected(label, error)


def _record(archive: Archive, index: int, label: str) -> Record:
    """One frame.

    Raises:
        ValueError: if what should be atomic numbers is not.
    """
    every = archive.numbers if archive.numbers.ndim == 1 else archive.numbers[index]
    numbers = arrays.atomic_numbers_of(every)
    there = numbers > 0 if archive.numbers.ndim == 2 else np.ones(len(numbers), dtype=bool)
    cell = np.zeros((3, 3)) if archive.cell is None else archive.cell[index] if archive.cell.ndim == 3 else archive.cell
    flags = archive.pbc if archive.pbc is None or archive.pbc.ndim < 2 else archive.pbc[index]
    frame = {key: values[index] for key, values in archive.per_frame.items()}
    of_atoms = {key: value[there] for key, value in frame.items() if value.shape[:1] == there.shape and value.ndim == 2}
    return Record(
        label=label,
        numbers=numbers[there],
        positions=archive.positions[index][there],
        cell=cell,
        pbc=np.full(3, bool(cell.any())) if flags is None else np.broadcast_to(flags.astype(bool), 3),
        sections={
            "arrays": {
                key: value.tolist() if value.dtype.kind in "SU" else value for key, value in (frame | of_atoms).items()
            }
        },
        stated=archive.stated,
        layout=archive.layout,
    )


@lru_cache(maxsize=1)
def _loaded(path: Path, written_ns: int) -> Archive:
    """A file as it was written at that time.

    Raises:
        DataError: if it is not a whole archive of such arrays.
    """
    try:
        with zipfile.ZipFile(path) as members:
            if bombs := [m for m in members.infolist() if m.file_size > MAX_COMPRESSION * m.compress_size + 1024]:
                raise DataError(f"{path}: {bombs[0].filename} unpacks to {bombs[0].file_size} bytes; it is not read")
        with np.load(path, allow_pickle=False) as file:
            content = {name: file[name] for name in file.files if isinstance(file[name], np.ndarray)}
    except DataError:
        raise
    except Exception as error:  # a broken header sets off many kinds, down to the tokenizer's
        raise DataError(f"{path} is not a whole .npz file of plain arrays: {type(error).__name__}: {error}") from error
    return _arranged(path, content)


def _arranged(path: Path, content: Mapping[str, NDArray[Any]]) -> Archive:
    numbers, positions = (arrays.first_of(content, known) for known in (arrays.NUMBERS, arrays.POSITIONS))
    if numbers is None or positions is None:
        raise DataError(
            f"{path} has no {'atomic numbers' if numbers is None else 'positions'} by any usual name; it has "
            f"{', '.join(sorted(content))[:200]}"
        )
    frames = content[positions]
    if frames.ndim != 3 or frames.shape[2] != 3 or not len(frames) or frames.dtype.kind not in "fiu":
        raise DataError(
            f"{path}: {positions} is {frames.dtype} of shape {frames.shape}, not (frames, atoms, 3) numbers"
        )
    if content[numbers].shape not in (frames.shape[1:2], frames.shape[:2]):
        raise DataError(f"{path}: {numbers} has shape {content[numbers].shape}, which is not that of {positions}")
    texts = {name: text for name, value in content.items() if (text := arrays.text_of(value)) is not None}
    try:
        stated = stated_units(dict(texts))
    except ValueError as error:
        raise DataError(f"{path}: {error}") from error
    if "forces" not in stated and {"energy", "length"} <= stated.keys():
        (energy_key, energy), (length_key, length) = stated["energy"], stated["length"]
        stated["forces"] = (f"{energy_key}/{length_key}", f"{energy}/{length}")
    used = {numbers, positions}
    cell, pbc = (arrays.first_of(content, known) for known in (arrays.CELLS, arrays.PBCS))
    per_frame = {k: v for k, v in content.items() if k not in used and v.ndim and len(v) == len(frames)}
    if odd := [name for name in sorted(content.keys() - used - per_frame.keys()) if arrays.is_label(name)]:
        raise DataError(f"{path}: {odd[0]} has shape {content[odd[0]].shape}, and there are {len(frames)} frames")
    lower = {name.lower() for name in content}
    return Archive(
        numbers=content[numbers],
        positions=frames,
        cell=None if cell is None else _cells(path, cell, content[cell], len(frames)),
        pbc=None if pbc is None else content[pbc],
        per_frame=per_frame,
        stated=stated,
        layout=_KCAL if any(keys <= lower for keys in _PUBLISHED) else {},
    )


def _cells(path: Path, name: str, cell: NDArray[Any], num_frames: int) -> NDArray[Any]:
    if cell.shape not in ((3, 3), (num_frames, 3, 3)) or cell.dtype.kind not in "fiu":
        raise DataError(f"{path}: {name} has shape {cell.shape}, not (3, 3) or (frames, 3, 3)")
    return cell.T if name.lower() == "lattice" and cell.ndim == 2 else cell
