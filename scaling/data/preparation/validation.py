"""Which labelled structures are fit to learn from, and when two are the same."""

import hashlib
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scaling.data.formats import units
from scaling.data.manifest import Rejected
from scaling.data.neighbors import (
    MAX_EXTENT_ANG,
    MIN_CELL_HEIGHT_ANG,
    cell_heights,
    completed_cell,
    extent,
    neighbor_list,
)
from scaling.data.preparation.plausible import plausible_unit
from scaling.errors import ConfigError
from scaling.structure import FIELDS, LABELS, OPTIONAL, FloatArray, Structure

MAX_ATOMIC_NUMBER = 118
GEOMETRY_ROUNDING_ANG = 1e-3
"""Two structures are duplicates if species, cell and wrapped positions agree after rounding to this."""
_SHIFT = (5**0.5 - 1) / 2
MAX_ATOMS = 200_000
MAX_EDGES = 30_000_000
"""What one structure may have: about a gigabyte of neighbour list."""
ASYMMETRY = 1e-3
"""What a stress's two halves may differ by, as a share of its largest component, and at least STRESS_ROUNDING."""
STRESS_ROUNDING = 1e-5
MAX_CHARGE = 2**15 - 1


@dataclass(frozen=True)
class Bounds:
    """What a structure must keep to; the defaults catch broken records, not unusual physics.

    cutoff_ang: every atom must have a neighbour within it; edges are counted within it.
    min_distance_ang: closer pairs, images included, are errors.
    max_force_ev_per_ang, max_energy_ev_per_atom: larger absolute values are errors of unit or of convergence.
    max_stress_ev_per_ang3: a larger component, 160 GPa, is an error of unit (kB or GPa), or a virial.
    """

    cutoff_ang: float = 5.0
    min_distance_ang: float = 0.5
    max_force_ev_per_ang: float = 100.0
    max_energy_ev_per_atom: float = 1.0e4
    max_stress_ev_per_ang3: float = 1.0

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not (np.isfinite(value) and value > 0):
                raise ConfigError(f"bounds.{name}={value} must be a positive number")
        if self.min_distance_ang >= self.cutoff_ang:
            raise ConfigError(
                f"bounds.min_distance_ang={self.min_distance_ang} must be below bounds.cutoff_ang={self.cutoff_ang}"
            )


@dataclass(frozen=True)
class Accepted:
    """A valid structure as it will be stored: a row of each field but group and holdout, and a hash of its geometry."""

    row: dict[str, NDArray[Any]]
    group: str
    holdout: str
    record: str
    geometry: bytes


def validate(structure: Structure, bounds: Bounds) -> Accepted | Rejected:
    """Check one structure in storage precision, count its edges, and hash its geometry.

    A stress of nought without a periodic direction is not there: programs print it for molecules.
    """
    if problem := _shape_problem(structure):
        return Rejected(structure.record, *problem)
    periodic = np.asarray(structure.pbc, dtype=bool)
    if structure.stress is not None and not periodic.any() and not np.any(structure.stress):
        structure = replace(structure, stress=None)
    raw = {
        "numbers": structure.numbers,
        "positions": structure.positions,
        "forces": structure.forces,
        "cell": np.where(periodic[:, None], structure.cell, 0.0),
        "pbc": periodic,
        "energy": structure.energy,
        "source": structure.source,
        "stress": structure.stress,
        "charge": structure.charge,
        "spin": structure.spin,
    }
    raw |= {name: _missing(name, len(structure.numbers)) for name in OPTIONAL if raw[name] is None}
    with np.errstate(over="ignore", invalid="ignore"):  # what overflows becomes infinite, and is rejected as such
        row = {name: np.asarray(value).astype(FIELDS[name].dtype) for name, value in raw.items()}
    if problem := _value_problem(row, bounds) or _label_problem(row, structure, bounds):
        return Rejected(structure.record, *problem)
    if problem := _density_problem(row, periodic, bounds):
        return Rejected(structure.record, *problem)
    edge_index, shifts = neighbor_list(row["positions"], row["cell"], periodic, bounds.cutoff_ang)
    positions = row["positions"].astype(np.float64)
    vectors = positions[edge_index[0]] + shifts @ row["cell"].astype(np.float64) - positions[edge_index[1]]
    distances = np.linalg.norm(vectors, axis=1)
    if len(distances) and (shortest := distances.min()) < bounds.min_distance_ang:
        i, j = edge_index[::-1, distances.argmin()]
        return Rejected(structure.record, "atoms too close", f"atoms {i} and {j} at {shortest:.3f} angstrom")
    degree = np.bincount(edge_index[1], minlength=len(positions))
    if not degree.all():
        detail = f"atom {degree.argmin()} has no neighbour within {bounds.cutoff_ang} angstrom"
        return Rejected(structure.record, "isolated atom", detail)
    row["num_edges"] = np.asarray(edge_index.shape[1])
    return Accepted(row, structure.group, structure.holdout, structure.record, _geometry_hash(raw))


