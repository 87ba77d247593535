"""Reading JARVIS force-field JSON: fields, energies per atom and in total, groups, and what is wrong with them."""

import io
import json
import tarfile
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
import pytest
from ase.data import atomic_numbers

from scaling.data.formats import archive
from scaling.data.manifest import Rejected
from scaling.data.preparation.validation import Accepted, Bounds, validate
from scaling.data.sources.jarvis import Jarvis
from scaling.errors import ConfigError, DataError
from scaling.structure import Structure

MLEARN = Path(__file__).parents[4] / "shared" / "data" / "atoms" / "mlearn" / "data.tar.gz"
needs_mlearn = pytest.mark.skipif(not MLEARN.exists(), reason=f"needs the published mlearn files at {MLEARN}")
SAMPLE = "sample_id_prop.json"  # of JARVIS-DFT, in the same archive


def record(elements=("Cu", "Ni"), atoms=None, **changes):
    """A record as published."""
    coords = [[0.0, 0.0, 0.0], [0.5, 0.5, 0.45]][: len(elements)]
    return {
        "jid": "1",
        "atoms": {
            "lattice_mat": [[3.5, 0.1, 0.0], [0.0, 3.6, 0.2], [0.3, 0.0, 3.7]],
            "coords": coords,
            "elements": list(elements),
            "abc": [3.5, 3.6, 3.7],
            "angles": [90.0, 90.0, 90.0],
            "cartesian": False,
            "props": [""] * len(elements),
            **(atoms or {}),
        },
        "total_energy": -4.25,
        "forces": [[0.1, -0.2, 0.3]] * len(elements),
        "stresses": [0.0] * 6,
        **changes,
    }


def read(path, **settings):
    source = Jarvis(path=str(path), **settings)
    return [entry for task in source.tasks() for entry in source.read(task)]


def read_one(tmp_path, entry, **settings):
    """What becomes of a record between two good ones."""
    (tmp_path / "id_prop.json").write_text(json.dumps([record(), entry, record()]))
    first, middle, last = read(tmp_path / "id_prop.json", **settings)
    assert isinstance(first, Structure)
    assert isinstance(last, Structure)
    assert middle.record == "id_prop.json#1"
    return middle


def write_tar(path, members):
    with tarfile.open(path, "w:gz") as tar:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))


def test_record_is_read_in_full(tmp_path):
    structure = read_one(tmp_path, record())
    assert structure.numbers.tolist() == [29, 28]
    np.testing.assert_array_equal(structure.cell, record()["atoms"]["lattice_mat"])
    expected = 0.5 * np.array([3.5, 0.1, 0.0]) + 0.5 * np.array([0.0, 3.6, 0.2]) + 0.45 * np.array([0.3, 0.0, 3.7])
    np.testing.assert_allclose(structure.positions, [[0, 0, 0], expected], atol=1e-14)
    assert structure.pbc.tolist() == [True] * 3
    assert structure.energy == -8.5
    assert structure.forces.tolist() == [[0.1, -0.2, 0.3]] * 2
    assert (structure.group, structure.holdout) == ("Cu1Ni1", "")
    assert isinstance(validate(structure, Bounds()), Accepted)


def test_cartesian_coordinates_are_left_alone(tmp_path):
    coords = [[0.0, 0.0, 0.0], [1.9, 1.8, 1.7]]
    assert read_one(tmp_path, record(atoms={"cartesian": True, "coords": coords})).positions.tolist() == coords


def test_total_energy_is_taken_as_the_setting_says(tmp_path):
    assert read_one(tmp_path, record(total_energy=-7.0)).energy == -14.0
    assert read_one(tmp_path, record(total_energy=-7.0), energy="total").energy == -7.0
    assert read_one(tmp_path, record(total_energy=-70.0), energy="total").energy == -70.0
    with pytest.raises(ConfigError, match=r"source\.energy=mean must be per_atom or total"):
        Jarvis(energy="mean")
    assert Jarvis().identity() != Jarvis(energy="total").identity()


