"""Reading lists of pymatgen dictionaries: fields, groups, held-out files, and what is wrong with them."""

import io
import itertools
import json
import tarfile
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from ase.units import GPa

from scaling.data.manifest import Rejected, group_names
from scaling.data.preparation.validation import Accepted, Bounds, validate
from scaling.data.sources.mvl import Mvl
from scaling.data.split import nested_fraction, split
from scaling.errors import DataError

MONBTAW = Path(__file__).parents[4] / "shared" / "data" / "atoms" / "monbtaw" / "data.tar.gz"


def record(symbols=("Mo", "Ta"), notes=None, a=3.2, **changes):
    """A record of one body-centred cell, as published."""
    places = [[0.0, 0.0, 0.0], [0.5, 0.5, 0.5]][: len(symbols)]
    sites = [
        {"species": [{"element": s, "occu": 1}], "abc": abc, "xyz": [a * x for x in abc], "label": s}
        for s, abc in zip(symbols, places, strict=True)
    ]
    return {
        "structure": {"lattice": {"matrix": (a * np.eye(3)).tolist(), "a": a}, "sites": sites},
        "num_atoms": len(symbols),
        "outputs": {"energy": -20.5, "forces": [[0.1, 0.0, -0.2]] * len(symbols), "stress": [0] * 6},
        "group": "Ta-Mo",
        "tags": ["relax"],
        "notes": notes,
        **changes,
    }


def read(path):
    source = Mvl(path=str(path))
    return [entry for task in source.tasks() for entry in source.read(task)]


def read_one(tmp_path, entry, name="MoTa_SS.json"):
    (tmp_path / name).write_text(json.dumps([entry]))
    return read(tmp_path / name)[0]


def write_tar(path, members):
    with tarfile.open(path, "w:gz") as archive:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))


def test_record_is_read_in_full(tmp_path):
    structure = read_one(tmp_path, record())
    assert structure.numbers.tolist() == [42, 73]
    np.testing.assert_allclose(structure.positions, [[0, 0, 0], [1.6, 1.6, 1.6]])
    np.testing.assert_allclose(structure.cell, 3.2 * np.eye(3))
    assert structure.pbc.tolist() == [True] * 3
    assert structure.energy == -20.5
    np.testing.assert_array_equal(structure.forces, [[0.1, 0.0, -0.2]] * 2)
    assert structure.record == "MoTa_SS.json#0"
    assert structure.holdout == ""


@pytest.mark.parametrize(
    ("name", "notes", "tags", "group", "holdout"),
    [
        ("Mo_AIMD", {"Md": "300-37"}, ["Md"], "Mo AIMD Md 300 K", ""),
        ("Mo_AIMD", {"Md_90": "-300-2"}, ["Md_90"], "Mo AIMD Md_90 300 K", ""),
        ("Mo_Elastic", {"Strain": "1---0.0100"}, ["Strain"], "Mo Elastic stretch", ""),
        ("Mo_Elastic", {"Strain_new": "6--0.0200"}, ["Strain_new"], "Mo Elastic shear", ""),
        ("Mo_Surface", None, "Surface", "Mo Surface", ""),
        ("Nb_Surface", {"Sur": "210"}, ["Surface"], "Nb Surface 210", ""),
        ("MoTa_SS", {"relax": "12"}, ["relax"], "SS Mo1Ta1", ""),
        ("MoTa_SS", {"unrelax": "12"}, ["unrelax"], "SS Mo1Ta1", ""),
        ("Mo_Test", {"Md": "md110-300-4"}, ["test"], "Mo Test Md md110-300 K", "test"),
        ("MoTa_Test", {"relax": "3"}, ["test"], "MoTa_Test Mo1Ta1", "test"),
        ("Multinary_Test", {"Md": "md-300-2"}, ["test"], "Multinary Test Md md-300 K", "multinary"),
        ("Multinary_SQS", None, [], "Multinary_SQS Mo1Ta1", ""),
    ],
)
def test_group_and_held_out_set_follow_file_and_notes(name, notes, tags, group, holdout, tmp_path):
    structure = read_one(tmp_path, record(notes=notes, tags=tags), f"{name}.json")
    assert (structure.group, structure.holdout) == (group, holdout)


