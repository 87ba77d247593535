"""Reading extended XYZ: labels, units and groups, portions of a large file, and what is wrong with files."""

import itertools
import pickle
import re
from pathlib import Path

import ase.io
import numpy as np
import pytest
from ase import Atoms, units
from ase.calculators.singlepoint import SinglePointCalculator

from scaling.data.manifest import Rejected
from scaling.data.preparation.validation import Bounds, validate
from scaling.data.sources import extxyz
from scaling.data.sources.extxyz import Extxyz
from scaling.errors import ConfigError, DataError
from scaling.structure import Structure

FORMATS = Path(__file__).parents[4] / "shared" / "data" / "atoms" / "formats"
LATTICE = 'Lattice="4.0 0.1 0.0 0.0 5.0 0.2 0.3 0.0 6.0"'
PROPERTIES = "Properties=species:S:1:pos:R:3:forces:R:3"
ROWS = ("Mo 0.0 0.0 0.0 0.1 0.2 -0.3", "O 1.5 1.25 1.0 -0.1 -0.2 0.3")


def frame(comment=f"{LATTICE} {PROPERTIES} energy=-20.5", rows=ROWS, count=None):
    return "\n".join([str(len(rows) if count is None else count), comment, *rows]) + "\n"


def read(path, **settings):
    source = Extxyz(path=str(path), **settings)
    return [entry for task in source.tasks() for entry in source.read(task)]