def test_sum_over_atoms_does_not_pass_for_an_energy_per_atom(tmp_path):
    rejected = read_one(tmp_path, record(total_energy=-42.0))
    assert (rejected.reason, rejected.detail) == ("energy is not per atom", "-42 eV; source.energy=total may be meant")


def test_group_is_the_formula_whatever_jid_and_order(tmp_path):
    entries = [record(("Cu", "Ni")), record(("Ni", "Cu"), jid="2"), record(("Cu", "Cu")), record(("Cu",))]
    (tmp_path / "a.json").write_text(json.dumps(entries))
    assert [entry.group for entry in read(tmp_path)] == ["Cu1Ni1", "Cu1Ni1", "Cu2", "Cu1"]


def _without(key):
    return {name: value for name, value in record().items() if name != key}


def _without_atoms(key):
    entry = record()
    del entry["atoms"][key]
    return entry


@pytest.mark.parametrize(
    ("entry", "reason"),
    [
        (None, "malformed record"),
        ([], "malformed record"),
        ("__import__('os').system('true')", "malformed record"),
        (_without("atoms"), "malformed record"),
        (_without("total_energy"), "malformed record"),
        (_without("forces"), "malformed record"),
        (_without_atoms("lattice_mat"), "malformed record"),
        (_without_atoms("coords"), "malformed record"),
        (_without_atoms("elements"), "malformed record"),
        (_without_atoms("cartesian"), "malformed record"),
        (record(atoms={"cartesian": "False"}), "malformed record"),
        (record(atoms={"elements": "OO"}), "malformed record"),
        (record(atoms={"elements": [["Cu"], "Ni"]}), "malformed record"),
        (record(atoms={"elements": ["Cu", "Qq"]}), "unknown element"),
        (record(atoms={"lattice_mat": [[1, 0], [0, 1]]}), "malformed record"),
        (record(atoms={"coords": [[0, 0, 0], [0, 0]]}), "malformed record"),
        (record(total_energy="na"), "malformed record"),
        (record(total_energy=None), "malformed record"),
        (record(total_energy=10**400), "malformed record"),
        (record(forces=[[0, 0, 0], [0, 0]]), "malformed record"),
        (record(forces="na"), "malformed record"),
        (record(total_energy=float("-inf")), "energy is not per atom"),
        (record(total_energy=float("nan")), "not finite"),
        (record(forces=[[0, 0, float("inf")], [0, 0, 0]]), "not finite"),
        (record(atoms={"coords": [[0, 0, 0], [0, 0, float("nan")]]}), "not finite"),
        (record(atoms={"lattice_mat": [[float("inf"), 0, 0], [0, 3, 0], [0, 0, 3]]}), "not finite"),
        (record(atoms={"lattice_mat": [[0] * 3] * 3}), "broken cell"),
        (record(()), "no atoms"),
        (record(atoms={"elements": ["Cu"]}), "atom count disagrees with the positions"),
        (record(atoms={"coords": [[0, 0, 0]]}), "atom count disagrees with the positions"),
        (record(atoms={"elements": ["X", "Cu"]}), "unknown element"),
        (record(forces=[[0, 0, 0]]), "atom count disagrees with the forces"),
        (record(forces=None), "atom count disagrees with the forces"),
    ],
    ids=range(33),
)
def test_broken_record_does_not_pass_and_the_rest_is_read(entry, reason, tmp_path):
    found = read_one(tmp_path, entry)
    checked = found if isinstance(found, Rejected) else validate(found, Bounds())
    assert isinstance(checked, Rejected)
    assert (checked.record, checked.reason) == ("id_prop.json#1", reason)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"3",
        b'{"a": 1}',
        b"\x00" * 100,
        b"\xff\xfe",
        b"PK\x03\x04 zip",
        json.dumps([record()]).encode()[:-1],
        json.dumps([record()]).encode()[:200],
        json.dumps([record()]).encode() * 2,
        b"[" * 1_000_000,
        b'[{"jid": ' * 100_000,
    ],
    ids=range(11),
)
@pytest.mark.parametrize("packed", [False, True])
def test_malformed_file_is_an_error_that_names_it(content, packed, tmp_path):
    if packed:
        write_tar(tmp_path / "data.tar.gz", [("id_prop.json", content)])
    else:
        (tmp_path / "id_prop.json").write_bytes(content)
    with pytest.raises(DataError, match=r"data\.tar\.gz.*id_prop\.json" if packed else r"id_prop\.json") as caught:
        read(tmp_path)
    assert len(str(caught.value)) < 500


