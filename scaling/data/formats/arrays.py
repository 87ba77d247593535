"""What readers of named arrays and columns have in common: by which names atoms are known, and what has a unit."""

import re
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scaling.data.elements import numbers_of_symbols, whole_numbers
from scaling.data.formats.keyed import NAMES
from scaling.errors import DataError
from scaling.structure import IntArray

NUMBERS = ("atomic_numbers", "nuclear_charges", "z", "numbers", "species", "species_at_sites", "symbols")
POSITIONS = ("positions", "coordinates", "coords", "r", "pos", "xyz", "conformations", "cartesian_site_positions")
CELLS = ("cell", "lattice", "lattice_vectors")
PBCS = ("pbc", "dimension_types")
#: Names of labels in arrays, after those of single records.
ARRAY_NAMES: dict[str, tuple[str, ...]] = {
    **NAMES,
    "energy": (*NAMES["energy"], "energies|E", "dft_total_energy", r".*\.energy"),
    "forces": (*NAMES["forces"], "F", "atomic_forces", "dft_total_gradient", r".*\.forces"),
    "stress": (*NAMES["stress"], "cauchy_stress", "stress_tensor"),
    "charge": (f"{NAMES['charge'][0]}|Q",),
}


def first_of(names: Iterable[str], known: tuple[str, ...]) -> str | None:
    """The name that comes first among the known ones, in any case."""
    by_lower = {name.lower(): name for name in names}
    return next((by_lower[name] for name in known if name in by_lower), None)


def is_label(name: str) -> bool:
    """Whether an array of this name is energies, forces or stress."""
    patterns = (pattern for what in ("energy", "forces", "stress", "virial") for pattern in ARRAY_NAMES[what])
    return any(re.fullmatch(pattern, name, re.IGNORECASE) for pattern in patterns)


def atomic_numbers_of(values: NDArray[Any]) -> IntArray:
    """From atomic numbers or chemical symbols.

    Raises:
        ValueError: if they are neither.
    """
    if values.dtype.kind in "SU":
        return numbers_of_symbols(values.astype("S"))
    return whole_numbers(values)


def require_units(path: Any, energy_unit: str, stated: Mapping[str, Any], layout: Mapping[str, str]) -> None:
    """Raises DataError unless the unit of energies is known: arrays have no unit of their own."""
    if not (energy_unit or "energy" in stated or "energy" in layout):
        raise DataError(f"{path} does not state the unit of its energies: say source.energy_unit (eV, Hartree, ...)")


def require_unit_of_forces(
    path: Any, setting: str, found: tuple[str, Any] | None, stated: Mapping[str, Any], layout: Mapping[str, str]
) -> None:
    """Raises DataError unless that of forces that stand without energies is known, where there are any."""
    if found and not (setting or {"forces", found[0]} & stated.keys() or "forces" in layout):
        raise DataError(f"{path} does not state the unit of {found[0]}: say source.force_unit (eV/Ang, ...)")


def text_of(value: Any) -> str | None:
    """A text kept as an array or attribute of one; None if it is none."""
    array = np.asarray(value)
    if array.size != 1 or array.dtype.kind not in "SUO":
        return None
    item = array.reshape(()).item()
    return item.decode("latin1") if isinstance(item, bytes) else item if isinstance(item, str) else None