def read_text(tmp_path, text, name="set.xyz", **settings):
    (tmp_path / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    return read(tmp_path / name, **settings)


def final(entry):
    """What becomes of an entry: a rejection, or what validation says."""
    return entry if isinstance(entry, Rejected) else validate(entry, Bounds())


def test_frame_is_read_in_full(tmp_path):
    (structure,) = read_text(tmp_path, frame())
    assert structure.numbers.tolist() == [42, 8]
    np.testing.assert_array_equal(structure.positions, [[0, 0, 0], [1.5, 1.25, 1.0]])
    np.testing.assert_array_equal(structure.cell, [[4.0, 0.1, 0.0], [0.0, 5.0, 0.2], [0.3, 0.0, 6.0]])
    np.testing.assert_array_equal(structure.forces, [[0.1, 0.2, -0.3], [-0.1, -0.2, 0.3]])
    assert structure.pbc.tolist() == [True] * 3
    assert structure.energy == -20.5
    assert (structure.record, structure.holdout) == ("set.xyz#0", "")
    assert not isinstance(validate(structure, Bounds()), Rejected)


@pytest.mark.parametrize(
    ("comment", "pbc"),
    [
        (f"{LATTICE} {PROPERTIES} energy=1", [True, True, True]),
        (f'{LATTICE} {PROPERTIES} energy=1 pbc="T F T"', [True, False, True]),
        (f"{LATTICE} {PROPERTIES} energy=1 pbc=F", [False, False, False]),
        (f"{PROPERTIES} energy=1", [False, False, False]),
    ],
)
def test_periodic_directions(comment, pbc, tmp_path):
    (structure,) = read_text(tmp_path, frame(comment))
    assert structure.pbc.tolist() == pbc


@pytest.mark.parametrize(
    ("labels", "settings", "energy"),
    [
        ("energy=-1.0", {}, -1.0),
        ("REF_energy=-2.0", {}, -2.0),
        ("dft_energy=-3.0", {}, -3.0),
        ("DFT_energy=-3", {}, -3.0),
        ("free_energy=-4.0", {}, -4.0),
        ("energy=-1.0 free_energy=-4.0", {}, -1.0),
        ("energy=-1.0 free_energy=-4.0", {"energy_key": "free_energy"}, -4.0),
        ("energy=-1.0 REF_energy=-2.0", {"energy_key": "REF_energy"}, -2.0),
        ("energy=-1.0 U0=-5.0", {"energy_key": "U0"}, -5.0),
        ("energy=-1.0 dft_energy=-1.0", {}, -1.0),
    ],
)
def test_energy_goes_by_its_usual_names_or_the_one_given(labels, settings, energy, tmp_path):
    (structure,) = read_text(tmp_path, frame(f"{PROPERTIES} {labels}"), **settings)
    assert structure.energy == energy


@pytest.mark.parametrize("key", ["forces", "force", "REF_forces", "dft_force", "DFT_forces"])
def test_forces_go_by_their_usual_names(key, tmp_path):
    (structure,) = read_text(tmp_path, frame(f"Properties=species:S:1:pos:R:3:{key}:R:3 energy=1"))
    np.testing.assert_array_equal(structure.forces, [[0.1, 0.2, -0.3], [-0.1, -0.2, 0.3]])


def test_forces_of_another_name_are_found_by_key_alone(tmp_path):
    text = frame("Properties=species:S:1:pos:R:3:my_force:R:3 energy=1")
    (without,), (found,) = read_text(tmp_path, text), read_text(tmp_path, text, forces_key="my_force")
    assert (without.reason, found.forces[0].tolist()) == ("missing forces", [0.1, 0.2, -0.3])
    assert without.detail == "is it my_force? name it by source.forces_key (none: not read)"


@pytest.mark.parametrize(
    "comment",
    [
        f"{LATTICE.lower()} {PROPERTIES.lower()} ENERGY=-20.5",
        f'{LATTICE.upper()} PROPERTIES=SPECIES:s:1:POS:r:3:Forces:r:3 energy=-20.5 PBC="t T true"',
        f"{LATTICE.replace('Lattice', 'cell')} {PROPERTIES} energy=-20.5",
        f"{LATTICE} {LATTICE.replace('Lattice', 'cell')} {PROPERTIES} energy=-20.5",
        f"{LATTICE.replace('=', ' = ')} {PROPERTIES} energy = -20.5",
    ],
)
def test_keys_and_columns_count_in_any_case_and_cell_is_a_lattice(comment, tmp_path):
    (plain,), (found,) = read_text(tmp_path, frame()), read_text(tmp_path, frame(comment))
    for name in ("numbers", "positions", "cell", "pbc", "energy", "forces"):
        np.testing.assert_array_equal(getattr(found, name), getattr(plain, name))


def test_cell_of_three_numbers_is_rectangular(tmp_path):
    (found,) = read_text(tmp_path, frame(f'cell="4 5 6" {PROPERTIES} energy=1'))
    assert found.cell.tolist() == np.diag([4.0, 5.0, 6.0]).tolist()
    assert found.pbc.all()


@pytest.mark.parametrize(
    ("header", "word"),
    [
        ('cell="4 5 6 90 90 90"', "cell is not understood"),
        ('box="4 5 6"', "box is not understood"),
        ('Lattice_vectors="4 0 0 0 5 0 0 0 6"', "Lattice_vectors is not understood"),
        ('lattice="4 0 0 0 5 0 0 0"', "lattice is not understood"),
        (f'{LATTICE} cell="4 5 6"', "Lattice and cell disagree"),
        (f"{LATTICE} {LATTICE.lower()} cell=cubic", "cell is not understood"),
    ],
)
def test_cell_that_is_not_understood_is_refused_by_its_key(header, word, tmp_path):
    (found,) = read_text(tmp_path, frame(f"{header} {PROPERTIES} energy=1"))
    assert found.reason == "malformed record"
    assert word in found.detail


def test_other_numbers_do_not_pass_for_a_cell(tmp_path):
    (found,) = read_text(tmp_path, frame(f'{LATTICE} supercell="2 2 2" dipole="1 2 3" {PROPERTIES} energy=1'))
    assert isinstance(found, Structure)
    (free,) = read_text(tmp_path, frame(f'dipole="1 2 3" config_type=supercell {PROPERTIES} energy=1'))
    assert not free.pbc.any()


def test_labels_written_by_ase_come_back_exactly(tmp_path):
    rng = np.random.default_rng(0)
    written = []
    for _ in range(5):
        atoms = Atoms("MoO", rng.uniform(0, 3, (2, 3)), cell=rng.normal(0, 0.3, (3, 3)) + np.eye(3) * 5, pbc=True)
        results = {"energy": rng.normal(-1e3, 1), "forces": rng.normal(size=(2, 3)), "stress": rng.normal(size=6)}
        atoms.calc = SinglePointCalculator(atoms, **results)
        atoms.info.update(charge=int(rng.integers(-2, 3)), spin=2)
        written.append(atoms)
    ase.io.write(tmp_path / "set.extxyz", written)
    ase.io.write(tmp_path / "columns.xyz", written, format="extxyz", write_info=True)
    for entry, atoms in zip(read(tmp_path / "set.extxyz"), written, strict=True):
        results = atoms.calc.results
        assert entry.energy == results["energy"]
        np.testing.assert_allclose(entry.forces, results["forces"], atol=5e-9)  # ASE writes eight decimals
        np.testing.assert_array_equal(entry.stress, atoms.get_stress(voigt=False))
        assert (entry.charge, entry.spin) == (atoms.info["charge"], 2)


def test_stress_of_six_numbers_and_virial_are_read(tmp_path):
    volume = np.linalg.det(read_text(tmp_path, frame())[0].cell)
    texts = {key: f'{key}="{value}"' for key, value in (("stress", "1 2 3 4 5 6"), ("virial", "1 6 5 6 2 4 5 4 3"))}
    expected = np.array([[1.0, 6, 5], [6, 2, 4], [5, 4, 3]])
    for key in ("stress", "STRESS"):
        (found,) = read_text(
            tmp_path, frame(f"{LATTICE} {PROPERTIES} energy=1 {texts['stress'].replace('stress', key)}")
        )
        np.testing.assert_array_equal(found.stress, expected)
    (found,) = read_text(tmp_path, frame(f"{LATTICE} {PROPERTIES} energy=1 {texts['virial']}"))
    np.testing.assert_allclose(found.stress, -expected / volume, rtol=1e-14)


def test_labels_that_disagree_are_not_guessed_at(tmp_path):
    energies = frame(f"{PROPERTIES} energy=-1.0 REF_energy=-2.0")
    forces = frame("Properties=species:S:1:pos:R:3:forces:R:3:dft_forces:R:3 energy=1", [f"{r} 0 0 0" for r in ROWS])
    for entry in read_text(tmp_path, energies + forces):
        assert entry.reason == "malformed record"
        assert re.search(r"disagree; choose with source\.(energy|forces)_key", entry.detail)


def test_units_are_converted(tmp_path):
    (plain,) = read_text(tmp_path, frame())
    (hartree,) = read_text(tmp_path, frame(), energy_unit="Hartree", force_unit="Hartree/Bohr")
    (kcal,) = read_text(tmp_path, frame(), energy_unit="kcal/mol")
    assert hartree.energy == -20.5 * units.Hartree
    np.testing.assert_allclose(hartree.forces, plain.forces * 51.4220675, rtol=1e-8)
    np.testing.assert_allclose(kcal.energy, -20.5 * 0.0433641, rtol=1e-6)
    np.testing.assert_allclose(kcal.forces, plain.forces * 0.0433641, rtol=1e-6)
    np.testing.assert_array_equal(hartree.positions, plain.positions)
    assert Extxyz().identity() != Extxyz(energy_unit="meV").identity()


@pytest.mark.parametrize("settings", [{"energy_unit": "cal"}, {"force_unit": "eV"}, {"force_unit": "Ha/Bohr"}])
def test_unknown_unit_is_refused(settings):
    with pytest.raises(ConfigError, match=next(iter(settings))):
        Extxyz(**settings)


def test_trajectory_is_one_group_even_in_two_files(tmp_path):
    for part in ("a.xyz", "b.xyz"):
        (tmp_path / part).write_text(frame() * 3)
    (tmp_path / "c.xyz").write_text(frame(rows=ROWS[1:] * 2))
    groups = [entry.group for entry in read(tmp_path)]
    assert groups == ["Mo1 O1"] * 6 + ["O1"]


def test_group_is_config_type_or_the_key_given(tmp_path):
    text = frame(f'{PROPERTIES} energy=1 config_type="bulk md" run=7')
    assert read_text(tmp_path, text)[0].group == "bulk md"
    assert read_text(tmp_path, text, group_key="run")[0].group == "7"
    (entry,) = read_text(tmp_path, text, group_key="walker")
    assert (entry.record, entry.reason) == ("set.xyz#0", "missing group key")
    assert entry.detail == "walker; found header: config_type, energy, run; columns: forces"


def test_constraints_do_not_alter_the_forces(tmp_path):
    text = frame("Properties=species:S:1:pos:R:3:forces:R:3:move_mask:L:1 energy=1", [f"{row} F" for row in ROWS])
    (structure,) = read_text(tmp_path, text)
    (frozen,) = ase.io.read(tmp_path / "set.xyz", index=":")
    assert not frozen.get_forces().any()  # what ASE makes of them
    np.testing.assert_array_equal(structure.forces, [[0.1, 0.2, -0.3], [-0.1, -0.2, 0.3]])


def test_large_file_is_shared_out_and_every_part_stands_alone(tmp_path, monkeypatch):
    frames = [frame(f"{PROPERTIES} energy={-k}") for k in range(20)]
    (tmp_path / "set.xyz").write_text("\n \n".join(frames))  # blank lines between frames are allowed
    whole = read(tmp_path / "set.xyz")
    monkeypatch.setattr(extxyz, "_TASK_BYTES", 3 * len(frames[0]))
    source = Extxyz(path=str(tmp_path / "set.xyz"))
    tasks = pickle.loads(pickle.dumps(list(source.tasks())))
    assert len(tasks) > 5
    parts = [list(source.read(task)) for task in reversed(tasks)]
    shared = [entry for part in reversed(parts) for entry in part]
    assert [entry.energy for entry in whole] == [entry.energy for entry in shared] == [-k for k in range(20)]
    assert [entry.record for entry in shared] == [f"set.xyz#{k}" for k in range(20)]


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (frame(f"{LATTICE} step=1", ["Mo 0 0 0", "O 1.5 1 1"]), "missing energy and forces"),
        (frame(f"{PROPERTIES} energy=low"), "malformed record"),
        (frame(f"{PROPERTIES} energy"), "malformed record"),
        (frame(f'{PROPERTIES} energy="1 2"'), "malformed record"),
        (frame(f"{PROPERTIES} energy=nan"), "not finite"),
        (frame(f"{PROPERTIES} energy={'9' * 5000}"), "not finite"),
        (frame(rows=(ROWS[0], "O 1.5 inf 1 0 0 0")), "not finite"),
        (frame(rows=(ROWS[0], "O 1.5 1 1 0 nan 0")), "not finite"),
        (frame(f'Lattice="4 0 0 0 nan 0 0 0 4" {PROPERTIES} energy=1'), "not finite"),
        (frame(f'Lattice="4 0 0 0 4 0 0 0 0" {PROPERTIES} energy=1'), "broken cell"),
        (frame(f'Lattice="4 0 0 0 4 0" {PROPERTIES} energy=1'), "malformed record"),
        (frame(f'{LATTICE} {PROPERTIES} energy=1 pbc="T T"'), "malformed record"),
        (frame(f"{LATTICE} {PROPERTIES} energy=1 pbc=yes"), "malformed record"),
        (frame(f'{PROPERTIES} energy=1 pbc="T T T"'), "broken cell"),
        (frame(rows=(ROWS[0], "Qq 1.5 1 1 0 0 0")), "unknown element"),
        (frame(rows=(ROWS[0], "X 1.5 1 1 0 0 0")), "unknown element"),
        (frame("Properties=Z:I:1:pos:R:3:forces:R:3 energy=1", ["42 0 0 0 0 0 0", "200 1.5 1 1 0 0 0"]), None),
        (frame(rows=(ROWS[0], "O 1.5 1 1 0 0")), "columns disagree with Properties"),
        (frame(rows=(ROWS[0], "O 1.5 1 1 0 0 0 0")), "columns disagree with Properties"),
        (frame(rows=(ROWS[0], "O 1.5 one 1 0 0 0")), "malformed record"),
        (frame(rows=()), "no atoms"),
        (frame("", ["Mo 0 0 0", "O 1.5 1 1"]), "missing energy and forces"),
        (frame("Properties=species:S:1:forces:R:3 energy=1", ["Mo 0 0 0"]), "malformed record"),
        (frame("Properties=pos:R:3:forces:R:3 energy=1", ["0 0 0 0 0 0"]), "malformed record"),
        (frame("Properties=species:S:1:pos:R:3:forces:L:3 energy=1", ["O 0 0 0 T T F"]), "malformed record"),
        (frame("Properties=species:S:1:pos:R:3:forces:R:1 energy=1", ["O 0 0 0 1"]), "malformed record"),
        (frame("Properties=species:S:1:pos:R:3:pos:R:3:forces:R:3 energy=1"), "malformed record"),
        (frame("Properties=species:S:1:pos:R:3:forces:R:1000000000000 energy=1"), "malformed record"),
        (frame(f"{PROPERTIES}:x:R:1000000000000 energy=1"), "columns disagree with Properties"),
        (frame("Properties=species:S:1:pos:R:3:forces:R:-3 energy=1"), "malformed record"),
        (frame(f"{PROPERTIES}:x:R:0 energy=1"), "malformed record"),
        (frame("Properties=species:S:1:pos:R energy=1"), "malformed record"),
        (frame("Properties=7 energy=1"), "malformed record"),
        (frame(f'{PROPERTIES} energy=1 x="_JSON {"[" * 100_000}"'), "malformed record"),
        (frame(f'{PROPERTIES} energy="_JSON {{}}"'), "malformed record"),
        (frame().encode().replace(b"energy", b"\xff\xfe"), "malformed record"),
    ],
    ids=itertools.count(),
)
def test_malformed_frame_is_rejected_by_name_and_the_rest_is_read(bad, reason, tmp_path):
    good = frame().encode()
    bad = bad if isinstance(bad, bytes) else bad.encode()
    first, found, last = (final(entry) for entry in read_text(tmp_path, good + bad + good))
    assert (found.record, found.reason) == ("set.xyz#1", reason or found.reason)
    assert isinstance(found, Rejected)
    assert not isinstance(first, Rejected)
    assert not isinstance(last, Rejected)


