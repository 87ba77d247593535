"""Files as people have them, through the command: what their headers and metadata say counts, and nothing is lost."""

import gzip
import json
import shutil
from pathlib import Path

import ase.db
import ase.io
import ase.units
import numpy as np
import pytest
from ase.build import bulk
from ase.neighborlist import neighbor_list

from scaling.data.shards import ShardSet
from tests.conftest import run_command

CASES = Path(__file__).parents[3] / "shared" / "cases"
FRAME = """{num}
energy={energy:.8f} {lattice}="{cell}" {properties}=species:S:1:pos:R:3:force:R:3{more}
{rows}
"""
FORMS = {
    "standard": {"lattice": "Lattice", "properties": "Properties"},
    "lower": {"lattice": "lattice", "properties": "properties"},
    "upper": {"lattice": "LATTICE", "properties": "PROPERTIES"},
    "cell": {"lattice": "cell", "properties": "Properties"},
}


def copper(num_frames=4, more="", energy_key="energy", **form):
    """Frames of rattled copper, the header in a form."""
    rng = np.random.default_rng(0)
    text = ""
    for _ in range(num_frames):
        atoms = bulk("Cu", cubic=True)
        atoms.rattle(0.05, rng=rng)
        rows = [
            f"Cu {' '.join(f'{x:.8f}' for x in (*place, *rng.normal(0, 0.5, 3)))}" for place in atoms.positions.tolist()
        ]
        cell = " ".join(f"{x:.8f}" for x in atoms.cell.ravel())
        frame = FRAME.format(num=4, energy=rng.normal(), cell=cell, rows="\n".join(rows), more=more, **form)
        text += frame.replace("energy=", f"{energy_key}=")
    return text


def prepare(folder, source, path, *settings, out="out"):
    return run_command(
        "experiments.prepare",
        "processes=1",
        f"source={source}",
        f"source.path={path}",
        f"out={out}",
        *settings,
        cwd=folder,
    )


def line(done, name):
    assert done.returncode == 0, done.stderr
    return next(row for row in done.stdout.splitlines() if row.split()[:1] == [name])


def test_header_in_any_case_gives_the_same_set(tmp_path):
    digests = {}
    for name, form in FORMS.items():
        (tmp_path / f"{name}.xyz").write_text(copper(**form))
        digests[name] = line(prepare(tmp_path, "extxyz", f"{name}.xyz", out=name), "digest")
    assert len(set(digests.values())) == 1
    assert ShardSet(tmp_path / "lower").read(0).pbc.all()
    (tmp_path / "free.xyz").write_text(copper(**FORMS["standard"]).replace("Lattice=", "comment="))
    free = line(prepare(tmp_path, "extxyz", "free.xyz", out="free"), "digest")
    assert free not in digests.values(), "the control: a lost lattice is another set"


@pytest.mark.parametrize("key", ["box", "lattice_vectors", "unit_cell"])
def test_cell_by_a_name_that_is_not_understood_is_refused_by_name(key, tmp_path):
    (tmp_path / "a.xyz").write_text(copper(lattice=key, properties="Properties"))
    done = prepare(tmp_path, "extxyz", "a.xyz")
    assert done.returncode == 3
    assert "malformed record" in done.stderr


def test_units_of_the_header_are_converted_and_contradictions_refused(tmp_path):
    plain = copper(1, **FORMS["standard"])
    (tmp_path / "plain.xyz").write_text(plain)
    (tmp_path / "units.xyz").write_text(copper(1, " energy-unit=hartree force-unit=hartree/bohr", **FORMS["standard"]))
    for name in ("plain", "units"):
        line(prepare(tmp_path, "extxyz", f"{name}.xyz", out=name), "digest")
    in_ev, in_hartree = (ShardSet(tmp_path / name).read(0) for name in ("plain", "units"))
    assert in_hartree.energy == pytest.approx(in_ev.energy * ase.units.Hartree, rel=1e-12)
    np.testing.assert_allclose(in_hartree.forces, in_ev.forces * (ase.units.Hartree / ase.units.Bohr), rtol=1e-6)
    done = prepare(tmp_path, "extxyz", "units.xyz", "source.energy_unit=eV", out="wrong")
    assert (done.returncode, "units.xyz#0 states energy-unit=hartree" in done.stderr) == (3, True)
    assert "source.energy_unit=eV" in done.stderr
    assert len(done.stderr.strip().splitlines()[-1]) < 300


