"""Structures as pymatgen writes them into JSON: a lattice and sites, each with species, `abc` and `xyz` (angstrom)."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from ase.data import atomic_numbers
from numpy.typing import NDArray

from scaling.data.manifest import Rejected
from scaling.structure import FloatArray, IntArray, Structure

MAX_COORDINATE_MISMATCH_ANG = 0.01


@dataclass(frozen=True)
class Geometry:
    """N atoms: numbers (N,), positions (N, 3), cell (3, 3) rows, pbc (3,); symbols of the atoms."""

    numbers: IntArray
    positions: FloatArray
    cell: FloatArray
    pbc: NDArray[np.bool_]
    symbols: list[str]

    def labelled(
        self,
        *,
        energy: float,
        forces: FloatArray,
        group: str,
        record: str,
        holdout: str = "",
        stress: FloatArray | None = None,
    ) -> Structure:
        """The structure with these labels."""
        atoms = (self.numbers, self.positions, self.cell, self.pbc)
        return Structure(*atoms, energy, forces, group, record, holdout, stress=stress)


def parse_structure(record: str, structure: Any) -> Geometry | Rejected:
    """Read one structure dictionary; `record` names it if it is rejected.

    Raises:
        KeyError, IndexError, TypeError, ValueError, AttributeError, OverflowError: if its form is wrong.
    """
    lattice, sites = structure["lattice"], structure["sites"]
    species = [site["species"] for site in sites]
    if mixed := [parts for parts in species if len(parts) != 1 or parts[0].get("occu", 1) != 1]:
        return Rejected(record, "partly occupied site", str(mixed[0])[:80])
    symbols = [parts[0]["element"] for parts in species]
    if unknown := [symbol for symbol in symbols if symbol not in atomic_numbers]:
        return Rejected(record, "unknown element", str(unknown[0])[:80])
    cell = np.array(lattice["matrix"], dtype=np.float64).reshape(3, 3)
    positions = np.array([site["xyz"] for site in sites], dtype=np.float64).reshape(-1, 3)
    fractional = np.array([site["abc"] for site in sites], dtype=np.float64).reshape(-1, 3)
    pbc = np.array(lattice.get("pbc", (True, True, True)), dtype=bool)
    with np.errstate(invalid="ignore", over="ignore"):
        agree = np.allclose(fractional @ cell, positions, rtol=0, atol=MAX_COORDINATE_MISMATCH_ANG, equal_nan=True)
    if not agree:
        return Rejected(record, "abc and xyz disagree", f"by more than {MAX_COORDINATE_MISMATCH_ANG} angstrom")
    numbers = np.array([atomic_numbers[symbol] for symbol in symbols], dtype=np.int64)
    return Geometry(numbers, positions, cell, pbc, symbols)
