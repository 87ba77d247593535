"""Small alloy structures with adsorbates, labelled by effective medium theory: data for laws in minutes, anywhere.

Seven fcc metals in bulk cells and slabs of 4 to 8 atoms, strained, sheared and rattled; some slabs carry an
adsorbate. Half of the base structures are slabs.

Units: energies eV (zero: the fcc metals at rest, and EMT's own zero for H C N O), positions angstrom, forces
eV/angstrom, -dE/dx. Group key: lattice and formula, adsorbate included, so that no arrangement of the same atoms on
the same lattice is both trained on and tested on; a base structure has up to VARIANTS_PER_BASE variants of strain,
rattle and adsorbate position.

Source of the labels: Jacobsen, Stoltze, Norskov, Surf. Sci. 366, 394 (1996), as in ASE; H C N O are toy values there.
"""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from ase import Atoms
from ase.build import bulk, fcc100, fcc111
from ase.calculators.emt import EMT
from ase.data import atomic_numbers as z_of
from ase.data import covalent_radii, reference_states

from scaling.data.manifest import Rejected
from scaling.data.neighbors import neighbor_list
from scaling.data.source import GeneratedSource
from scaling.data.sources.contacts import contact_problem
from scaling.structure import Structure

METALS = ("Al", "Ni", "Cu", "Pd", "Ag", "Pt", "Au")
ADSORBATES: dict[str, tuple[tuple[str, float], ...]] = {  # element and height above the lowest atom, angstrom
    "H": (("H", 0.0),),
    "C": (("C", 0.0),),
    "N": (("N", 0.0),),
    "O": (("O", 0.0),),
    "CO": (("C", 0.0), ("O", 1.2)),
    "OH": (("O", 0.0), ("H", 1.0)),
    "NO": (("N", 0.0), ("O", 1.2)),
    "CH": (("C", 0.0), ("H", 1.1)),
    "NH": (("N", 0.0), ("H", 1.0)),
}
MAX_ATOMS = 8
VARIANTS_PER_BASE = 4
MAX_STRAIN = 0.06
MAX_RATTLE_ANG = 0.2
MAX_FORCE_EV_PER_ANG = 15.0
VACUUM_ANG = 6.0
_BASES_PER_TASK = 16


@dataclass(frozen=True)
class Emt(GeneratedSource):
    """Settings of the generator."""

    name: str = "emt"

    RECIPE: ClassVar[int] = 2

    def tasks(self) -> Iterator[int]:
        """First bases of portions, without end."""
        return itertools.count(0, _BASES_PER_TASK)

    def read(self, task: int) -> Iterator[Structure | Rejected]:
        """A base depends on the seed and its own number alone."""
        for number in range(task, task + _BASES_PER_TASK):
            yield from make_variants(self.seed, number)


def make_variants(seed: int, number: int) -> Iterator[Structure | Rejected]:
    """Draw one base, then label its variants."""
    rng = np.random.default_rng([seed, number])
    lattice, base = _draw_slab(rng) if rng.random() < 0.5 else _draw_bulk(rng)
    adsorbate = _draw_adsorbate(rng, base)
    formula = "+".join(filter(None, (base.get_chemical_formula(), adsorbate)))
    group = f"emt {lattice} {formula}"  # not the base: the same formula may be drawn twice
    calculator = FastNeighborsEMT()
    for variant in range(VARIANTS_PER_BASE):
        atoms = _distort(rng, _adsorb(rng, base, adsorbate))
        record = f"emt#{seed}.{number}.{variant}"
        if problem := contact_problem(atoms):
            yield Rejected(record, "generated atoms too close", problem)
            continue
        atoms.calc = calculator
        energy, forces = atoms.get_potential_energy(), atoms.get_forces()
        largest = np.linalg.norm(forces, axis=1).max()
        if not largest <= MAX_FORCE_EV_PER_ANG:
            yield Rejected(record, "generated forces too large", f"{largest:.3g} eV/angstrom")
            continue
        yield Structure(
            numbers=atoms.numbers.copy(),
            positions=atoms.positions.copy(),
            cell=np.asarray(atoms.cell) * np.asarray(atoms.pbc)[:, None],
            pbc=atoms.pbc.copy(),
            energy=float(energy),
            forces=forces.copy(),
            group=group,
            record=record,
        )


class FastNeighborsEMT(EMT):
    """ASE's EMT with its neighbour list exchanged for a faster one; energies and forces are ASE's own formulas."""

    def initialize(self, atoms: Atoms) -> None:
        super().initialize(atoms)
        self.nl = _Neighbors(self.rc_list)


class _Neighbors:
    """The two methods of ase.neighborlist.NeighborList that EMT calls."""

    def __init__(self, cutoff_ang: float) -> None:
        self.cutoff_ang = cutoff_ang

    def update(self, atoms: Atoms) -> None:
        (self._source, centre), self._shifts = neighbor_list(atoms.positions, atoms.cell, atoms.pbc, self.cutoff_ang)
        self._start = np.searchsorted(centre, np.arange(len(atoms) + 1))

    def get_neighbors(self, centre: int) -> tuple[Any, Any]:
        rows = slice(self._start[centre], self._start[centre + 1])
        return self._source[rows], self._shifts[rows]


def _draw_species(rng: np.random.Generator, num_atoms: int) -> list[str]:
    """One to three metals, in random or repeating order."""
    palette = rng.choice(METALS, size=rng.choice([1, 2, 3], p=[0.15, 0.5, 0.35]), replace=False)
    if rng.random() < 0.4:
        return [str(palette[k % len(palette)]) for k in range(num_atoms)]
    return [str(symbol) for symbol in rng.choice(palette, size=num_atoms)]