def test_archive_directory_and_file_give_the_same(tmp_path):
    contents = [(f"{name}_id_prop.json", json.dumps([record((name,))]).encode()) for name in ("Ni", "Cu")]
    folder = tmp_path / "folder"
    folder.mkdir()
    for name, content in contents:
        (folder / name).write_bytes(content)
    write_tar(tmp_path / "data.tar.gz", [*contents, ("README.txt", b"hello")])
    expected = [("Cu_id_prop.json#0", "Cu1"), ("Ni_id_prop.json#0", "Ni1")]
    assert [(entry.record, entry.group) for entry in read(folder)] == expected
    assert [(entry.record, entry.group) for entry in read(tmp_path / "data.tar.gz")] == expected


@pytest.mark.parametrize("name", ["../evil.json", "/etc/evil.json", "a/../../evil.json"])
def test_archive_that_leads_outside_is_refused(name, tmp_path):
    write_tar(tmp_path / "data.tar.gz", [("good.json", json.dumps([record()]).encode()), (name, b"[]")])
    with pytest.raises(DataError, match=r"data\.tar\.gz: member .*evil\.json.* leads outside"):
        read(tmp_path / "data.tar.gz")


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE])
def test_links_and_devices_in_an_archive_are_not_read(kind, tmp_path):
    with tarfile.open(tmp_path / "data.tar.gz", "w:gz") as tar:
        link = tarfile.TarInfo("link.json")
        link.type, link.linkname = kind, "/etc/passwd"
        tar.addfile(link)
    with pytest.raises(DataError, match=r"data\.tar\.gz holds no \.json"):
        read(tmp_path / "data.tar.gz")


def test_member_that_expands_beyond_the_limit_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(archive, "MAX_DOCUMENT_BYTES", 100_000)
    write_tar(tmp_path / "data.tar.gz", [("bomb.json", b"[" + b" " * 10_000_000 + b"]")])
    assert (tmp_path / "data.tar.gz").stat().st_size < 50_000
    with pytest.raises(DataError, match=r"data\.tar\.gz: member 'bomb\.json' of 10000002 bytes goes beyond"):
        read(tmp_path / "data.tar.gz")


def test_too_many_members_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(archive, "MAX_DOCUMENTS", 10)
    write_tar(tmp_path / "data.tar.gz", [(f"{k}.json", b"[]") for k in range(11)])
    with pytest.raises(DataError, match=r"data\.tar\.gz: member '10\.json' .* goes beyond"):
        read(tmp_path / "data.tar.gz")


def test_truncated_archive_is_an_error_that_names_it(tmp_path):
    path = tmp_path / "data.tar.gz"
    write_tar(path, [("id_prop.json", np.random.default_rng(0).bytes(9000))])
    path.write_bytes(path.read_bytes()[:-4000])
    with pytest.raises(DataError, match=r"data\.tar\.gz is not a whole (tar archive|\.gz file)"):
        read(path)


@pytest.fixture(scope="module")
def published():
    """The records of mlearn, file by file, parsed independently of the reader."""
    with tarfile.open(MLEARN) as tar:
        return {name: json.load(tar.extractfile(name)) for name in sorted(tar.getnames())}


