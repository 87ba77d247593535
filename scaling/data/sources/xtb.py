"""Clusters of small organic molecules, labelled by GFN2-xTB: molecular data with real chemistry, made anywhere.

Two to eight molecules of H, C, N and O, of up to MAX_ATOMS atoms together, put together at random distances and
orientations, then rattled. Not periodic, neutral, closed-shell.

Units: energies eV (GFN2's total energy of the valence electrons, about -138 eV for water), positions angstrom, forces
eV/angstrom, -dE/dx. Group key: which molecules the cluster is of, so that no arrangement of the same molecules is both
trained on and tested on; each drawing of molecules is arranged ARRANGEMENTS times.

The same on every run with one version of tblite on one kind of processor: each structure depends on the seed and its
own number alone, and tblite runs on one thread, since the order of its sums depends on their number.

Source of the labels: Bannwarth, Ehlert, Grimme, J. Chem. Theory Comput. 15, 1652 (2019), as in tblite; molecules as in
ASE's g2 set.
"""

import ctypes
import itertools
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.build import molecule
from ase.data import vdw_radii
from ase.units import Bohr, Hartree
from scipy.spatial.transform import Rotation

from scaling.data.manifest import Rejected
from scaling.data.source import GeneratedSource
from scaling.data.sources.contacts import contact_problem
from scaling.errors import ConfigError
from scaling.structure import FloatArray, Structure

MOLECULES = (
    *("H2O", "NH3", "CH4", "CH3OH", "H2CO", "HCN", "HCOOH", "H2O2", "CO2", "C2H2", "C2H4", "C2H6"),
    *("CH3NH2", "CH3CN", "CH3CHO", "CH3CH2OH", "CH3OCH3", "CH3COOH", "CH3CONH2", "N2H4", "C6H6"),
)
"""Names of the molecules, as in their groups."""
_G2_NAMES = {"CH3NH2": "H3CNH2"}  # where ASE has another
_BUILT: dict[str, Atoms] = {n: molecule(_G2_NAMES.get(n, n)) for n in MOLECULES}  # type: ignore[no-untyped-call]
_FEWEST = min(len(built) for built in _BUILT.values())
MIN_ATOMS, MAX_ATOMS = 6, 24
MAX_MOLECULES = 8
ARRANGEMENTS = 4
MAX_RATTLE_ANG = 0.06
CLEARANCE = (0.65, 1.1)
"""A molecule comes as near as this share of the sum of two van der Waals radii; a hydrogen bond has 0.7."""
MAX_FORCE_EV_PER_ANG = 15.0
SCF_ACCURACY = 0.1
"""tblite's own scale, 1 its default; forces agree with differences of the energy to 1e-5 eV/angstrom."""
_DRAWINGS_PER_TASK = 16


@dataclass(frozen=True)
class Xtb(GeneratedSource):
    """Settings of the generator."""

    name: str = "xtb"

    def files(self) -> Mapping[str, Path]:
        _load_tblite()  # a missing library is an error before the work begins
        return {}

    def tasks(self) -> Iterator[int]:
        """First drawings of portions, without end."""
        return itertools.count(0, _DRAWINGS_PER_TASK)

    def read(self, task: int) -> Iterator[Structure | Rejected]:
        """A drawing depends on the seed and its own number alone."""
        for number in range(task, task + _DRAWINGS_PER_TASK):
            yield from make_arrangements(self.seed, number)


def make_arrangements(seed: int, number: int) -> Iterator[Structure | Rejected]:
    """Draw molecules, then arrange and label them ARRANGEMENTS times.

    Raises:
        ConfigError: if tblite is not installed.
    """
    rng = np.random.default_rng([seed, number])
    names = _draw_molecules(rng)
    group = "xtb " + " + ".join(f"{count} {name}" for name, count in sorted(Counter(names).items()))
    for arrangement in range(ARRANGEMENTS):
        atoms = _arrange(rng, names)
        record = f"xtb#{seed}.{number}.{arrangement}"
        if problem := contact_problem(atoms):
            yield Rejected(record, "generated atoms too close", problem)
            continue
        labelled = label(atoms)
        if isinstance(labelled, str):
            yield Rejected(record, "SCF did not converge", labelled[:200])
            continue
        energy, forces = labelled
        largest = np.linalg.norm(forces, axis=1).max()
        if not largest <= MAX_FORCE_EV_PER_ANG:
            yield Rejected(record, "generated forces too large", f"{largest:.3g} eV/angstrom")
            continue
        yield Structure(
            numbers=atoms.numbers.copy(),
            positions=atoms.positions.copy(),
            cell=np.zeros((3, 3)),
            pbc=np.zeros(3, dtype=bool),
            energy=energy,
            forces=forces,
            group=group,
            record=record,
        )