def _missing(name: str, num_atoms: int) -> FloatArray:
    """What is stored of a label that is not there."""
    field = FIELDS[name]
    assert field.missing is not None
    return np.full(((num_atoms,) if field.per == "atom" else ()) + field.shape, field.missing)


def _shape_problem(structure: Structure) -> tuple[str, str] | None:
    """Reason and detail if the arrays do not belong together."""
    if all(getattr(structure, name) is None for name in LABELS):
        return "no label", f"none of {', '.join(LABELS)}"
    num_atoms = np.shape(structure.numbers)[0] if np.ndim(structure.numbers) == 1 else None
    positions = np.shape(structure.positions)
    if num_atoms == 0:
        return "no atoms", ""
    if num_atoms is not None and num_atoms > MAX_ATOMS:
        return "too many atoms", f"{num_atoms}, at most {MAX_ATOMS}"
    if num_atoms is None or positions != (num_atoms, 3):
        return (
            "atom count disagrees with the positions",
            f"numbers {np.shape(structure.numbers)}, positions {positions}",
        )
    if structure.forces is not None and (shape := np.shape(structure.forces)) != (num_atoms, 3):
        return "atom count disagrees with the forces", f"{num_atoms} atoms, forces {shape}"
    if structure.stress is not None and (shape := np.shape(structure.stress)) != (3, 3):
        return "broken stress", f"shape {shape}, not (3, 3)"
    if np.shape(structure.cell) != (3, 3) or np.shape(structure.pbc) != (3,):
        return "broken cell", f"cell {np.shape(structure.cell)}, pbc {np.shape(structure.pbc)}"
    numbers = np.asarray(structure.numbers)
    unknown = (numbers < 1) | (numbers > MAX_ATOMIC_NUMBER)
    if not np.issubdtype(numbers.dtype, np.integer) or unknown.any():
        return "unknown element", f"Z={numbers[unknown][0] if unknown.any() else numbers[0]}"
    return None


def _value_problem(row: dict[str, NDArray[Any]], bounds: Bounds) -> tuple[str, str] | None:
    """Reason and detail if a value is not finite or beyond its bound."""
    for name in ("positions", "cell"):
        if not np.isfinite(row[name]).all():
            return "not finite", name
    periodic = row["pbc"].astype(bool)
    if periodic.any():
        height = cell_heights(completed_cell(row["cell"], periodic))[periodic].min()
        if height < max(MIN_CELL_HEIGHT_ANG, bounds.min_distance_ang):
            return "broken cell", f"height {height:.3g} angstrom"
    if (farthest := extent(row["positions"].astype(np.float64), row["cell"])) > MAX_EXTENT_ANG:
        return "reaches too far", f"{farthest:.3g} angstrom"
    return None


def _label_problem(row: dict[str, NDArray[Any]], structure: Structure, bounds: Bounds) -> tuple[str, str] | None:
    """Reason and detail if a label that is there cannot be right."""
    for name in LABELS:
        if getattr(structure, name) is not None and not np.isfinite(row[name]).all():
            return "not finite", name
    if structure.forces is not None:
        largest = np.linalg.norm(row["forces"].astype(np.float64), axis=1).max()
        if largest > bounds.max_force_ev_per_ang:
            return "force out of bounds", f"{largest:.4g} eV/angstrom"
    if structure.energy is not None:
        per_atom = float(row["energy"]) / len(row["numbers"])
        if abs(per_atom) > bounds.max_energy_ev_per_atom:
            hint = plausible_unit(float(row["energy"]), row["numbers"], bounds.max_energy_ev_per_atom)
            return "energy out of bounds", f"{per_atom:.6g} eV/atom; {hint}"
    if structure.stress is not None and (problem := _stress_problem(row["stress"].astype(np.float64), row, bounds)):
        return problem
    return _state_problem(structure)


def _stress_problem(stress: FloatArray, row: dict[str, NDArray[Any]], bounds: Bounds) -> tuple[str, str] | None:
    """Reason and detail if a stress (3, 3), eV/angstrom^3, cannot be right."""
    if not row["pbc"].any():
        return "stress without a periodic direction", "source.stress_key=none leaves it out"
    largest, asymmetry = np.abs(stress).max(), np.abs(stress - stress.T).max()
    if asymmetry > max(ASYMMETRY * largest, STRESS_ROUNDING):
        return "stress is not symmetric", (
            f"halves differ by {asymmetry:.3g} eV/angstrom^3 (of components up to {largest:.3g}); "
            "source.stress_key=none leaves it out"
        )
    if largest > bounds.max_stress_ev_per_ang3:
        in_kb = largest * units.STRESS_UNITS_EV_PER_ANG3["kbar"]
        ways_out = "set source.stress_unit, or source.stress_key=none"
        detail = f"{largest:.4g} eV/angstrom^3; if it is in kB it is {in_kb:.3g} eV/angstrom^3: {ways_out}"
        return "stress out of bounds", detail
    return None


