"""A sign or unit of forces or stress that is wrong on purpose is seen by the check of labels, whatever the source."""

import itertools
import json
from functools import cache

import ase.db
import ase.io
import ase.units as u
import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.calculators.singlepoint import SinglePointCalculator

from scaling.data.preparation.consistency import measure, sums, warning, work, work_of_stress
from scaling.data.sources import SOURCES

NUM_FRAMES = 24
WRONG = {"sign": -1.0, "unit": u.Hartree / u.Bohr}


@cache
def frames():
    """Atoms of a walk at one cell, then of a walk of the cell, with EMT's energies, forces and stress (3, 3)."""
    rng = np.random.default_rng(0)
    crystal, found = bulk("Cu", cubic=True), []
    crystal.set_cell(crystal.cell.array + np.diag([0.2, 0.0, -0.1]), scale_atoms=True)
    for k in range(2 * NUM_FRAMES):
        if k < NUM_FRAMES:
            crystal.positions += rng.normal(0, 0.05, (4, 3)) - 0.1 * (crystal.positions - crystal.positions.round(1))
        else:
            strain = rng.normal(0, 0.01, (3, 3))
            crystal.set_cell(crystal.cell.array @ (np.eye(3) + strain + strain.T), scale_atoms=True)
        crystal.calc = EMT()
        found.append(
            (crystal.copy(), crystal.get_potential_energy(), crystal.get_forces(), crystal.get_stress(voigt=False))
        )
    return tuple(found)


def labelled(of_forces, of_stress):
    for atoms, energy, forces, stress in frames():
        atoms = atoms.copy()
        values = {"energy": energy, "forces": forces * of_forces, "stress": stress * of_stress}
        atoms.calc = SinglePointCalculator(atoms, **values)
        yield atoms, values


def stacked(of_forces, of_stress):
    """Of all frames: positions, cells, energies, forces, stress."""
    rows = [
        (a.positions, a.cell.array, v["energy"], v["forces"], v["stress"]) for a, v in labelled(of_forces, of_stress)
    ]
    return [np.array(column) for column in zip(*rows, strict=True)]


def write_extxyz(folder, *wrong):
    ase.io.write(folder / "set.xyz", [atoms for atoms, _ in labelled(*wrong)], format="extxyz")
    return {"path": folder / "set.xyz"}


def write_ase(folder, *wrong):
    ase.io.write(folder / "set.traj", [atoms for atoms, _ in labelled(*wrong)])
    return {"path": folder / "set.traj"}


def write_ase_db(folder, *wrong):
    with ase.db.connect(str(folder / "set.db")) as database:
        for atoms, _ in labelled(*wrong):
            database.write(atoms)
    return {"path": folder / "set.db"}


def write_aselmdb(folder, *wrong):
    published = pytest.importorskip("ase_db_backends.aselmdb", reason="needs the extra aselmdb")
    with published.LMDBDatabase(str(folder / "set.aselmdb")) as database:
        for atoms, _ in labelled(*wrong):
            database.write(atoms)
    return {"path": folder / "set.aselmdb"}


def write_npz(folder, *wrong):
    names = ("R", "cell", "E", "F", "stress")
    np.savez(folder / "set.npz", z=np.full(4, 29), **dict(zip(names, stacked(*wrong), strict=True)))
    return {"path": folder / "set.npz", "energy_unit": "eV", "stress_unit": "eV/Ang^3"}


def write_hdf5(folder, *wrong):
    names = ("positions", "cell", "energy", "forces", "stress")
    with h5py.File(folder / "set.h5", "w") as file:
        group = file.create_group("Cu4")
        group["atomic_numbers"] = np.full(4, 29)
        for name, values in zip(names, stacked(*wrong), strict=True):
            group[name] = values
    return {"path": folder / "set.h5", "energy_unit": "eV", "stress_key": "none"}


