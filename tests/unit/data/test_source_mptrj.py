"""Reading MPtrj in its published layout: fields, energies, groups, and what is wrong with files and frames."""

import json
import pickle

import numpy as np
import pytest
from ase.data import atomic_numbers
from ase.units import GPa

from scaling.data.formats import json_stream
from scaling.data.manifest import Rejected
from scaling.data.preparation.validation import Accepted, Bounds, validate
from scaling.data.sources.mptrj import MPtrj
from scaling.errors import ConfigError, DataError
from scaling.structure import Structure


def frame(mp_id="mp-1", symbols=("Li", "O"), seed=0, **changes):
    """A frame with all that the published ones hold."""
    rng = np.random.default_rng(seed)
    cell = np.diag([4.0, 4.5, 5.0]) + rng.uniform(-0.2, 0.2, (3, 3))
    fractional = np.array([[0, 0, 0], [0.5, 0.5, 0.5], [0.5, 0, 0.25]])[: len(symbols)] + rng.uniform(
        -0.03, 0.03, (len(symbols), 3)
    )
    sites = [
        {
            "species": [{"element": symbol, "occu": 1}],
            "abc": abc.tolist(),
            "xyz": (abc @ cell).tolist(),
            "label": symbol,
            "properties": {"magmom": 0.1},
        }
        for symbol, abc in zip(symbols, fractional, strict=True)
    ]
    return {
        "structure": {
            "@module": "pymatgen.core.structure",
            "@class": "Structure",
            "charge": 0,
            "lattice": {"matrix": cell.tolist(), "pbc": [True, True, True], "a": 4.0, "volume": 90.0},
            "sites": sites,
        },
        "uncorrected_total_energy": float(rng.normal(-10)),
        "corrected_total_energy": float(rng.normal(-11)),
        "energy_per_atom": -5.5,
        "ef_per_atom": -1.0,
        "e_per_atom_relaxed": -5.6,
        "ef_per_atom_relaxed": -1.1,
        "force": rng.normal(size=(len(symbols), 3)).tolist(),
        "stress": np.add(stress := rng.normal(size=(3, 3)), stress.T).tolist(),
        "magmom": [0.1] * len(symbols),
        "bandgap": 1.5,
        "mp_id": mp_id,
        **changes,
    }


def materials(num_materials=5):
    """Materials of two relaxations each: one frame of the first, two of the second."""
    content = {}
    for m in range(num_materials):
        symbols = ("Li", "O", "Fe")[: 2 + m % 2]
        frame_ids = [f"mp-{100 + m}-0-0", f"mp-{200 + m}-1-0", f"mp-{200 + m}-1-1"]
        content[f"mp-{m}"] = {key: frame(f"mp-{m}", symbols, seed=10 * m + k) for k, key in enumerate(frame_ids)}
    return content


def write(path, content):
    path.write_text(json.dumps(content))
    return path


def read(path, **settings):
    source = MPtrj(path=str(path), **settings)
    return [entry for task in source.tasks() for entry in source.read(pickle.loads(pickle.dumps(task)))]


def read_one(tmp_path, entry):
    """What becomes of a frame between two good ones."""
    frames = {"mp-1-0-0": frame(seed=1), "mp-1-0-1": entry, "mp-1-0-2": frame(seed=2)}
    first, middle, last = read(write(tmp_path / "MPtrj.json", {"mp-1": frames}))
    assert isinstance(first, Structure)
    assert isinstance(last, Structure)
    assert middle.record == "MPtrj.json#mp-1/mp-1-0-1"
    return middle


