"""JARVIS force-field JSON, as ALIGNN-FF is trained on: a list of {jid, atoms, total_energy, forces, stresses}.

Units: `forces` are -dE/dx in eV/angstrom, `atoms.lattice_mat` in angstrom, `atoms.coords` fractional unless
`atoms.cartesian`. Stresses are not stored; in the published mlearn files those of the test sets are another record's.

Energy: `total_energy` is one thing in one file and another in the next. In the files made from mlearn it is the energy
PER ATOM in eV, in the sample of JARVIS-DFT trajectories beside them (id_prop.json) that of the whole cell; both were
measured against the work of the forces between neighbouring frames. `energy` says which; where it is per atom, more
than MAX_ENERGY_EV_PER_ATOM is rejected as a sum over atoms.

Group key: the formula of the cell, e.g. Cu108. A `jid` is no key: in mlearn it is a running number, training set first
and test set after it (twice), with nothing to identify frames of one trajectory, and the test frames are of the same
trajectories and strain series (whose cells rotated copies share their energies). All molecular dynamics and all strains
of a supercell thus stay together, apart from vacancies and surfaces, which have other numbers of atoms: few and large
groups. In JARVIS-DFT a jid is a material, all frames of which have one formula.

Source: Choudhary et al., Digital Discovery 2, 346 (2023); https://github.com/usnistgov/alignn,
examples/sample_data_ff; mlearn: Zuo et al., J. Phys. Chem. A 124, 731 (2020);
https://github.com/materialsvirtuallab/mlearn
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from ase.data import atomic_numbers

from scaling.data.elements import formula
from scaling.data.formats import JsonListSource
from scaling.data.manifest import Rejected
from scaling.data.source import as_rejected
from scaling.errors import ConfigError
from scaling.structure import Structure

ENERGIES = ("per_atom", "total")
MAX_ENERGY_EV_PER_ATOM = 20.0
"""No element comes near it with VASP's energies, counted from spherical atoms: Gd has -14, W -13."""


@dataclass(frozen=True)
class Jarvis(JsonListSource):
    """Settings of the reader; path: a .tar.gz of JSON files, a directory of them, or one JSON file.

    energy: what total_energy is, "per_atom" or "total"; see the head of the file.
    """

    name: str = "jarvis"
    energy: str = "per_atom"

    def __post_init__(self) -> None:
        if self.energy not in ENERGIES:
            raise ConfigError(f"source.energy={self.energy} must be {' or '.join(ENERGIES)}")

    def _parse(self, stem: str, label: str, record: Any) -> Structure | Rejected:
        return _parse_record(label, record, self.energy)


def _parse_record(label: str, record: Any, energy_is: str) -> Structure | Rejected:
    """Read one record; anything amiss with its form is a rejection."""
    try:
        atoms = record["atoms"]
        symbols = atoms["elements"]
        if not isinstance(symbols, list):
            raise TypeError(f"elements is a {type(symbols).__name__}")
        if unknown := [symbol for symbol in symbols if symbol not in atomic_numbers]:
            return Rejected(label, "unknown element", str(unknown[0])[:80])
        cell = np.array(atoms["lattice_mat"], dtype=np.float64).reshape(3, 3)
        positions = np.array(atoms["coords"], dtype=np.float64).reshape(-1, 3)
        if not isinstance(atoms["cartesian"], bool):
            raise TypeError(f"cartesian is {atoms['cartesian']!a}")
        energy = float(record["total_energy"])
        forces = np.array(record["forces"], dtype=np.float64)
    except (KeyError, IndexError, TypeError, ValueError, AttributeError, OverflowError) as error:
        return as_rejected(label, error)
    if not atoms["cartesian"]:
        with np.errstate(invalid="ignore", over="ignore"):  # what is not finite is rejected later, by that name
            positions = positions @ cell
    if energy_is == "per_atom":
        if abs(energy) > MAX_ENERGY_EV_PER_ATOM:
            return Rejected(label, "energy is not per atom", f"{energy:.6g} eV; source.energy=total may be meant")
        energy *= len(symbols)
    return Structure(
        numbers=np.array([atomic_numbers[symbol] for symbol in symbols], dtype=np.int64),
        positions=positions,
        cell=cell,
        pbc=np.ones(3, dtype=bool),
        energy=energy,
        forces=forces,
        group=formula(symbols),
        record=label,
    )