def test_last_frame_cut_anywhere_is_never_taken_for_whole(tmp_path):
    text = frame() * 2
    for length in range(len(frame()) + 1, len(text)):
        first, *rest = read_text(tmp_path, text[:length])
        assert isinstance(first, Structure)
        assert all(isinstance(entry, Rejected) and entry.record == "set.xyz#1" for entry in rest), text[:length]
        if text[:length].strip() != frame().strip():
            assert [entry.reason for entry in rest] in (["truncated frame"], ["no atoms"])


@pytest.mark.parametrize(
    "text",
    [
        frame(count=1) + frame(),
        frame(count=3) + frame(),
        frame() + "hello\n",
        frame() + frame(count="2 atoms"),
        frame() + frame(count=-2),
        frame() + frame(count="1_0"),
        frame() + frame(count=10**15),
        frame() + frame(count="9" * 5000),
    ],
    ids=itertools.count(),
)
def test_lost_structure_is_an_error_that_names_file_and_frame(text, tmp_path):
    with pytest.raises(DataError, match=r"set\.xyz, frame [012]: expected a number of atoms, found "):
        read_text(tmp_path, text)


def test_count_far_beyond_the_end_is_a_truncated_frame(tmp_path):
    first, found = read_text(tmp_path, frame() + frame(count=9_999_999))
    assert isinstance(first, Structure)
    assert (found.record, found.reason) == ("set.xyz#1", "truncated frame")