@pytest.mark.parametrize("energy", ["uncorrected_total_energy", "corrected_total_energy"])
@pytest.mark.parametrize("chunk_bytes", [100, 2000, 2**21])
def test_frames_are_read_exactly_whatever_the_pieces(energy, chunk_bytes, tmp_path, monkeypatch):
    monkeypatch.setattr(json_stream, "CHUNK_BYTES", chunk_bytes)
    path = write(tmp_path / "MPtrj.json", materials())
    expected = [
        (mp_id, frame_id, entry)
        for mp_id, frames in json.loads(path.read_text()).items()
        for frame_id, entry in frames.items()
    ]
    assert len(expected) == 15
    for structure, (mp_id, frame_id, entry) in zip(read(path, energy=energy), expected, strict=True):
        sites = entry["structure"]["sites"]
        assert structure.numbers.tolist() == [atomic_numbers[site["label"]] for site in sites]
        assert structure.positions.tolist() == [site["xyz"] for site in sites]
        assert structure.cell.tolist() == entry["structure"]["lattice"]["matrix"]
        assert structure.forces.tolist() == entry["force"]
        assert structure.energy == entry[energy]
        np.testing.assert_allclose(structure.stress, np.array(entry["stress"]) * (-0.1 * GPa), rtol=1e-14)
        assert structure.pbc.tolist() == [True] * 3
        assert (structure.group, structure.holdout) == (mp_id, "")
        assert structure.record == f"MPtrj.json#{mp_id}/{frame_id}"
        assert isinstance(validate(structure, Bounds()), Accepted)


def test_large_file_is_cut_into_many_tasks(tmp_path, monkeypatch):
    monkeypatch.setattr(json_stream, "CHUNK_BYTES", 10_000)
    path = write(tmp_path / "MPtrj.json", materials(num_materials=50))
    tasks = list(MPtrj(path=str(path)).tasks())
    assert len(tasks) > path.stat().st_size / 20_000
    assert max(len(text) for _, _, text in tasks) < 20_000


def test_uncorrected_energy_is_the_default_and_settings_name_the_data():
    assert MPtrj().energy == "uncorrected_total_energy"
    assert MPtrj().identity() != MPtrj(energy="corrected_total_energy").identity()
    assert MPtrj(path="a").identity() == MPtrj(path="b").identity()


def test_senseless_energy_is_refused():
    with pytest.raises(ConfigError, match=r"source\.energy=energy_per_atom must be"):
        MPtrj(energy="energy_per_atom")


def test_several_files_are_read_in_order(tmp_path):
    for name in ("b.json", "a.json"):
        write(tmp_path / name, {"mp-1": {"mp-1-0-0": frame()}})
    assert [entry.record for entry in read(tmp_path)] == ["a.json#mp-1/mp-1-0-0", "b.json#mp-1/mp-1-0-0"]


def _without(key):
    return {name: value for name, value in frame().items() if name != key}


def _with_structure(**changes):
    entry = frame()
    entry["structure"].update(changes)
    return entry


def _with_site(**changes):
    entry = frame()
    entry["structure"]["sites"][1].update(changes)
    return entry


@pytest.mark.parametrize(
    ("entry", "reason"),
    [
        (None, "malformed record"),
        ([], "malformed record"),
        ("__import__('os').system('true')", "malformed record"),
        (_without("structure"), "malformed record"),
        (_without("force"), "malformed record"),
        (_without("uncorrected_total_energy"), "malformed record"),
        (frame(uncorrected_total_energy=None), "malformed record"),
        (frame(uncorrected_total_energy="low"), "malformed record"),
        (frame(uncorrected_total_energy=10**400), "malformed record"),
        (frame(force=[[0, 0, 0], [0, 0]]), "malformed record"),
        (frame(mp_id="mp-2"), "mp_id disagrees with the material"),
        (_with_structure(lattice={"matrix": [[1, 0], [0, 1]]}), "malformed record"),
        (_with_structure(sites=3), "malformed record"),
        (_with_site(species=[]), "partly occupied site"),
        (_with_site(species=[{"element": "Li", "occu": 0.5}]), "partly occupied site"),
        (_with_site(species=[{"element": "Qq", "occu": 1}]), "unknown element"),
        (_with_site(species=[{"element": ["Li"], "occu": 1}]), "malformed record"),
        (_with_site(xyz=[2.0, 2.0, 9.0]), "abc and xyz disagree"),
        (_with_site(xyz=[2.0, 2.0]), "malformed record"),
    ],
)
def test_malformed_frame_is_rejected_and_the_rest_is_read(entry, reason, tmp_path):
    rejected = read_one(tmp_path, entry)
    assert isinstance(rejected, Rejected)
    assert rejected.reason == reason