def _without(key):
    return {name: value for name, value in record().items() if name != key}


def _with_site(**changes):
    entry = record()
    entry["structure"]["sites"][1].update(changes)
    return entry


@pytest.mark.parametrize(
    ("entry", "reason"),
    [
        (None, "malformed record"),
        ([], "malformed record"),
        (_without("structure"), "malformed record"),
        (_without("outputs"), "malformed record"),
        (record(outputs={"energy": "low", "forces": []}), "malformed record"),
        (record(outputs={"energy": None, "forces": []}), "malformed record"),
        (record(outputs={"energy": 1.0, "forces": [[0, 0, 0], [0, 0]]}), "malformed record"),
        (record(num_atoms=3), "atom count disagrees with num_atoms"),
        (_with_site(species=[{"element": "Mo", "occu": 0.5}, {"element": "Ta", "occu": 0.5}]), "partly occupied site"),
        (_with_site(species=[{"element": "Qq", "occu": 1}]), "unknown element"),
        (_with_site(xyz=[1.6, 1.6, 1.7]), "abc and xyz disagree"),
        (_with_site(xyz=[1.6, 1.6]), "malformed record"),
    ],
)
def test_malformed_record_is_rejected_and_the_rest_is_read(entry, reason, tmp_path):
    (tmp_path / "MoTa_SS.json").write_text(json.dumps([record(), entry, record()]))
    first, bad, last = read(tmp_path / "MoTa_SS.json")
    assert (bad.record, bad.reason) == ("MoTa_SS.json#1", reason)
    assert not isinstance(first, Rejected)
    assert not isinstance(last, Rejected)


def test_forces_that_do_not_fit_the_atoms_are_rejected_by_name(tmp_path):
    odd = record(outputs={"energy": 1.0, "forces": [[0, 0, 0]]})
    (tmp_path / "MoTa_SS.json").write_text(json.dumps([record(), odd]))
    first, second = (validate(entry, Bounds()) for entry in read(tmp_path / "MoTa_SS.json"))
    assert isinstance(first, Accepted)
    assert (second.record, second.reason) == ("MoTa_SS.json#1", "atom count disagrees with the forces")


@pytest.mark.parametrize("content", [b"", b"[{", b'{"a": 1}', b"\xff\xfe", b"[" * 100_000])
def test_malformed_file_is_an_error_that_names_it(content, tmp_path):
    (tmp_path / "Mo_AIMD.json").write_bytes(content)
    with pytest.raises(DataError, match=r"Mo_AIMD\.json"):
        read(tmp_path / "Mo_AIMD.json")


def test_archive_directory_and_file_give_the_same(tmp_path):
    contents = [(f"{name}.json", json.dumps([record(a=a)]).encode()) for name, a in (("Mo_SS", 3.2), ("Mo_AIMD", 3.3))]
    folder = tmp_path / "folder"
    folder.mkdir()
    for name, content in contents:
        (folder / name).write_bytes(content)
    write_tar(tmp_path / "data.tar.gz", [*contents, ("README.txt", b"hello"), ("._x.json", b"resource fork")])
    from_folder, from_archive = read(folder), read(tmp_path / "data.tar.gz")
    assert [entry.record for entry in from_folder] == ["Mo_AIMD.json#0", "Mo_SS.json#0"]
    assert [entry.record for entry in from_archive] == ["Mo_AIMD.json#0", "Mo_SS.json#0"]


@pytest.mark.parametrize("name", ["../evil.json", "/etc/evil.json", "a/../../evil.json"])
def test_archive_that_leads_outside_is_refused(name, tmp_path):
    write_tar(tmp_path / "data.tar.gz", [(name, b"[]")])
    with pytest.raises(DataError, match="leads outside"):
        read(tmp_path / "data.tar.gz")


def test_links_in_an_archive_are_not_followed(tmp_path):
    with tarfile.open(tmp_path / "data.tar.gz", "w:gz") as archive:
        link = tarfile.TarInfo("link.json")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
    with pytest.raises(DataError, match=r"holds no \.json"):
        read(tmp_path / "data.tar.gz")