@pytest.mark.parametrize(
    "content",
    [b"", b"\n \n", b"\x00" * 5000, b"SQLite format 3\x00", b'{"energy": 1}\n', b"PK\x03\x04", b"\xef\xbb\xbf2"],
)
def test_foreign_file_is_an_error_that_names_it(content, tmp_path):
    with pytest.raises(DataError, match=r"set\.xyz"):
        read_text(tmp_path, content)


def test_endless_line_is_refused_without_being_held(tmp_path):
    with pytest.raises(DataError, match=r"set\.xyz, frame 0: a line is longer"):
        read_text(tmp_path, "1\n" + "x" * 3_000_000)


def _columns(path):
    """The frames of a file by plain splitting: comment line, symbols, numbers behind them."""
    lines = path.read_text().splitlines()
    while lines:
        count = int(lines[0])
        rows = [line.split() for line in lines[2 : 2 + count]]
        yield lines[1], [row[0] for row in rows], np.array([[float(x) for x in row[1:]] for row in rows])
        lines = lines[2 + count :]


@pytest.mark.skipif(not FORMATS.exists(), reason=f"needs the published files at {FORMATS}")
@pytest.mark.parametrize(("name", "force"), [("carbon", slice(6, 9)), ("ethanol", slice(3, 6))])
def test_published_frames_equal_their_text(name, force):
    path = FORMATS / f"metatrain_{name}_reduced_100.xyz"
    entries = read(path)
    assert len(entries) == 100
    for index, (entry, (comment, symbols, columns)) in enumerate(zip(entries, _columns(path), strict=True)):
        assert entry.record == f"{path.name}#{index}"
        assert Atoms(entry.numbers).get_chemical_symbols() == symbols
        np.testing.assert_array_equal(entry.positions, columns[:, :3])
        np.testing.assert_array_equal(entry.forces, columns[:, force])
        assert entry.energy == float(re.search(r"\benergy=(\S+)", comment)[1])
        lattice = re.search(r'Lattice="([^"]+)"', comment)
        cell = np.array(lattice[1].split(), float).reshape(3, 3) if lattice else np.zeros((3, 3))
        np.testing.assert_array_equal(entry.cell, cell)
        assert entry.pbc.tolist() == [lattice is not None] * 3
    assert len({entry.group for entry in entries}) == 1


