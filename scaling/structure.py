"""The one table of field names: what is known of a labelled structure, with shapes, dtypes and units."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

IntArray = NDArray[np.integer[Any]]
FloatArray = NDArray[np.floating[Any]]


@dataclass(frozen=True)
class Field:
    """One stored field: trailing shape, storage dtype, unit, and whether it has an entry per atom or per structure.

    missing: what stands for "not there" where a structure may lack it; None: every structure has it.
    """

    per: str  # "atom" or "structure"
    shape: tuple[int, ...]
    dtype: str
    unit: str
    meaning: str
    missing: float | None = None

    def is_there(self, values: NDArray[Any]) -> NDArray[np.bool_]:
        """(rows,) which of the rows of this field are not `missing`."""
        if self.missing is None:
            return np.ones(len(values), dtype=bool)
        there = ~np.isnan(values) if np.isnan(self.missing) else values != self.missing
        return there.reshape(len(values), -1).all(axis=1)


FIELDS: dict[str, Field] = {
    "numbers": Field("atom", (), "uint8", "", "atomic number Z"),
    "positions": Field("atom", (3,), "float32", "angstrom", "Cartesian positions"),
    "forces": Field("atom", (3,), "float32", "eV/angstrom", "forces, -dE/dx", np.nan),
    "cell": Field("structure", (3, 3), "float32", "angstrom", "lattice vectors as rows; zeros where not periodic"),
    "pbc": Field("structure", (3,), "uint8", "", "1 where a lattice direction is periodic"),
    "energy": Field("structure", (), "float64", "eV", "total energy of all atoms in the cell", np.nan),
    "stress": Field(
        "structure", (3, 3), "float32", "eV/angstrom^3", "(1/V) dE/dstrain, positive under tension, symmetric", np.nan
    ),
    "charge": Field("structure", (), "int16", "e", "total charge", -(2**15)),
    "spin": Field("structure", (), "int16", "", "multiplicity 2 S + 1", 0),
    "group": Field("structure", (), "int64", "", "hash of the group key: structures of one group stay together"),
    "holdout": Field("structure", (), "uint8", "", "0: split freely; k: belongs to manifest holdouts[k]"),
    "source": Field("structure", (), "uint8", "", "index of the manifest's parts: where it was mixed in from"),
    "num_edges": Field("structure", (), "int32", "", "directed neighbour pairs within the manifest's cutoff_ang"),
}

#: What a structure may have or lack; the order is that of the bits of the index.
OPTIONAL = ("energy", "forces", "stress", "charge", "spin")
#: Those of them that are to be learned.
LABELS = ("energy", "forces", "stress")


@dataclass(frozen=True)
class Structure:
    """One labelled structure as a source reads it, in eV, angstrom and eV/angstrom, float64.

    numbers (N,), positions (N, 3), cell (3, 3) rows, pbc (3,).
    energy: total; forces (N, 3), -dE/dx; stress (3, 3), eV/angstrom^3, positive under tension: each None where the
        source has no such label.
    charge: total charge in units of e; spin: multiplicity 2 S + 1; None where the source does not say.
    group: the key of structures that must not be split between train and test (trajectory, composition, series).
    record: where it came from, `file#index`, for error messages.
    holdout: "" for a structure that may be split freely, "test" for the authors' test set,
        any other name for an extra test set.
    source: index of the part of a mixed set.
    notes: what of the record was not read, or taken in a way worth a word; the same words for the same kind.
    """

    numbers: IntArray
    positions: FloatArray
    cell: FloatArray
    pbc: NDArray[np.bool_]
    energy: float | None
    forces: FloatArray | None
    group: str
    record: str
    holdout: str = ""
    source: int = 0
    stress: FloatArray | None = None
    charge: int | None = None
    spin: int | None = None
    notes: tuple[str, ...] = ()