@needs_mlearn
def test_published_records_are_read_exactly(published):
    entries = {entry.record: entry for entry in read(MLEARN)}
    assert len(entries) == sum(map(len, published.values())) == 1780
    for name, records in published.items():
        for index, raw in enumerate(records):
            entry = entries[f"{name}#{index}"]
            if name == SAMPLE:
                assert entry.reason == "energy is not per atom"
                continue
            numbers = [atomic_numbers[symbol] for symbol in raw["atoms"]["elements"]]
            assert entry.numbers.tolist() == numbers
            assert entry.cell.tolist() == raw["atoms"]["lattice_mat"]
            np.testing.assert_allclose(
                entry.positions, np.einsum("nk,kx->nx", raw["atoms"]["coords"], raw["atoms"]["lattice_mat"]), atol=1e-12
            )
            assert entry.forces.tolist() == raw["forces"]
            assert entry.energy == raw["total_energy"] * len(numbers)
            assert isinstance(validate(entry, Bounds()), Accepted)


@needs_mlearn
def test_published_test_sets_come_twice_and_are_of_the_training_sets_groups():
    """Why neither jid nor order is a group: by formula, the test frames stay with the trajectories they are from."""
    entries = [entry for entry in read(MLEARN) if isinstance(entry, Structure)]
    geometries = [(entry.numbers.tobytes(), entry.positions.tobytes()) for entry in entries]
    copied = {geometry for geometry, count in Counter(geometries).items() if count == 2}
    test = [entry.group for entry, geometry in zip(entries, geometries, strict=True) if geometry in copied]
    train = {entry.group for entry, geometry in zip(entries, geometries, strict=True) if geometry not in copied}
    assert len(entries) - len(set(geometries)) == len(copied) == 164
    assert np.mean([group in train for group in test]) > 0.9
    assert len({entry.group for entry in entries}) == 66


def _work_and_energy(records):
    """Work of the mean force and difference of total_energy between frames of one cell that differ a little."""
    frames = defaultdict(list)
    for raw in records:
        atoms = raw["atoms"]
        key = (tuple(atoms["elements"]), np.round(atoms["lattice_mat"], 5).tobytes())
        forces = np.array(raw["forces"])
        frames[key].append((np.array(atoms["coords"]), np.array(atoms["lattice_mat"]), forces, raw["total_energy"]))
    rows = []
    for (elements, _), same in frames.items():
        for i, (coords, cell, forces, energy) in enumerate(same):
            for other_coords, _, other_forces, other_energy in same[i + 1 :]:
                step = other_coords - coords
                step = (step - np.round(step)) @ cell
                if 1e-3 < np.linalg.norm(step, axis=1).max() < 0.3:
                    work = -0.5 * ((forces + other_forces) * step).sum()
                    rows.append((work, other_energy - energy, len(elements)))
    return np.array(rows).reshape(-1, 3).T


@needs_mlearn
def test_published_energies_are_per_atom_by_the_work_of_the_forces(published):
    work, difference, num_atoms = np.concatenate(
        [_work_and_energy(records) for name, records in published.items() if name != SAMPLE], axis=1
    )
    assert len(work) > 500
    slope = (work @ (difference * num_atoms)) / (work @ work)
    assert np.corrcoef(work, difference * num_atoms)[0, 1] > 0.98
    assert slope == pytest.approx(1.0, abs=0.08)  # the mean force is right to second order in the step
    as_total = (work @ difference) / (work @ work)
    assert as_total < 0.03


@needs_mlearn
def test_sample_of_jarvis_dft_has_total_energies_by_the_work_of_the_forces(published):
    work, difference, _ = _work_and_energy([raw for raw in published[SAMPLE] if raw["jid"] == "15608"])
    distinct = np.abs(work) > 1e-4
    assert distinct.sum() > 50
    work, difference = work[distinct], difference[distinct]
    ratio = np.median(difference / work)
    assert ratio == pytest.approx(1.0, abs=0.1)  # 0.1 would it be per atom