@pytest.mark.skipif(not FORMATS.exists(), reason=f"needs the published files at {FORMATS}")
def test_published_ethanol_is_in_kcal_per_mol():
    path = FORMATS / "metatrain_ethanol_reduced_100.xyz"
    wrong = {validate(entry, Bounds()).reason for entry in read(path)}
    assert wrong == {"energy out of bounds", "force out of bounds"}
    assert not any(isinstance(validate(e, Bounds()), Rejected) for e in read(path, energy_unit="kcal/mol"))


@pytest.mark.skipif(not FORMATS.exists(), reason=f"needs the published files at {FORMATS}")
@pytest.mark.parametrize("name", ["qm7x", "qm9"])
def test_published_files_without_labels_are_rejected_frame_by_frame(name):
    entries = read(FORMATS / f"metatrain_{name}_reduced_100.xyz")
    assert [entry.reason for entry in entries] == ["missing energy and forces"] * 100
    if name == "qm9":
        with_energy = read(FORMATS / "metatrain_qm9_reduced_100.xyz", energy_key="U0", energy_unit="Hartree")
        assert all(entry.forces is None and entry.energy < -1000 for entry in with_energy)


CP2K_HEADERS = [
    " i =        0, time =        0.000, E =       -17.1643447508",
    " i =       12, E =       -17.1643447508",
    "i = 3, time = 1.500, E = -1.71643447508E+01",
]


