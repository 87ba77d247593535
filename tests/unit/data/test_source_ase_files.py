"""Formats that ASE reads: labels, signs and units as its readers convert them, and what is refused."""

import pickle
import sys
from pathlib import Path

import ase.io
import ase.units as u
import numpy as np
import pytest
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.constraints import FixAtoms

from scaling.data.manifest import Rejected
from scaling.data.sources.ase_files import AseFiles
from scaling.errors import ConfigError, DataError
from scaling.structure import Structure

STRESS_VASP_KBAR = np.array([[10.0, 1.0, 2.0], [1.0, 20.0, 3.0], [2.0, 3.0, 30.0]])
FORCES = np.array([[0.1, 0.2, -0.3], [-0.1, -0.2, 0.3]])
VASPRUN = """<?xml version="1.0" encoding="ISO-8859-1"?>
<modeling>
 <kpoints>
  <varray name="kpointlist"><v>0 0 0</v></varray>
  <varray name="weights"><v>1</v></varray>
 </kpoints>
 <atominfo>
  <array name="atoms"><set><rc><c>Mo</c><c>1</c></rc><rc><c>O</c><c>2</c></rc></set></array>
 </atominfo>
 <structure name="initialpos">
  <crystal><varray name="basis"><v>4 0 0</v><v>0 5 0</v><v>0 0 6</v></varray></crystal>
  <varray name="positions"><v>0 0 0</v><v>0.375 0.25 0.2</v></varray>
 </structure>
{steps}
</modeling>
"""
STEP = """ <calculation>
  <scstep>
   <energy><i name="e_fr_energy">-20.6</i><i name="e_wo_entrp">-20.4</i><i name="e_0_energy">{energy}</i></energy>
  </scstep>
  <structure>
   <crystal><varray name="basis"><v>4 0 0</v><v>0 5 0</v><v>0 0 6</v></varray></crystal>
   <varray name="positions"><v>0 0 0</v><v>0.375 0.25 0.2</v></varray>
  </structure>
  <varray name="forces"><v>0.1 0.2 -0.3</v><v>-0.1 -0.2 0.3</v></varray>
  <varray name="stress"><v>10 1 2</v><v>1 20 3</v><v>2 3 30</v></varray>
  <energy><i name="e_fr_energy">-20.6</i><i name="e_wo_entrp">-20.4</i><i name="e_0_energy">{energy}</i></energy>
 </calculation>
"""
OUTCAR = """ POTCAR:    PAW_PBE Mo 08Apr2002
 POTCAR:    PAW_PBE O 08Apr2002
 POTCAR:    PAW_PBE Mo 08Apr2002
 POTCAR:    PAW_PBE O 08Apr2002
   ISPIN  =      1    spin polarized calculation?
   k-points           NKPTS =      1   k-points in BZ     NKDIM =      1   number of bands    NBANDS=     16
   ions per type =               1   1
 k-points in reciprocal lattice and weights: Automatic mesh
   0.00000000  0.00000000  0.00000000      1.000
--------------------------------------- Iteration      1(   1)  ---------------------------------------
"""
OUTCAR_STEP = """      direct lattice vectors                 reciprocal lattice vectors
     4.000000000  0.000000000  0.000000000     0.250000000  0.000000000  0.000000000
     0.000000000  5.000000000  0.000000000     0.000000000  0.200000000  0.000000000
     0.000000000  0.000000000  6.000000000     0.000000000  0.000000000  0.166666667
  in kB      10.00000    20.00000    30.00000     1.00000     3.00000     2.00000
 POSITION                                       TOTAL-FORCE (eV/Angst)
 -----------------------------------------------------------------------------------
      0.00000      0.00000      0.00000         0.100000      0.200000     -0.300000
      1.50000      1.25000      1.20000        -0.100000     -0.200000      0.300000
 -----------------------------------------------------------------------------------
  FREE ENERGIE OF THE ION-ELECTRON SYSTEM (eV)
  ---------------------------------------------------
  free  energy   TOTEN  =       -20.60000000 eV

  energy  without entropy=      -20.40000000  energy(sigma->0) =      -20.50000000
"""
DUMP = """ITEM: TIMESTEP
{step}
ITEM: NUMBER OF ATOMS
2
ITEM: BOX BOUNDS pp pp pp
0 4
0 5
0 6
ITEM: ATOMS id {columns} x y z fx fy fz
1 {first} 0 0 0 0.1 0.2 -0.3
2 {second} 1.5 1.25 1.2 -0.1 -0.2 0.3
"""


def make_atoms(seed=0, **results):
    rng = np.random.default_rng(seed)
    atoms = Atoms(
        "MoO", rng.normal(0, 0.01, (2, 3)) + np.array([[0, 0, 0], [1.5, 1.25, 1.2]]), cell=[4, 5, 6], pbc=True
    )
    atoms.calc = SinglePointCalculator(atoms, **({"energy": -20.5, "forces": FORCES} | results))
    return atoms