def write_parquet(folder, *wrong):
    names = ("positions", "cell", "energy", "atomic_forces", "cauchy_stress")
    columns = {name: values.tolist() for name, values in zip(names, stacked(*wrong), strict=True)}
    columns["atomic_numbers"] = [[29] * 4] * len(columns["energy"])
    pa.parquet.write_table(pa.table(columns), folder / "set.parquet")
    return {"path": folder / "set.parquet"}


def write_deepmd(folder, *wrong):
    places, cells, energies, forces, stress = stacked(*wrong)
    virial = -stress * np.abs(np.linalg.det(cells))[:, None, None]
    (folder / "Cu4" / "set.000").mkdir(parents=True)
    (folder / "Cu4" / "type.raw").write_text("0\n" * 4)
    (folder / "Cu4" / "type_map.raw").write_text("Cu\n")
    arrays = {"coord": places, "box": cells, "energy": energies, "force": forces, "virial": virial}
    for name, values in arrays.items():
        np.save(folder / "Cu4" / "set.000" / f"{name}.npy", values.reshape(len(values), -1))
    return {"path": folder / "Cu4"}


def write_mptrj(folder, *wrong):
    content = {}
    for k, (atoms, values) in enumerate(labelled(*wrong)):
        rows = zip(atoms.get_scaled_positions(wrap=False), atoms.positions, strict=True)
        sites = [
            {"species": [{"element": "Cu", "occu": 1}], "abc": abc.tolist(), "xyz": xyz.tolist()} for abc, xyz in rows
        ]
        content[f"mp-30-0-{k}"] = {
            "structure": {"lattice": {"matrix": atoms.cell.tolist()}, "sites": sites},
            "uncorrected_total_energy": values["energy"],
            "force": values["forces"].tolist(),
            "stress": (values["stress"] / (-0.1 * u.GPa)).tolist(),
        }
    (folder / "set.json").write_text(json.dumps({"mp-30": content}))
    return {"path": folder / "set.json"}


WRITERS = {
    "extxyz": write_extxyz,
    "ase": write_ase,
    "ase_db": write_ase_db,
    "aselmdb": write_aselmdb,
    "npz": write_npz,
    "hdf5": write_hdf5,
    "parquet": write_parquet,
    "deepmd": write_deepmd,
    "mptrj": write_mptrj,
}


def read(name, folder, of_forces=1.0, of_stress=1.0):
    settings = WRITERS[name](folder, of_forces, of_stress)
    source = SOURCES[name](**{key: str(value) for key, value in settings.items()})
    return [entry for task in source.tasks() for entry in source.read(task)]


def said(entries):
    """What the check says of forces, and of stress."""
    pairs = list(itertools.pairwise(entries))
    checks = {"forces": work, "stress": work_of_stress}
    by_label = {label: [found for a, b in pairs if (found := check(a, b))] for label, check in checks.items()}
    return {
        label: warning(measure(sums(np.array(found).reshape(-1, 2))), label)
        for label, found in by_label.items()
        if found
    }


@pytest.mark.parametrize("name", WRITERS)
def test_right_labels_pass_and_each_wrong_one_is_seen(name, tmp_path):
    entries = read(name, tmp_path)
    for entry, (_, energy, forces, stress) in zip(entries, frames(), strict=True):
        assert entry.energy == pytest.approx(energy, rel=1e-7)  # as extended XYZ prints it
        np.testing.assert_allclose(entry.forces, forces, atol=1e-7)
        if name != "hdf5":  # molecules
            np.testing.assert_allclose(entry.stress, stress, atol=1e-7)
    labels = ("forces",) if name == "hdf5" else ("forces", "stress")
    assert said(entries) == dict.fromkeys(labels, "")
    for number, (label, (how, factor)) in enumerate(itertools.product(labels, WRONG.items())):
        folder = tmp_path / str(number)
        folder.mkdir()
        told = said(read(name, folder, **{f"of_{label}": factor}))
        assert [which for which, words in told.items() if words] == [label], (label, how)
