"""Extended XYZ files, one frame after another, parsed by ASE's own reader; packed (.gz, .xz, .bz2, .zst) or not.

Keys and columns count in any case, as GPUMD writes them (lattice=, properties=). `cell` is another name of the lattice;
any other key that may hold one (box, unit_cell) is refused by name where there is no lattice. A lattice without pbc is
periodic in all directions, no lattice means no periodic direction. Forces are taken as written: ASE's constraints
(move_mask) do not alter them.

Units: positions and lattice in angstrom, energy (total) in eV, forces (-dE/dx) in eV/angstrom, as the format says;
others by settings, or by the header itself: energy-unit, force_unit, stress-unit, length_unit, units. Labels, their
names and signs: see `scaling.data.formats.keyed`. A frame with several names of a label that disagree is rejected.

Group key, where `group_key` is empty: config_type where a frame has it, else the reduced formula; neither looks at the
file, since parts of one trajectory often lie in several. A trajectory thus stays together, whatever its length; frames
that are known to be independent want a `group_key` that says so (a molecule's or trajectory's name).

CP2K's own `-pos-1.xyz` (`i = 0, time = 0.000, E = -17.16`) gives energies, in Hartree, and neither cell nor forces.

A blank line may stand between frames. A line that should be a number of atoms and is not ends the reading with an
error: nothing after it can be trusted. The last line must end with a newline, or its last number may have been cut.

Source: ase.io.extxyz; https://github.com/libAtoms/extxyz; https://gpumd.org/nep/input_files/train_test_xyz.html;
https://github.com/cp2k/cp2k, src/motion_utils.F (write_trajectory: the title of a frame)
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from io import BytesIO, StringIO
from pathlib import Path
from typing import Any, BinaryIO, ClassVar

import numpy as np
from ase.io.extxyz import REV_PROPERTY_NAME_MAP, key_val_str_to_dict, read_xyz

from scaling.data.files import is_packed, opened
from scaling.data.formats import KeyedSource, Record, broken_frame, frames_of, next_frame, stated_units
from scaling.data.manifest import Rejected
from scaling.data.source import as_rejected
from scaling.errors import DataError
from scaling.structure import FloatArray, Structure

_VECTOR = re.compile(r"(ref_|dft_)?(forces?|gradients?)", re.IGNORECASE)
#: Keys that ASE insists on nine numbers of; in capitals it takes them as they are.
_NINE = re.compile(r"(?<![\w-])(stress|virial)(?=\s*=)")
_CELL_LIKE = re.compile(r"latt|cell|box|abc", re.IGNORECASE)
_FLAGS = {"t": True, "true": True, "f": False, "false": False}
_COLUMNS = {"species": "species", "symbols": "species", "pos": "pos", "positions": "pos", "z": "Z", "numbers": "Z"}
#: The comment line of CP2K's PROJECT-pos-1.xyz.
_CP2K = re.compile(r"i\s*=\s*\d+,\s*(?:time\s*=\s*[-+.\dEe]+,\s*)?E\s*=\s*([-+.\dEe]+)")
_NO_POSITIONS = re.compile(r"-(frc|vel)-\d+\.xyz")
_NO_CELL = "CP2K's header names no cell, so they are taken as not periodic"
_TASK_BYTES = 2**22


@dataclass(frozen=True)
class Extxyz(KeyedSource):
    """Settings of the reader, see `KeyedSource`; path: one file in extended XYZ, or a directory of them.

    group_key: the entry of the comment line that names the group; "": config_type, else the reduced formula.
    """

    name: str = "extxyz"

    RECIPE: ClassVar[int] = 2
    SUFFIXES: ClassVar[tuple[str, ...]] = (".extxyz", ".xyz")
    UNPACKS: ClassVar[bool] = True

    def tasks(self) -> Iterator[tuple[str, Path, int, int | bytes, int]]:
        """Runs of frames: name and path of the file, index of the first frame, where it begins, how many.

        Of a packed file the text itself in place of where it begins: it cannot be sought in.
        """
        for name, path in self.files().items():
            with opened(path) as stream:
                if is_packed(path):
                    yield from ((name, path, first, text, n) for first, n, text in frames_of(stream, path, _TASK_BYTES))
                else:
                    yield from ((name, path, *run) for run in _runs(stream, path))

    def read(self, task: tuple[str, Path, int, int | bytes, int]) -> Iterator[Structure | Rejected]:
        name, path, first, begin, count = task
        if isinstance(begin, bytes):
            yield from self._read_run(name, path, BytesIO(begin), first, count)
            return
        with opened(path) as stream:
            stream.seek(begin)
            yield from self._read_run(name, path, stream, first, count)

    def _read_run(
        self, name: str, path: Path, stream: BinaryIO, first: int, count: int
    ) -> Iterator[Structure | Rejected]:
        for index in range(first, first + count):
            frame = next_frame(stream, path, index)
            if frame is None:
                raise DataError(f"{path} has become shorter while it was read")
            yield self._parse(*frame, f"{name}#{index}")

    def _parse(self, num_atoms: int, lines: list[bytes], label: str) -> Structure | Rejected:
        """Read one frame; lines: its comment line, then one for each atom."""
        if wrong := broken_frame(label, num_atoms, lines):
            return wrong
        try:
            comment, *rows = [line.decode() for line in lines]
            of_cp2k = _CP2K.fullmatch(comment.strip())
            header, form = _split_header("" if of_cp2k else comment)
            stated = stated_units(header)
            if of_cp2k and _NO_POSITIONS.search(label):
                return Rejected(
                    label, "no positions", "CP2K has its forces or velocities there; read PROJECT-pos-1.xyz"
                )
            if of_cp2k:
                comment, header, stated = "\n", {"energy": float(of_cp2k[1])}, {"energy": ("CP2K's header", "Hartree")}
            num_columns = self._check_columns(form["Properties"])
            for row in rows:
                if (found := len(row.split())) != num_columns:
                    return Rejected(label, "columns disagree with Properties", f"{found}, not {num_columns}: {row:.60}")
            text = StringIO("".join([f"{num_atoms}\n", "\n" if comment.isspace() else comment, *rows]))
            (atoms,) = read_xyz(text, index=slice(1), properties_parser=lambda _: dict(form))
            columns = {**atoms.arrays, **(atoms.calc.results if atoms.calc else {})}
            record = Record(
                label=label,
                numbers=atoms.numbers,
                positions=columns.pop("positions"),
                cell=np.asarray(atoms.cell, dtype=np.float64),
                pbc=atoms.pbc,
                sections={"header": header, "columns": {k: v for k, v in columns.items() if k != "numbers"}},
                arrays=("columns",),
                group=str(header.get("config_type", "")),
                stated=stated,
                notes=(_NO_CELL,) if of_cp2k else (),
            )
            return self._structure(record)
        except KeyError as error:  # of ASE's table of symbols
            return Rejected(label, "unknown element", str(error)[:80])
        except (IndexError, TypeError, ValueError, AttributeError, OverflowError, OSError, RuntimeError) as error:
            return as_rejected(label, error)

    def _check_columns(self, properties: str) -> int:
        """Count the columns of the atom lines after checking those that are used."""
        fields = properties.split(":")
        names = [REV_PROPERTY_NAME_MAP.get(name, name) for name in fields[::3]]
        kinds = dict(zip(names, zip(fields[1::3], map(int, fields[2::3]), strict=True), strict=True))
        num_columns = sum(count for _, count in kinds.values())
        if len(kinds) < len(names):
            raise ValueError("Properties names a column twice")
        if "positions" not in kinds or not {"symbols", "numbers"} & set(kinds):
            raise ValueError("Properties has no pos, or neither species nor Z")
        for name, kind in kinds.items():
            is_vector = name == "positions" or name == self.forces_key or _VECTOR.fullmatch(name)
            if is_vector and kind not in (("R", 3), ("I", 3)):
                raise ValueError(f"Properties has {name}:{kind[0]}:{kind[1]}, which must be R:3")
        return num_columns


def _split_header(comment: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """What a comment line says, and apart from it the form of the frame by ASE's names: Lattice, pbc, Properties.

    Raises:
        ValueError: if a cell is written in a way that is not understood, or in two ways that disagree.
    """
    entries = key_val_str_to_dict(_NINE.sub(lambda m: m[1].upper(), comment)) if comment.strip() else {}  # type: ignore[no-untyped-call]
    by_name: dict[str, list[str]] = {}
    for key in entries:
        by_name.setdefault(key.lower(), []).append(key)
    cells = {key: _cell(key, entries[key]) for name in ("lattice", "cell") for key in by_name.get(name, [])}
    if len(cells) > 1 and any(not np.array_equal(cell, next(iter(cells.values()))) for cell in cells.values()):
        raise ValueError(f"{' and '.join(cells)} disagree")
    form: dict[str, Any] = {"Properties": _properties(entries, by_name)}
    if cells:
        form["Lattice"] = next(iter(cells.values())).T  # as ASE has it
    elif odd := [k for k, v in entries.items() if _CELL_LIKE.search(k) and np.ndim(v) and np.size(v) in (3, 6, 9)]:
        raise ValueError(f"{odd[0]} is not understood; write the cell as Lattice= with nine numbers")
    if flags := {key: _pbc(entries[key]) for key in by_name.get("pbc", [])}:
        form["pbc"], *others = flags.values()
        if any(other != form["pbc"] for other in others):
            raise ValueError(f"{' and '.join(flags)} disagree")
    used = {*cells, *by_name.get("properties", []), *by_name.get("pbc", [])}
    return {key: value for key, value in entries.items() if key not in used}, form


def _cell(key: str, value: Any) -> FloatArray:
    """(3, 3) rows."""
    array = np.asarray(value)
    if array.dtype.kind not in "iuf" or array.size not in (3, 9):
        raise ValueError(f"{key} is not understood: {value!r:.60}; a cell is nine numbers, or three at right angles")
    if array.size == 3:
        return np.diag(array.reshape(3).astype(np.float64))
    in_rows = array.T if key == "Lattice" else array.reshape(3, 3)  # ASE transposes what has this name alone
    return in_rows.astype(np.float64)


def _properties(entries: Mapping[str, Any], by_name: Mapping[str, list[str]]) -> str:
    """The columns by the names and types that ASE knows."""
    keys = by_name.get("properties", [])
    if len(keys) > 1:
        raise ValueError(f"{' and '.join(keys)}: Properties comes twice")
    fields = str(entries[keys[0]] if keys else "species:S:1:pos:R:3").split(":")
    if len(fields) % 3:
        raise ValueError("Properties is not a list of name:type:columns")
    names = [_COLUMNS.get(name.lower(), name) for name in fields[::3]]
    return ":".join(":".join(entry) for entry in zip(names, map(str.upper, fields[1::3]), fields[2::3], strict=True))


def _pbc(value: Any) -> list[bool]:
    """Raise ValueError unless it is one truth value, or three."""
    if isinstance(value, str):
        value = [_FLAGS.get(word.lower(), word) for word in value.split()]
    flags = np.asarray(value).squeeze()
    if flags.shape not in ((), (3,)) or flags.dtype.kind not in "bi" or not np.isin(flags, (0, 1)).all():
        raise ValueError(f"pbc is {value!r}")
    return [bool(flag) for flag in np.broadcast_to(flags, 3)]


def _runs(stream: BinaryIO, path: Path) -> Iterator[tuple[int, int, int]]:
    """Runs of frames of a file that can be sought in: index of the first, where it begins, how many."""
    first = index = begin = 0
    while next_frame(stream, path, index) is not None:
        index += 1
        if stream.tell() - begin >= _TASK_BYTES:
            yield first, begin, index - first
            first, begin = index, stream.tell()
    if index == 0:
        raise DataError(f"{path} holds no frame")
    if first < index:
        yield first, begin, index - first