def read(path, **settings):
    source = AseFiles(path=str(path), **settings)
    return [entry for task in pickle.loads(pickle.dumps(list(source.tasks()))) for entry in source.read(task)]


def test_trajectory_round_trip_is_exact_and_shared_out(tmp_path, monkeypatch):
    monkeypatch.setattr("scaling.data.sources.ase_files._FRAMES_PER_TASK", 3)
    rng = np.random.default_rng(0)
    written = [make_atoms(k, energy=-k, forces=rng.normal(size=(2, 3)), stress=rng.normal(size=6)) for k in range(8)]
    written[3].set_constraint(FixAtoms([0]))
    written[4].info.update(charge=1, spin=2, run="b")
    with ase.io.Trajectory(str(tmp_path / "md@300K.traj"), "w") as trajectory:
        for atoms in written:
            trajectory.write(atoms)
    entries = read(tmp_path)
    assert [entry.record for entry in entries] == [f"md@300K.traj#{k}" for k in range(8)]
    for entry, atoms in zip(entries, written, strict=True):
        assert entry.energy == atoms.calc.results["energy"]
        np.testing.assert_array_equal(entry.forces, atoms.calc.results["forces"])
        np.testing.assert_array_equal(
            entry.stress[np.triu_indices(3)], atoms.calc.results["stress"][[0, 5, 4, 1, 3, 2]]
        )
        np.testing.assert_array_equal(entry.positions, atoms.positions)
    assert (entries[4].charge, entries[4].spin, entries[4].group) == (1, 2, "Mo1 O1")


def test_vasprun_has_its_stress_turned_to_positive_under_tension(tmp_path):
    (tmp_path / "vasprun.xml").write_text(VASPRUN.format(steps=STEP.format(energy=-20.5) + STEP.format(energy=-20.4)))
    first, second = read(tmp_path)
    assert (first.energy, second.energy) == (-20.5, -20.4)
    np.testing.assert_allclose(first.stress, -0.1 * u.GPa * STRESS_VASP_KBAR, rtol=1e-12)
    assert not np.allclose(first.stress, 0.1 * u.GPa * STRESS_VASP_KBAR), "the sign would be seen"
    np.testing.assert_array_equal(first.forces, FORCES)
    assert [entry.energy for entry in read(tmp_path, energy_key="free_energy")] == [-20.6, -20.6]


def test_outcar_has_its_stress_turned_and_put_into_order(tmp_path):
    (tmp_path / "OUTCAR").write_text(OUTCAR + OUTCAR_STEP * 2)
    entries = read(tmp_path)
    assert [(entry.record, entry.energy) for entry in entries] == [("OUTCAR#0", -20.5), ("OUTCAR#1", -20.5)]
    np.testing.assert_allclose(entries[0].stress, -0.1 * u.GPa * STRESS_VASP_KBAR, rtol=1e-12)
    np.testing.assert_array_equal(entries[0].forces, FORCES)
    np.testing.assert_array_equal(entries[0].cell, np.diag([4.0, 5.0, 6.0]))
    (tmp_path / "OUTCAR").write_text(OUTCAR + OUTCAR_STEP + OUTCAR_STEP.replace("1.50000 ", "1.x0000 "))
    (found,) = read(tmp_path)  # ASE parses an OUTCAR as a whole
    assert (found.record, found.reason, "1.x0000" in found.detail) == ("OUTCAR#0", "malformed record", True)


def test_lammps_dump_needs_elements_and_may_have_forces_alone(tmp_path):
    by_element = DUMP.format(step=0, columns="element", first="Mo", second="O")
    (tmp_path / "good.lammpstrj").write_text(
        by_element + DUMP.format(step=1, columns="element", first="Mo", second="O")
    )
    entries = read(tmp_path / "good.lammpstrj", format="lammps-dump-text")
    assert [(entry.numbers.tolist(), entry.energy) for entry in entries] == [([42, 8], None)] * 2
    np.testing.assert_array_equal(entries[0].forces, FORCES)
    in_real = read(tmp_path / "good.lammpstrj", format="lammps-dump-text", force_unit="kcal/mol/Ang")
    np.testing.assert_allclose(in_real[0].forces, FORCES * (u.kcal / u.mol))
    stated = tmp_path / "stated.lammpstrj"
    for system, unit in (("real", u.kcal / u.mol), ("metal", 1.0), ("electron", u.Hartree / u.Bohr)):
        stated.write_text(f"ITEM: UNITS\n{system}\n{by_element}")
        (found,) = read(stated, format="lammps-dump-text")
        np.testing.assert_allclose(found.forces, FORCES * unit)
    np.testing.assert_allclose(found.positions, entries[0].positions * u.Bohr)
    stated.write_text(f"ITEM: UNITS\nlj\n{by_element}")
    with pytest.raises(DataError, match=r"ITEM: UNITS 'lj' is not read"):
        read(stated, format="lammps-dump-text")
    (tmp_path / "bad.lammpstrj").write_text(DUMP.format(step=0, columns="type", first=1, second=2))
    with pytest.raises(DataError, match=r"bad\.lammpstrj: .* has no column element"):
        read(tmp_path / "bad.lammpstrj", format="lammps-dump-text")