def label(atoms: Atoms) -> tuple[float, FloatArray] | str:
    """GFN2-xTB's energy (eV) and forces (N, 3) (eV/angstrom), or why there are none.

    Raises:
        ConfigError: if tblite is not installed.
    """
    tblite = _load_tblite()
    with _one_thread():
        calculator = tblite.interface.Calculator("GFN2-xTB", atoms.numbers, atoms.positions / Bohr)
        calculator.set("verbosity", 0)
        calculator.set("accuracy", SCF_ACCURACY)
        try:
            result = calculator.singlepoint()
        except tblite.exceptions.TBLiteRuntimeError as error:
            return str(error)
        gradient: FloatArray = result.get("gradient")
        return float(result.get("energy")) * Hartree, -gradient * (Hartree / Bohr)


def _load_tblite() -> Any:
    """Import tblite, which only this source needs.

    Raises:
        ConfigError: if it is not installed.
    """
    try:
        import tblite.exceptions
        import tblite.interface
    except ImportError as error:
        raise ConfigError(f"source xtb needs tblite ({error}): pip install gnn-scaling[xtb]") from error
    return tblite


@contextmanager
def _one_thread() -> Iterator[None]:
    """Let OpenMP use one thread, whatever OMP_NUM_THREADS says: by a call, since the variable is read only once."""
    from tblite import _libtblite

    openmp = ctypes.CDLL(_libtblite.__file__)  # its symbols and those of the libraries it was linked with
    if not hasattr(openmp, "omp_set_num_threads"):  # built without threads
        yield
        return
    before = openmp.omp_get_max_threads()
    openmp.omp_set_num_threads(1)
    try:
        yield
    finally:
        openmp.omp_set_num_threads(before)


def _draw_molecules(rng: np.random.Generator) -> list[str]:
    """Two or more molecules of at most as many atoms as a random number says."""
    aim = int(rng.integers(MIN_ATOMS, MAX_ATOMS + 1))
    names: list[str] = []
    while len(names) < MAX_MOLECULES:
        room = aim - sum(len(_BUILT[name]) for name in names)
        # The first leaves room for a second.
        fitting = [name for name in MOLECULES if len(_BUILT[name]) <= room - (0 if names else _FEWEST)]
        if not fitting:
            break
        names.append(str(rng.choice(fitting)))
    return names


def _arrange(rng: np.random.Generator, names: list[str]) -> Atoms:
    """Turn each molecule at random and bring it up to the others from a random side; then rattle all atoms."""
    cluster = Atoms()
    for index in rng.permutation(len(names)):
        turn, side = Rotation.from_quat(rng.normal(size=(2, 4))).as_matrix()
        part = _BUILT[names[index]]
        positions = (part.positions - part.positions.mean(axis=0)) @ turn
        clearance = rng.uniform(*CLEARANCE)
        if len(cluster):
            positions += cluster.positions.mean(axis=0)
            apart = clearance * (vdw_radii[part.numbers][:, None] + vdw_radii[cluster.numbers])
            positions += side[0] * _first_touch(positions[:, None] - cluster.positions, side[0], apart)
        cluster += Atoms(part.numbers, positions)
    cluster.positions += rng.normal(size=(len(cluster), 3)) * rng.uniform(0.01, MAX_RATTLE_ANG)
    return cluster


def _first_touch(vectors: FloatArray, direction: FloatArray, apart: FloatArray) -> float:
    """How far out along a unit direction none of the vectors (..., 3) is shorter than `apart` (...) any more."""
    along = vectors @ direction
    discriminant = along**2 - (vectors**2).sum(axis=-1) + apart**2
    touching = discriminant >= 0
    return float(max(0.0, (np.sqrt(discriminant[touching]) - along[touching]).max(initial=0.0)))