@pytest.mark.parametrize(
    ("entry", "reason"),
    [
        (frame(uncorrected_total_energy=float("nan")), "not finite"),
        (frame(uncorrected_total_energy=float("-inf")), "not finite"),
        (frame(force=[[0, 0, float("inf")], [0, 0, 0]]), "not finite"),
        (_with_site(abc=[float("nan")] * 3, xyz=[float("nan")] * 3), "not finite"),
        (frame(force=[[0, 0, 0]]), "atom count disagrees with the forces"),
        (frame(force=None), "atom count disagrees with the forces"),
        (frame(symbols=(), force=[]), "no atoms"),
        (_with_structure(lattice={"matrix": [[0] * 3] * 3}), "abc and xyz disagree"),
        (frame(uncorrected_total_energy=-1e9), "energy out of bounds"),
    ],
)
def test_frame_with_senseless_values_does_not_pass(entry, reason, tmp_path):
    found = read_one(tmp_path, entry)
    checked = found if isinstance(found, Rejected) else validate(found, Bounds())
    assert isinstance(checked, Rejected)
    assert (checked.record, checked.reason) == ("MPtrj.json#mp-1/mp-1-0-1", reason)


GOOD = json.dumps({"mp-1": {"mp-1-0-0": frame()}}).encode()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"[]",
        b"3",
        b"\x00" * 100,
        b"SQLite format 3\x00",
        GOOD[:-1],
        GOOD[:700],
        GOOD + GOOD,
        GOOD.replace(b"Li", b"\xff\xfe"),
        GOOD.replace(b"Li", b"\xed\xa0\x80"),
        GOOD.replace(b'"mp-1-0-0"', b'"a\\ud800"'),
        GOOD.replace(b'"mp-1-0-0"', b'"mp\\u0000"'),
        GOOD.replace(b'"mp-1":', b'"' + b"x" * 1000 + b'":'),
        GOOD.replace(b'"mp-1":', b'"":'),
        GOOD.replace(b'"bandgap": 1.5', b'"bandgap": 1.5, "bandgap": 1.6'),
        GOOD.replace(b'"bandgap": 1.5', b'"bandgap": ' + b"9" * 5000),
        GOOD.replace(b'"bandgap": 1.5', b'"bandgap": 1.5,, "x": 1'),
        GOOD.replace(b'"bandgap": 1.5', b'"bandgap": ' + b"[" * 100_000 + b"]" * 100_000),
        GOOD[:-1] + b", " + GOOD[1:],
        b'{"data": [1, 2, 3]}',
        b'{"mp-1": 3}',
        b'{"mp-1": {}, "mp-2": null}',
    ],
    ids=range(22),
)
def test_malformed_file_is_an_error_that_names_it(content, tmp_path):
    assert content != GOOD
    (tmp_path / "MPtrj.json").write_bytes(content)
    with pytest.raises(DataError, match=r"MPtrj\.json: .*byte \d+") as caught:
        read(tmp_path / "MPtrj.json")
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 500


def test_good_file_of_the_malformed_ones_is_read(tmp_path):
    (tmp_path / "MPtrj.json").write_bytes(GOOD)
    assert len(read(tmp_path / "MPtrj.json")) == 1


def test_material_that_comes_again_much_later_is_an_error(tmp_path, monkeypatch):
    monkeypatch.setattr(json_stream, "CHUNK_BYTES", 5000)
    whole = json.dumps(materials(num_materials=40))
    (tmp_path / "MPtrj.json").write_text(whole[:-1] + ', "mp-3": {}}')
    with pytest.raises(DataError, match=r"MPtrj\.json: byte \d+, after 40 members: key .*mp-3.* comes twice"):
        read(tmp_path / "MPtrj.json")


def test_truncated_file_says_how_far_it_came(tmp_path, monkeypatch):
    monkeypatch.setattr(json_stream, "CHUNK_BYTES", 5000)
    whole = json.dumps(materials(num_materials=40))
    (tmp_path / "MPtrj.json").write_text(whole[: len(whole) // 2])
    with pytest.raises(DataError, match=rf"MPtrj\.json: byte {len(whole) // 2}, after \d+ members") as caught:
        read(tmp_path / "MPtrj.json")
    num_read = int(str(caught.value).split("after ")[1].split()[0])
    assert 15 < num_read < 25