def test_labels_in_the_data_of_rows_are_read_with_the_units_of_the_metadata(tmp_path):
    rng = np.random.default_rng(0)
    with ase.db.connect(tmp_path / "set.db") as database:
        database.metadata = {
            "_distance_unit": "Ang",
            "_property_unit_dict": {"energy": "Hartree", "forces": "Hartree/Ang"},
            "atomrefs": {},
        }
        for k in range(4):
            atoms = bulk("Cu", cubic=True)
            atoms.rattle(0.05, rng=rng)
            data = {"energy": np.array([-1.0 - k]), "forces": rng.normal(0, 0.01, (4, 3))}
            database.write(atoms, data=data, mol=f"m{k}")
    for key in ("", "energy"):
        done = prepare(tmp_path, "ase_db", "set.db", f"source.energy_key={key}", "source.group_key=mol", out=f"o{key}")
        assert "4 in 4 groups" in line(done, "structures")
        assert ShardSet(tmp_path / f"o{key}").energy.tolist() == [-(1.0 + k) * ase.units.Hartree for k in range(4)]
    done = prepare(tmp_path, "ase_db", "set.db", "source.energy_key=U0", out="without")
    assert "warning: 4 structures: source.energy_key=U0 is not there" in done.stderr
    assert line(done, "labels").split(None, 1)[1] == "forces of all"
    done = prepare(tmp_path, "ase_db", "set.db", "source.energy_key=U0", "source.forces_key=F", out="none")
    assert done.returncode == 3
    assert "source.energy_key=U0 is not there; source.forces_key=F is not there; found calculator" in done.stderr


def test_keys_of_another_name_are_refused_and_read_when_they_are_named(tmp_path):
    text = copper(energy_key="vasp_energy", **FORMS["standard"]).replace("force:R:3", "vasp_force:R:3")
    (tmp_path / "a.xyz").write_text(text)
    done = prepare(tmp_path, "extxyz", "a.xyz")
    assert done.returncode == 3
    assert "4 missing energy and forces" in done.stderr
    keys = ("source.energy_key=vasp_energy", "source.forces_key=vasp_force")
    assert "4 in 1 groups" in line(prepare(tmp_path, "extxyz", "a.xyz", *keys), "structures")


def test_linked_folders_and_packed_files_are_read_and_the_rest_is_named(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "set" / ".cache").mkdir(parents=True)
    frames = copper(9, **FORMS["standard"]).split("4\nenergy")[1:]
    frames = [f"4\nenergy{frame}" for frame in frames]
    (tmp_path / "set" / "a.xyz").write_text("".join(frames[:3]))
    (tmp_path / "set" / "b.XYZ.gz").write_bytes(gzip.compress("".join(frames[3:5]).encode()))
    (tmp_path / "elsewhere" / "c.XYZ").write_text("".join(frames[5:]))
    (tmp_path / "set" / "more").symlink_to("../elsewhere")
    (tmp_path / "set" / ".cache" / "d.xyz").write_text("".join(frames))
    (tmp_path / "set" / "notes.txt").touch()
    done = prepare(tmp_path, "extxyz", "set")
    assert "9 in 1 groups" in line(done, "structures")
    assert line(done, "files").split(None, 1)[1] == ("read 3; not read: 1 .txt (notes.txt), 1 hidden folder (.cache)")
    source = json.loads((tmp_path / "out" / "manifest.json").read_text())["source"]
    assert [entry["file"] for entry in source["files"]] == ["a.xyz", "b.XYZ.gz", "more/c.XYZ"]
    assert source["not_read"] == [
        {"kind": ".txt", "count": 1, "example": "notes.txt"},
        {"kind": "hidden folder", "count": 1, "example": ".cache"},
    ]


def reported(case):
    """An input as it was reported; the test skips where it is not at hand."""
    path = CASES / case
    if not path.exists():
        pytest.skip(f"needs the reported input {path}")
    return path


def num_edges(path, cutoff_ang=5.0):
    """By another neighbour list, from what ASE reads."""
    return sum(len(neighbor_list("i", atoms, cutoff_ang)) for atoms in ase.io.read(path, ":", format="extxyz"))


def test_lattice_in_lower_case_is_periodic_with_all_its_edges(tmp_path):
    for form in ("standard", "lower"):
        (tmp_path / f"{form}.xyz").write_text(copper(**FORMS[form]))
    expected = num_edges(tmp_path / "standard.xyz")
    assert line(prepare(tmp_path, "extxyz", "lower.xyz"), "edges").split()[1] == str(expected)
    assert ShardSet(tmp_path / "out").read(3).pbc.tolist() == [True] * 3


@pytest.mark.parametrize("name", ["train", "control", "all_lower"])
def test_reported_lattice_in_lower_case(name, tmp_path):
    done = prepare(tmp_path, "extxyz", reported("01-lowercase-lattice") / f"{name}.xyz")
    assert line(done, "edges").split()[1] == "16848"
    assert [ShardSet(tmp_path / "out").read(k).pbc.tolist() for k in range(12)] == [[True] * 3] * 12


IN_HARTREE = """2
Lattice="5.0 0.0 0.0 0.0 5.0 0.0 0.0 0.0 5.0" Properties=species:S:1:pos:R:3:force:R:3 energy=-0.5 {units} pbc="T T T"
Ge 0.0 0.0 0.0 0.01 0.02 0.03
Ge 1.3 1.2 1.4 -0.01 -0.02 -0.03
"""


