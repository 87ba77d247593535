"""DeePMD-kit systems in NumPy's format: directories with type.raw, type_map.raw and set.*/{coord,energy,force,box}.npy.

Units: energies (total) eV, positions and cells angstrom, forces eV/angstrom, -dE/dx. Often stored in float32, so that
a total energy of -3e4 eV is known to 2 meV. Periodic in all directions, unless there is a file called nopbc. Of
energy.npy and force.npy one may be missing; virial.npy (eV, -stress times volume) of a periodic system becomes its
stress. Whatever else lies there (spin.npy, atomic energies, frame and atom parameters) is no input here: it is named,
and not read; so are box.npy and virial.npy where there is nopbc.

Group key: the system, by its directory below `path`. Frames of a system are one trajectory as a rule, and never split.
Where several directories hold slices of one trajectory (data_0, data_1, ...), prepare one of them, or join them first.

type_map.raw is needed here, although DeePMD-kit can do without. Systems of mixed type (real_atom_types.npy) are not
read: their type.raw does not say what the atoms are.

Source: https://docs.deepmodeling.com/projects/deepmd, "System" and "Formats of a system"; dpdata, virial = -V stress.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
from ase.data import atomic_numbers

from scaling.data.files import Found, suffix_of
from scaling.data.manifest import Rejected
from scaling.data.source import FileSource, slices
from scaling.errors import DataError
from scaling.structure import FloatArray, IntArray, Structure

_SYSTEM_FILES = ("type.raw", "type_map.raw", "nopbc")
_SET_FILES = ("coord.npy", "energy.npy", "force.npy", "box.npy", "virial.npy", "real_atom_types.npy")
_OF_CELLS = ("box.npy", "virial.npy")  # mean nothing where nopbc says that there is no cell
_ATOMS_PER_TASK = 100_000


@dataclass(frozen=True)
class Deepmd(FileSource):
    """Settings of the reader; path: a system's directory, or one that holds systems at any depth."""

    name: str = "deepmd"

    RECIPE: ClassVar[int] = 2
    SUFFIXES: ClassVar[tuple[str, ...]] = ("type.raw",)

    def _found(self) -> Found:
        if self.path and Path(self.path).is_file():
            raise DataError(f"source.path={self.path} is a file; name the directory of a system, or of several")
        return super()._found()

    def tasks(self) -> Iterator[tuple[str, Path, int, int]]:
        """Name of the system, directory of the set, range of frames."""
        files, root = self.files().values(), Path(self.path)
        systems = {path.parent for path in files if path.name in _SYSTEM_FILES}
        sets = {path.parent for path in files if path.name in _SET_FILES}
        if childless := systems - {path.parent for path in sets}:
            raise DataError(f"{min(childless)} holds no set.* directory of .npy files")
        for directory in sorted(sets):
            system = directory.parent
            name = root.resolve().name if system == root else system.relative_to(root).as_posix()
            numbers, periodic = _read_system(system)
            num_frames = len(_load_set(directory, len(numbers), periodic)["coord"])
            for start, stop in slices(num_frames, max(1, _ATOMS_PER_TASK // len(numbers))):
                yield name, directory, start, stop

    def read(self, task: tuple[str, Path, int, int]) -> Iterator[Structure | Rejected]:
        name, directory, start, stop = task
        numbers, periodic = _read_system(directory.parent)
        arrays = _load_set(directory, len(numbers), periodic)
        for index in range(start, stop):
            frame = {key: np.asarray(array[index], dtype=np.float64) for key, array in arrays.items()}
            cell = frame["box"].reshape(3, 3) if periodic else np.zeros((3, 3))
            yield Structure(
                numbers=numbers,
                positions=frame["coord"].reshape(-1, 3),
                cell=cell,
                pbc=np.full(3, periodic),
                energy=frame["energy"].item() if "energy" in frame else None,
                forces=frame["force"].reshape(-1, 3) if "force" in frame else None,
                group=name,
                record=f"{name}/{directory.name}#{index}",
                stress=-frame["virial"].reshape(3, 3) / _volume(cell) if "virial" in frame else None,
            )

    def _is_mine(self, path: Path) -> bool:
        if path.name in _SYSTEM_FILES:
            return True
        of_set = path.name in _SET_FILES and path.parent.name.startswith("set.")
        return of_set and not (path.name in _OF_CELLS and (path.parent.parent / "nopbc").exists())

    def _kind_not_read(self, path: Path) -> str:
        if path.name in _OF_CELLS and path.parent.name.startswith("set."):
            return f"{path.name} (beside nopbc)"
        return path.name if path.suffix == ".npy" else suffix_of(path)


def _volume(cell: FloatArray) -> float:
    """In angstrom^3; NaN for a cell without any, which validation rejects."""
    return abs(float(np.linalg.det(cell))) or math.nan


def _read_system(system: Path) -> tuple[IntArray, bool]:
    """Atomic numbers (N,), and whether the system is periodic."""
    types, symbols = _read_words(system / "type.raw"), _read_words(system / "type_map.raw")
    numbers = []
    for word in types:
        if not (word.isascii() and word.isdigit() and len(word) < 10 and int(word) < len(symbols)):
            raise DataError(f"{system / 'type.raw'}: {word[:20]!r} is not one of the {len(symbols)} types 0, 1, ...")
        if (symbol := symbols[int(word)]) not in atomic_numbers:
            raise DataError(f"{system / 'type_map.raw'}: {symbol[:20]!r} is not a chemical element")
        numbers.append(atomic_numbers[symbol])
    return np.array(numbers, dtype=np.int64), not (system / "nopbc").exists()


def _read_words(path: Path) -> list[str]:
    try:
        words = path.read_text().split()
    except (OSError, ValueError) as error:
        raise DataError(f"{path} is needed, and cannot be read: {error}") from error
    if not words:
        raise DataError(f"{path} is empty")
    return words


def _load_set(directory: Path, num_atoms: int, periodic: bool) -> dict[str, FloatArray]:
    """Map the arrays of a set: coord and force (F, 3N), energy (F,) or (F, 1), box and virial (F, 9) if periodic."""
    if (directory / "real_atom_types.npy").exists():
        raise DataError(f"{directory} is of mixed type, which is not read; write it as deepmd/npy with dpdata")
    widths = {"coord": 3 * num_atoms, "energy": 1, "force": 3 * num_atoms}
    widths |= {"box": 9, "virial": 9} if periodic else {}
    absent = {key for key in ("energy", "force", "virial") if not (directory / f"{key}.npy").exists()}
    if {"energy", "force"} <= absent:
        raise DataError(f"{directory} holds neither energy.npy nor force.npy; one of them is needed")
    widths = {key: width for key, width in widths.items() if key not in absent}
    arrays = {key: _load_array(directory / f"{key}.npy") for key in widths}
    if (num_frames := len(arrays["coord"])) == 0:
        raise DataError(f"{directory / 'coord.npy'} holds no frame")
    for key, width in widths.items():
        allowed = [(num_frames, width)] + ([(num_frames,)] if key == "energy" else [])
        if arrays[key].shape not in allowed:
            raise DataError(
                f"{directory / key}.npy has shape {arrays[key].shape}, not {allowed[0]}: {num_frames} frames as in "
                f"coord.npy, {num_atoms} atoms as in type.raw"
            )
    return arrays


def _load_array(path: Path) -> FloatArray:
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except Exception as error:  # a broken header sets off many kinds, down to the tokenizer's
        raise DataError(f"{path} is needed, and is not a whole .npy file: {error}") from error
    if not isinstance(array, np.ndarray) or array.dtype.kind != "f" or array.ndim == 0:
        raise DataError(f"{path} does not hold an array of floating-point numbers")
    return array