def test_truncated_archive_is_an_error_that_names_it(tmp_path):
    path = tmp_path / "data.tar.gz"
    write_tar(
        path, [("Mo_SS.json", json.dumps([record()] * 50).encode() + bytes(np.random.default_rng(0).bytes(9000)))]
    )
    path.write_bytes(path.read_bytes()[:-4000])
    with pytest.raises(DataError, match=r"data\.tar\.gz is not a whole (tar archive|\.gz file)"):
        read(path)


def test_stress_is_turned_into_order_and_sign_of_ase(tmp_path):
    outputs = {"energy": -20.5, "forces": [[0.1, 0.0, -0.2]] * 2}
    records = [record(outputs=outputs | extra) for extra in ({"stress": [10, 20, 30, 1, 3, 2]}, {"stress": []}, {})]
    (tmp_path / "MoTa_SS.json").write_text(json.dumps(records))
    first, *others = read(tmp_path)
    np.testing.assert_allclose(first.stress, -0.1 * GPa * np.array([[10, 1, 2], [1, 20, 3], [2, 3, 30]]), rtol=1e-14)
    assert [entry.stress for entry in others] == [None, None]
    refused = read_one(tmp_path, record(outputs=outputs | {"stress": [1, 2, 3]}))
    assert (refused.reason, "not 6 numbers" in refused.detail) == ("malformed record", True)


@pytest.fixture(scope="module")
def published():
    if not MONBTAW.exists():
        pytest.skip(f"needs the published Mo-Nb-Ta-W files at {MONBTAW}")
    return read(MONBTAW)


def test_published_stress_does_the_work_of_strains_and_in_another_order_would_not(published):
    """Over neighbours among the sheared cells of molybdenum: dE = V stress : strain."""
    series = [entry for entry in published if entry.record.startswith("Mo_Elastic")]
    changes, right, voigt = [], [], []
    for before, after in itertools.combinations(series, 2):
        deformation = np.linalg.solve(before.cell, after.cell) if len(before.numbers) == len(after.numbers) else None
        if deformation is None or not np.abs(deformation - np.eye(3)).max() < 0.03:
            continue
        strain = np.abs(deformation + deformation.T - 2 * np.eye(3))
        if np.trace(strain) > 0.1 * strain.sum():
            continue
        work = (np.linalg.det(before.cell) + np.linalg.det(after.cell)) / 2 * (deformation - np.eye(3))
        stress = (before.stress + after.stress) / 2
        shears = stress - np.diag(np.diag(stress))
        changes.append(after.energy - before.energy)
        right.append(np.sum(stress * work))
        voigt.append(np.sum((stress - shears + np.roll(shears, 1, (0, 1))) * work))
    assert len(changes) > 100
    slopes = [np.dot(changes, works) / np.dot(works, works) for works in (right, voigt)]
    assert slopes[0] == pytest.approx(1.0, abs=0.05)
    assert abs(slopes[1]) < 0.5


def test_published_set_is_read_whole(published, prepared):
    shards = prepared(published)
    manifest = shards.manifest
    assert (manifest.num_structures, manifest.num_atoms) == (5658, 118_912)
    assert manifest.elements == (41, 42, 73, 74)
    assert (manifest.num_rejected, manifest.num_duplicates) == ({}, 0)
    assert Counter(manifest.holdouts[k] for k in shards.holdout) == {"": 5282, "test": 360, "multinary": 16}

    names = group_names(shards.path)
    owners = {}
    for group, held_out in zip(shards.group.tolist(), shards.holdout.tolist(), strict=True):
        assert owners.setdefault(group, held_out) == held_out, f"{names[group]} is free and held out"
    parts = split(shards, val_share=0.1, test_share=0.1, seed=0)
    assert (len(parts.test), len(parts.extra_tests["multinary"])) == (360, 16)
    sixteenth = parts.train[nested_fraction(shards.group[parts.train], 1 / 16, seed=0)]
    assert (shards.composition(sixteenth).sum(axis=0) > 0).all()
