"""Lists of pymatgen dictionaries in JSON, as the Materials Virtual Lab publishes them (Mo-Nb-Ta-W and kin).

Units: outputs.energy is the total energy in eV (VASP, PBE), outputs.forces are -dE/dx in eV/angstrom, lattice and
`xyz` are in angstrom. outputs.stress, where it is there, is VASP's: xx, yy, zz, xy, yz, zx in kbar, positive where the
cell is compressed; its sign is turned. Among the sheared cells of Mo, energies change by 0.996 times what it says so
(in Voigt's order by 0.06 times). Held out: `*_Test.json` as "test", the authors' test set, and `Multinary_Test.json` as
"multinary", an extra test set, since its training file is not part of every copy.

Group key: molecular dynamics by element, temperature and strain tag; elastic series by element and kind of strain
(modes 1 to 3 stretch one axis each, 4 to 6 shear one plane each: in a cubic metal they are rotated copies of one
another, hundreds of equal energies); solid solutions by composition (a relaxed cell stays with its unrelaxed one, and
symmetric copies occur); surfaces by element and Miller index.

Source: Li, Chen, Zheng, Zuo, Ong, npj Comput. Mater. 6, 70 (2020); https://github.com/materialsvirtuallab/maml
"""

import re
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from scaling.data.elements import formula
from scaling.data.formats import JsonListSource, parse_structure, units
from scaling.data.manifest import Rejected
from scaling.data.source import as_rejected
from scaling.structure import FloatArray, Structure

_EV_PER_ANG3 = units.STRESS_UNITS_EV_PER_ANG3["-kbar"]


@dataclass(frozen=True)
class Mvl(JsonListSource):
    """Settings of the reader; path: a .tar.gz of JSON files, a directory of them, or one JSON file."""

    name: str = "mvl"

    RECIPE: ClassVar[int] = 2

    def _parse(self, stem: str, label: str, record: Any) -> Structure | Rejected:
        return _parse_record(stem, label, record)


def _parse_record(stem: str, label: str, record: Any) -> Structure | Rejected:
    """Read one record; anything amiss with its form is a rejection."""
    try:
        geometry = parse_structure(label, record["structure"])
        if isinstance(geometry, Rejected):
            return geometry
        energy = float(record["outputs"]["energy"])
        forces = np.array(record["outputs"]["forces"], dtype=np.float64)
        stress = _stress(record["outputs"].get("stress"))
        stated = int(record.get("num_atoms", len(geometry.numbers)))
        group = _group(stem, geometry.symbols, record.get("notes"))
    except (KeyError, IndexError, TypeError, ValueError, AttributeError, OverflowError) as error:
        return as_rejected(label, error)
    if stated != len(geometry.numbers):
        detail = f"{len(geometry.numbers)} sites, num_atoms {stated}"
        return Rejected(label, "atom count disagrees with num_atoms", detail)
    return geometry.labelled(
        energy=energy, forces=forces, group=group, record=label, holdout=_holdout(stem), stress=stress
    )


def _stress(pressure: Any) -> FloatArray | None:
    """(3, 3) in eV/angstrom^3, positive under tension, from VASP's six numbers; None from none.

    Raises:
        ValueError, TypeError: if they are anything else.
    """
    values = np.array([] if pressure is None else pressure, dtype=np.float64)
    if values.size == 0:
        return None
    if values.shape != (6,):
        raise ValueError(f"stress has shape {values.shape}, not 6 numbers")
    return _EV_PER_ANG3 * values[[0, 3, 5, 3, 1, 4, 5, 4, 2]].reshape(3, 3)


def _holdout(stem: str) -> str:
    if not stem.endswith("_Test"):
        return ""
    return "multinary" if stem.startswith("Multinary") else "test"


def _group(stem: str, symbols: list[str], notes: Any) -> str:
    """Name the trajectory, series or composition that a record belongs to; see the head of the file."""
    system, _, kind = stem.rpartition("_")
    tag, value = next(iter(notes.items())) if isinstance(notes, dict) and notes else ("", "")
    if (kind == "AIMD" or (kind == "Test" and tag == "Md")) and (run := re.fullmatch(r"-?(.+)-\d+", str(value))):
        return f"{system} {kind} {tag} {run[1]} K"
    if kind == "Elastic" and (mode := re.match(r"[1-6](?=-)", str(value))):
        return f"{system} Elastic {'stretch' if int(mode[0]) <= 3 else 'shear'}"
    if kind == "Surface":
        return " ".join(filter(None, (system, kind, str(value))))
    return f"{kind if kind == 'SS' else stem} {formula(symbols)}"