def _lattice_constant(species: Sequence[str]) -> float:
    """Vegard's law over the fcc metals, angstrom."""
    return float(np.mean([reference_states[z_of[symbol]]["a"] for symbol in species]))


def _draw_bulk(rng: np.random.Generator) -> tuple[str, Atoms]:
    """A cell of 4 to 8 atoms on an fcc, bcc or hcp lattice at fcc's volume per atom."""
    lattice = str(rng.choice(["fcc", "fcc cubic", "bcc", "hcp"], p=[0.4, 0.25, 0.2, 0.15]))
    repeats = {
        "fcc": [(2, 2, 1), (5, 1, 1), (3, 2, 1), (7, 1, 1), (2, 2, 2)],
        "fcc cubic": [(1, 1, 1), (2, 1, 1)],
        "bcc": [(2, 1, 1), (3, 1, 1), (2, 2, 1)],
        "hcp": [(2, 1, 1), (1, 1, 2), (3, 1, 1), (2, 2, 1)],
    }[lattice]
    repeat = repeats[rng.integers(len(repeats))]
    cells_of_one = {"fcc": 1, "fcc cubic": 4, "bcc": 2, "hcp": 2}[lattice]
    species = _draw_species(rng, cells_of_one * int(np.prod(repeat)))
    a = _lattice_constant(species)
    unit = {
        "fcc": lambda: bulk("Cu", "fcc", a=a),
        "fcc cubic": lambda: bulk("Cu", "fcc", a=a, cubic=True),
        "bcc": lambda: bulk("Cu", "bcc", a=a / 2 ** (1 / 3), cubic=True),
        "hcp": lambda: bulk("Cu", "hcp", a=a / 2**0.5, c=a / 2**0.5 * (8 / 3) ** 0.5),
    }[lattice]()
    atoms = unit.repeat(repeat)
    atoms.set_chemical_symbols(species)
    return f"bulk {lattice}", atoms


def _draw_slab(rng: np.random.Generator) -> tuple[str, Atoms]:
    """A slab of 4 to 8 atoms with a (111) or (100) face, periodic in the plane only."""
    face, build = (("fcc111", fcc111), ("fcc100", fcc100))[rng.integers(2)]
    sizes = [(1, 1, 4), (1, 1, 5), (1, 1, 6), (2, 1, 2), (2, 1, 3), (2, 2, 1), (3, 1, 2), (2, 2, 2)]
    size = sizes[rng.integers(len(sizes))]
    species = _draw_species(rng, int(np.prod(size)))
    faced = build("Cu", size=size, a=_lattice_constant(species), vacuum=VACUUM_ANG)
    atoms = Atoms(species, faced.positions, cell=faced.cell, pbc=(True, True, False))
    return f"slab {face} {size[0]}x{size[1]}x{size[2]}", atoms


def _draw_adsorbate(rng: np.random.Generator, base: Atoms) -> str:
    """The name of an adsorbate that fits into MAX_ATOMS, or "" (always for a bulk cell)."""
    fitting = [name for name, parts in ADSORBATES.items() if len(base) + len(parts) <= MAX_ATOMS]
    if base.pbc.all() or not fitting or rng.random() < 0.15:
        return ""
    return str(rng.choice(fitting))


def _adsorb(rng: np.random.Generator, base: Atoms, adsorbate: str) -> Atoms:
    """Put the adsorbate anywhere over the surface, as near as its own and the surface's radii allow, and tilt it."""
    atoms = base.copy()
    if not adsorbate:
        return atoms
    parts = ADSORBATES[adsorbate]
    axis = rng.normal(size=3) * 0.5 + [0, 0, 1.0]
    axis /= np.linalg.norm(axis)
    lateral = rng.random(2) @ np.asarray(atoms.cell)[:2]
    radius = covalent_radii[z_of[parts[0][0]]]
    surface, cell = atoms.positions, np.asarray(atoms.cell)
    images = np.array([[i, j, 0] for i in (-1, 0, 1) for j in (-1, 0, 1)]) @ cell
    apart = np.linalg.norm((surface[:, None] + images - lateral)[..., :2], axis=-1)
    bond = (radius + covalent_radii[atoms.numbers])[:, None] * rng.uniform(0.85, 1.15)
    height_over = surface[:, 2, None] + np.sqrt(np.clip(bond**2 - apart**2, 0, None))
    foot = np.array([lateral[0], lateral[1], height_over.max()])
    for symbol, height in parts:
        atoms += Atoms(symbol, [foot + height * axis])
    return atoms


def _distort(rng: np.random.Generator, atoms: Atoms) -> Atoms:
    """Strain and shear the cell by up to MAX_STRAIN, then displace every atom by a normal of one random width."""
    size = rng.uniform(0.0, MAX_STRAIN)
    strain = rng.uniform(-size, size, (3, 3))
    strain = (strain + strain.T) / 2 + np.eye(3) * rng.uniform(-MAX_STRAIN, MAX_STRAIN)
    if not atoms.pbc.all():
        strain[2, :2] = strain[:2, 2] = 0.0
    atoms.set_cell(np.asarray(atoms.cell) @ (np.eye(3) + strain), scale_atoms=True)
    atoms.positions += rng.normal(size=(len(atoms), 3)) * rng.uniform(0.01, MAX_RATTLE_ANG)
    return atoms