def test_reported_units_of_the_header(tmp_path):
    text = IN_HARTREE.format(units="energy-unit=hartree force-unit=hartree/bohr")
    (tmp_path / "a.xyz").write_text(text)
    done = prepare(tmp_path, "extxyz", "a.xyz")
    assert line(done, "energy").split()[1:3] == ["-6.803", "+-"]
    assert line(done, "forces").split()[1] == "1.924"
    (tmp_path / "b.xyz").write_text(IN_HARTREE.format(units=""))
    assert line(prepare(tmp_path, "extxyz", "b.xyz", out="control"), "energy").split()[1] == "-0.250"
    assert reported("03-unit-in-header/train.xyz").read_text() == text


def test_reported_labels_in_the_data_of_rows(tmp_path):
    path = reported("09-labels-in-row-data") / "data.db"
    for number, setting in enumerate(("source.group_key=moses_id", "source.energy_key=energy")):
        done = prepare(tmp_path, "ase_db", path, setting, out=f"out{number}")
        assert line(done, "structures").split()[1] == "40"
        assert line(done, "labels").split(None, 1)[1] == "energy of all, forces of all"


@pytest.mark.parametrize("where", ["made here", "reported"])
def test_keys_that_are_not_found_are_named_with_the_way_out(where, tmp_path):
    path = tmp_path / "a.xyz"
    if where == "reported":
        path = reported("10-key-not-found-no-detail") / "train.xyz"
    else:
        text = copper(energy_key="vasp_energy", **FORMS["standard"])
        path.write_text(text.replace("force:R:3", "vasp_force:R:3"))
    done = prepare(tmp_path, "extxyz", path)
    assert done.returncode == 3
    for words in (f"{path.name}#0", "vasp_energy", "vasp_force", "source.energy_key", "source.forces_key"):
        assert words in done.stderr


def test_reported_link_to_a_folder_is_followed(tmp_path):
    case = reported("14-symlinked-subdirectory") / "data"
    (tmp_path / "set").mkdir()
    (tmp_path / "elsewhere").mkdir()
    shutil.copyfile(case / "set" / "a.xyz", tmp_path / "set" / "a.xyz")
    shutil.copyfile(case / "elsewhere" / "b.xyz", tmp_path / "elsewhere" / "b.xyz")
    assert line(prepare(tmp_path, "extxyz", "set", out="control"), "structures").split()[1] == "60"
    (tmp_path / "set" / "more").symlink_to("../elsewhere")  # a copy of the case may hold it as a file
    assert line(prepare(tmp_path, "extxyz", "set"), "structures").split()[1] == "72"


def test_none_leaves_out_what_cannot_be_right_and_the_error_says_so(tmp_path):
    stress = " ".join(["900"] * 9)
    (tmp_path / "a.xyz").write_text(copper(more=f' stress="{stress}" charge=0 spin=2', **FORMS["standard"]))
    done = prepare(tmp_path, "extxyz", "a.xyz")
    assert done.returncode == 3
    assert "if it is in kB it is 0.562 eV/angstrom^3" in done.stderr
    assert "see source.stress_unit and source.stress_key=none" in done.stderr
    done = prepare(tmp_path, "extxyz", "a.xyz", "source.stress_key=none")
    assert "see source.charge_key=none and source.spin_key=none" in done.stderr
    done = prepare(tmp_path, "extxyz", "a.xyz", "source.stress_key=none", "source.spin_key=none")
    assert line(done, "labels").split(None, 1)[1] == "energy of all, forces of all, charge of all"


def test_what_may_be_a_charge_is_said_once_with_a_count(tmp_path):
    (tmp_path / "a.xyz").write_text(copper(more=" net_charge=1", **FORMS["standard"]))
    done = prepare(tmp_path, "extxyz", "a.xyz")
    line(done, "digest")
    words = (
        "warning: 4 structures: net_charge may be the charge, and is not read: source.charge_key=net_charge reads it"
    )
    assert done.stderr.count(words) == 1
    notes = json.loads((tmp_path / "out" / "manifest.json").read_text())["notes"]
    assert list(notes.values()) == [4]


def test_set_that_is_cut_at_a_bound_says_which_settings_it_may_be_about(tmp_path):
    head = "2\nProperties=species:S:1:pos:R:3:forces:R:3 energy=-1.0\n"
    forces = (10.0, 20.0, 150.0)
    frames = [f"{head}H 0 0 0 {force} 0 0\nH 0.{70 + k} 0 0 {-force} 0 0\n" for k, force in enumerate(forces)]
    (tmp_path / "h2.xyz").write_text("".join(frames))
    done = run_command("experiments.prepare", "source=extxyz", "source.path=h2.xyz", "out=h2", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "1 structures are rejected for force out of bounds, so the set ends there" in done.stderr
    assert "source.force_unit and bounds.max_force_ev_per_ang" in done.stderr