def _state_problem(structure: Structure) -> tuple[str, str] | None:
    """Reason and detail if charge (e) and spin (multiplicity) are none, or no electrons can have both.

    An even number of electrons has an odd multiplicity, 2 S + 1, and the other way round.
    """
    charge, spin = structure.charge, structure.spin
    for name, value, least in (("charge", charge, -MAX_CHARGE), ("spin", spin, 1)):
        if value is not None and not (least <= value <= MAX_CHARGE and value == int(value)):
            allowed = "an integer" if name == "charge" else "a multiplicity 2 S + 1, 1 or more"
            return f"{name} out of bounds", f"{value} is not {allowed}"
    if charge is None:
        return None
    electrons = int(np.sum(structure.numbers, dtype=np.int64)) - int(charge)
    if electrons < 0:
        return "charge out of bounds", f"{charge} is more than all electrons"
    if spin is not None and (electrons + int(spin)) % 2 == 0:
        detail = f"{electrons} electrons (charge {charge}) cannot have multiplicity {spin}"
        return "charge and spin disagree", f"{detail}; source.charge_key and source.spin_key name them, or none"
    return None


def _density_problem(
    row: dict[str, NDArray[Any]], periodic: NDArray[np.bool_], bounds: Bounds
) -> tuple[str, str] | None:
    """Reason and detail if atoms lie so dense that a neighbour list would not fit in memory; before one is made."""
    positions = row["positions"].astype(np.float64)
    box = completed_cell(row["cell"], periodic)
    fractional = positions @ np.linalg.inv(box)
    wrapped = np.where(periodic, fractional % 1.0, fractional) @ box
    # Two atoms in a cube of this diagonal are too close; with one a cube, memory is bounded by the volume.
    cubes = np.floor(wrapped / (bounds.min_distance_ang / 3**0.5)).astype(np.int64)
    in_order = cubes[np.lexsort(cubes.T)]
    if (in_order[1:] == in_order[:-1]).all(axis=1).any():
        _, first, count = np.unique(cubes, axis=0, return_index=True, return_counts=True)
        return "atoms too close", f"{count.max()} atoms in one place, among them atom {first[count.argmax()]}"
    sides = np.where(periodic, cell_heights(box), np.ptp(fractional * np.linalg.norm(box, axis=1), axis=0))
    volume = float(np.prod(sides + np.where(periodic, 0.0, 2 * bounds.cutoff_ang)))
    expected = len(positions) ** 2 * 4 / 3 * np.pi * bounds.cutoff_ang**3 / volume
    if expected > MAX_EDGES:
        return "too many neighbours", f"about {expected:.3g} pairs, at most {MAX_EDGES:.3g}"
    return None


def _geometry_hash(raw: dict[str, Any]) -> bytes:
    """Hash species, cell and positions: the same for any order of the atoms and any choice of periodic image.

    Rounded to GEOMETRY_ROUNDING_ANG, from a grid shifted by a share that no lattice site stands on; copies whose
    coordinates differ by less may still fall on two sides of a line. A rigid shift or rotation is another geometry.
    """
    periodic = np.asarray(raw["pbc"], dtype=bool)
    lattice = np.asarray(raw["cell"], dtype=np.float64)
    box = completed_cell(lattice, periodic)
    fractional = np.asarray(raw["positions"], dtype=np.float64) @ np.linalg.inv(box)
    steps = np.maximum(np.rint(np.linalg.norm(box, axis=1) / GEOMETRY_ROUNDING_ANG), 1).astype(np.int64)
    ticks = np.floor(fractional * steps + _SHIFT).astype(np.int64)
    ticks[:, periodic] %= steps[periodic]  # after rounding, so that 0.99999 and 0.0 are one place
    atoms = np.column_stack([np.asarray(raw["numbers"], dtype=np.int64), ticks])
    atoms = atoms[np.lexsort(atoms.T[::-1])]
    cell = np.floor(lattice / GEOMETRY_ROUNDING_ANG + _SHIFT).astype(np.int64)
    flags = periodic.astype(np.uint8)
    return hashlib.blake2b(flags.tobytes() + cell.tobytes() + atoms.tobytes(), digest_size=16).digest()