def test_file_packed_as_ase_cannot_read_it_is_to_be_unpacked(tmp_path):
    (tmp_path / "vasprun.xml.zst").write_bytes(b"\x28\xb5\x2f\xfd")
    for path in (tmp_path, tmp_path / "vasprun.xml.zst"):
        with pytest.raises(DataError, match="unpack it"):
            read(path)


def test_files_without_labels_are_rejected_frame_by_frame(tmp_path):
    ase.io.write(tmp_path / "XDATCAR", [make_atoms(k) for k in range(3)], format="vasp-xdatcar")
    assert [entry.reason for entry in read(tmp_path)] == ["missing energy and forces"] * 3


def test_directory_is_read_by_what_ase_recognises_and_the_rest_is_counted(tmp_path):
    ase.io.write(tmp_path / "a.traj", [make_atoms()])
    (tmp_path / "vasprun.xml").write_text(VASPRUN.format(steps=STEP.format(energy=-20.5)))
    ase.io.write(tmp_path / "b.xyz", [make_atoms()], format="extxyz")
    (tmp_path / "notes.txt").write_text("hello")
    (tmp_path / "data.npy").write_bytes(b"\x93NUMPY")
    source = AseFiles(path=str(tmp_path))
    assert list(source.files()) == ["a.traj", "vasprun.xml"]
    assert {entry.kind for entry in source.not_read()} == {".xyz (extxyz)", ".txt", ".npy"}
    assert list(AseFiles(path=str(tmp_path), format="traj").files()) == ["a.traj"]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("extxyz", "use source=extxyz"),
        ("db", "use source=ase_db"),
        ("postgresql", "use a file"),
        ("vaasp", "is no format that ASE knows"),
        ("png", "can be written by ASE, not read"),
    ],
)
def test_format_that_is_not_read_is_refused_with_the_way_out(name, message, tmp_path):
    with pytest.raises(ConfigError, match=rf"source\.format={name} .*{message}"):
        AseFiles(path=str(tmp_path), format=name)


def test_unknown_file_is_an_error_and_a_broken_one_is_rejected_from_there_on(tmp_path):
    (tmp_path / "a.foo").write_text("hello")
    with pytest.raises(DataError, match=r"a\.foo: ASE does not know its format; say source\.format=NAME"):
        read(tmp_path / "a.foo")
    good, bad = STEP.format(energy=-20.5), STEP.format(energy=-20.5).replace("0.1 0.2", "0.1 x")
    (tmp_path / "vasprun.xml").write_text(VASPRUN.format(steps=good + bad + good))
    first, found = read(tmp_path / "vasprun.xml")
    assert isinstance(first, Structure)
    assert isinstance(found, Rejected)
    assert (found.record, found.reason) == ("vasprun.xml#1", "malformed record")
    ase.io.write(tmp_path / "c.traj", [make_atoms(k) for k in range(3)])
    (tmp_path / "c.traj").write_bytes((tmp_path / "c.traj").read_bytes()[:-40])
    assert [isinstance(entry, Rejected) for entry in read(tmp_path / "c.traj")] == [False, False, True]
    (tmp_path / "c.traj").write_bytes(b"- of Ulm" + b"\xff" * 40)
    with pytest.raises(DataError, match=r"c\.traj is not a whole \.traj file"):
        read(tmp_path / "c.traj", format="traj")


def test_nothing_that_ase_reads_here_is_unpickled(tmp_path):
    """The control: the hook sees an unpickling; then no reader does one."""
    seen = []
    watching = [True]
    sys.addaudithook(lambda event, _: seen.append(event) if watching[0] and event.startswith("pickle.") else None)
    pickle.loads(pickle.dumps(Path()))
    assert seen
    ase.io.write(tmp_path / "a.traj", [make_atoms(k, stress=np.ones(6)) for k in range(2)])
    (tmp_path / "vasprun.xml").write_text(VASPRUN.format(steps=STEP.format(energy=-20.5)))
    source = AseFiles(path=str(tmp_path))
    seen.clear()
    entries = [entry for task in source.tasks() for entry in source.read(task)]
    watching[0] = False
    assert len(entries) == 3
    assert all(isinstance(entry, Structure) for entry in entries)
    assert not seen