@pytest.mark.parametrize("header", CP2K_HEADERS)
def test_trajectory_of_cp2k_has_energies_in_hartree_and_says_that_it_has_no_cell(header, tmp_path):
    rows = [" ".join(row.split()[:4]) for row in ROWS]
    (found,) = read_text(tmp_path, frame(header, rows))
    assert (found.energy, found.forces) == (pytest.approx(-17.1643447508 * units.Hartree, rel=1e-12), None)
    assert (found.pbc.any(), found.notes) == (
        False,
        ("CP2K's header names no cell, so they are taken as not periodic",),
    )
    with pytest.raises(DataError, match=r"states CP2K's header=Hartree"):
        read_text(tmp_path, frame(header, rows), energy_unit="eV")
    (forces,) = read_text(tmp_path, frame(header, rows), "water-frc-1.xyz")
    assert forces.reason == "no positions"
    (other,) = read_text(tmp_path, frame(f"{header} # of mine", rows))
    assert isinstance(other, Rejected), "the control: only that header is taken for CP2K's"


def test_pbc_in_two_spellings_must_agree(tmp_path):
    (found,) = read_text(tmp_path, frame(f'{LATTICE} {PROPERTIES} energy=1 pbc="T F T" PBC="T F T"'))
    assert found.pbc.tolist() == [True, False, True]
    (refused,) = read_text(tmp_path, frame(f'{LATTICE} {PROPERTIES} energy=1 pbc="T F T" PBC="T T T"'))
    assert refused.detail == "ValueError: pbc and PBC disagree"


@pytest.mark.parametrize("key", ["unit_energy", "energy-unit", "energy_units"])
def test_unit_keys_of_the_header_in_either_order(key, tmp_path):
    (found,) = read_text(tmp_path, frame(f"{LATTICE} energy=-1 {key}=Hartree", [" ".join(r.split()[:4]) for r in ROWS]))
    assert found.energy == -units.Hartree
    (refused,) = read_text(tmp_path, frame(f"{LATTICE} {PROPERTIES} energy=-1 unit_for_energies=Hartree"))
    assert "unit_for_energies=Hartree is not understood" in refused.detail
