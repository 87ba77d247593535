"""Materials Project trajectories as CHGNet publishes them: relaxations of 146 thousand materials in one JSON file.

The file (MPtrj_2022.9_full.json, 11 GB) is `{mp_id: {frame_id: frame}}`; a frame holds a pymatgen `structure`,
energies, `force`, `stress`, `magmom` and `bandgap`. It is cut into pieces of whole materials, which the workers parse,
so that memory stays small whatever its size.

Units: energies in eV for the whole cell (VASP, PBE and PBE+U), `force` is -dE/dx in eV/angstrom, lattice and `xyz` are
in angstrom. `stress` is in kbar with VASP's sign (positive where it is compressed), and stored with the other one.
Magnetic moments and band gaps are not stored.

Energy: `uncorrected_total_energy` is VASP's own, of which the forces are the derivatives; materials computed with PBE
and with PBE+U have different zeros. `corrected_total_energy` adds the MP2020 corrections: constants per anion and per
transition metal with U, chosen by composition, run type and guessed oxidation states; they are no function of the
positions, and no force goes with them. `energy_per_atom` is the corrected one over the number of atoms: not a choice.

Group key: mp_id. A material has many frames of several relaxations, nearly equal.

Source: Deng et al., Nat. Mach. Intell. 5, 1031 (2023); https://figshare.com/articles/dataset/23713842;
https://github.com/CederGroupHub/chgnet
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from scaling.data.formats import parse_structure, pieces, units
from scaling.data.manifest import Rejected
from scaling.data.source import FileSource, as_rejected
from scaling.errors import ConfigError, DataError
from scaling.structure import Structure

ENERGIES = ("uncorrected_total_energy", "corrected_total_energy")
MAX_KEY_LENGTH = 100
_EV_PER_ANG3 = units.STRESS_UNITS_EV_PER_ANG3["-kbar"]


@dataclass(frozen=True)
class MPtrj(FileSource):
    """Settings of the reader; path: the JSON file, or a directory of such files.

    energy: which total energy, one of ENERGIES; see the head of the file.
    """

    name: str = "mptrj"
    energy: str = "uncorrected_total_energy"

    RECIPE: ClassVar[int] = 2
    SUFFIXES: ClassVar[tuple[str, ...]] = (".json",)
    UNPACKS: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.energy not in ENERGIES:
            raise ConfigError(f"source.energy={self.energy} must be {' or '.join(ENERGIES)}")

    def tasks(self) -> Iterator[tuple[Path, int, bytes]]:
        """Pieces of each file, about CHUNK_BYTES each: file, first byte, JSON text of a few materials."""
        for path in self.files().values():
            for start, text in pieces(path):
                yield path, start, text

    def read(self, task: tuple[Path, int, bytes]) -> Iterator[Structure | Rejected]:
        path, start, text = task
        where = f"{path}: materials from byte {start} on"
        try:
            materials = json.loads(text.decode("utf-8"), object_pairs_hook=_without_duplicates)
        except (ValueError, RecursionError) as error:
            raise DataError(f"{where}: not JSON: {error}") from error
        for mp_id, frames in materials.items():
            if not isinstance(frames, dict):
                raise DataError(f"{where}: {mp_id[:MAX_KEY_LENGTH]!a} holds no frames but a {type(frames).__name__}")
            for frame_id, frame in frames.items():
                for key in (mp_id, frame_id):
                    if not (0 < len(key) <= MAX_KEY_LENGTH and key.isprintable()):
                        raise DataError(f"{where}: {key[:MAX_KEY_LENGTH]!a} is no name of a material or frame")
                yield _parse_frame(f"{path.name}#{mp_id}/{frame_id}", mp_id, frame, self.energy)


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Build a dictionary.

    Raises:
        ValueError: if a key comes twice; json would keep the last.
    """
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for k, key in enumerate(keys) if key in keys[:k])
        raise ValueError(f"key {twice[:MAX_KEY_LENGTH]!a} comes twice")
    return found


def _parse_frame(label: str, mp_id: str, frame: Any, energy_key: str) -> Structure | Rejected:
    """Read one frame; anything amiss with its form is a rejection."""
    try:
        geometry = parse_structure(label, frame["structure"])
        if isinstance(geometry, Rejected):
            return geometry
        energy = float(frame[energy_key])
        forces = np.array(frame["force"], dtype=np.float64)
        pressure = frame.get("stress")
        stress = None if pressure is None else _EV_PER_ANG3 * np.array(pressure, dtype=np.float64).reshape(3, 3)
        stated = frame.get("mp_id", mp_id)
    except (KeyError, IndexError, TypeError, ValueError, AttributeError, OverflowError) as error:
        return as_rejected(label, error)
    if stated != mp_id:
        return Rejected(label, "mp_id disagrees with the material", f"{stated!a}"[:MAX_KEY_LENGTH])
    return geometry.labelled(energy=energy, forces=forces, group=mp_id, record=label, stress=stress)
