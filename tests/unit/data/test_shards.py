"""What is written is what is read, and damage is named."""

import json
import pickle
from dataclasses import replace

import h5py
import numpy as np
import pytest

from scaling.data.manifest import read_manifest, write_manifest
from scaling.data.neighbors import neighbor_list
from scaling.data.preparation.pipeline import verify
from scaling.data.shard_file import file_sha256, read_columns, write_shard
from scaling.data.shards import ShardSet
from scaling.errors import DataError
from scaling.structure import FIELDS


@pytest.fixture
def entries(make_structure):
    return [make_structure(seed) for seed in range(20)]


def test_round_trip_is_exact_to_storage_precision(entries, prepared):
    shards = prepared(entries, max_atoms_per_shard=20)
    assert len(shards.manifest.shards) > 2
    assert len(shards) == shards.num_structures == 20
    for index, entry in enumerate(entries):
        stored = shards.read(index)
        np.testing.assert_array_equal(stored.numbers, entry.numbers)
        np.testing.assert_array_equal(stored.positions, entry.positions.astype(np.float32))
        np.testing.assert_array_equal(stored.forces, entry.forces.astype(np.float32))
        np.testing.assert_array_equal(stored.cell, np.where(entry.pbc[:, None], entry.cell, 0).astype(np.float32))
        np.testing.assert_array_equal(stored.pbc, entry.pbc)
        assert stored.pbc.dtype == bool
        assert stored.energy == shards.energy[index] == entry.energy
        assert shards.num_atoms[index] == len(entry.numbers)


def test_tables_have_the_stated_types(entries, prepared):
    shards = prepared(entries)
    for name in ("num_edges", "group", "holdout", "energy"):
        assert getattr(shards, name).dtype == FIELDS[name].dtype
        assert getattr(shards, name).shape == (20,)
    assert shards.num_atoms.dtype == np.int32


def test_stored_edge_count_is_that_of_the_stored_structure(entries, prepared):
    shards = prepared(entries)
    for index in range(len(shards)):
        stored = shards.read(index)
        edge_index, _ = neighbor_list(stored.positions, stored.cell, stored.pbc, shards.manifest.cutoff_ang)
        assert shards.num_edges[index] == edge_index.shape[1]


def test_read_hands_out_arrays_of_the_callers_own(entries, prepared):
    shards = prepared(entries)
    shards.read(3).positions[:] = 0.0
    np.testing.assert_array_equal(shards.read(3).positions, entries[3].positions.astype(np.float32))


@pytest.mark.parametrize("index", [-1, 20])
def test_index_outside_is_an_index_error(index, entries, prepared):
    with pytest.raises(IndexError, match="of 20"):
        prepared(entries).read(index)


def test_pickled_set_reads_the_same_and_carries_neither_files_nor_tables(entries, prepared):
    shards = prepared(entries)
    shards.read(0)
    content = pickle.dumps(shards)
    copy = pickle.loads(content)
    assert not copy._files
    assert len(content) < 20_000
    np.testing.assert_array_equal(copy.read(7).forces, shards.read(7).forces)


def test_composition_counts_elements_in_any_order_over_shards(entries, prepared):
    shards = prepared(entries, max_atoms_per_shard=20)
    indices = [17, 0, 5, 5]
    elements = shards.manifest.elements
    expected = [[(entries[index].numbers == z).sum() for z in elements] for index in indices]
    assert elements == (13, 29, 47)
    assert shards.composition(indices).tolist() == expected
    assert shards.composition([]).shape == (0, 3)


def test_digest_depends_on_content_and_not_on_sharding(entries, prepared):
    whole = prepared(entries, "whole")
    cut = prepared(entries, "cut", max_atoms_per_shard=10)
    other = prepared([replace(entries[0], energy=np.nextafter(entries[0].energy, 0)), *entries[1:]], "other")
    assert whole.manifest.digest == cut.manifest.digest
    assert whole.manifest.digest != other.manifest.digest
    assert whole.manifest.statistics.energy_ev_per_atom.std == pytest.approx(
        cut.manifest.statistics.energy_ev_per_atom.std
    )


def test_manifest_reads_back_equal(entries, prepared):
    shards = prepared(entries)
    assert read_manifest(shards.path) == shards.manifest
    write_manifest(shards.path, shards.manifest)
    assert read_manifest(shards.path) == shards.manifest


def test_missing_directory_and_missing_manifest_are_named(tmp_path):
    with pytest.raises(DataError, match=r"nowhere is not a directory"):
        ShardSet(tmp_path / "nowhere")
    with pytest.raises(DataError, match=r"holds no manifest\.json"):
        ShardSet(tmp_path)


@pytest.mark.parametrize(
    ("text", "message"),
    [("", "not JSON"), ("[1]", "format None"), ('{"format": 99}', "format 99"), ('{"format": 3}', "not a whole")],
)
def test_malformed_manifest_is_named(text, message, tmp_path):
    (tmp_path / "manifest.json").write_text(text)
    with pytest.raises(DataError, match=message) as caught:
        ShardSet(tmp_path)
    assert "manifest.json" in str(caught.value)


def _replace_shard(shards, damage):
    """Damage the first shard, and let the manifest claim its new size, so that the content is what is judged."""
    path = shards.path / shards.manifest.shards[0].file
    damage(path)
    raw = json.loads((shards.path / "manifest.json").read_text())
    raw["shards"][0]["bytes"] = path.stat().st_size
    (shards.path / "manifest.json").write_text(json.dumps(raw))


def _drop_forces(path):
    with h5py.File(path, "a") as file:
        del file["forces"]


def _shorten_forces(path):
    with h5py.File(path, "a") as file:
        forces = file["forces"][:-1]
        del file["forces"]
        file["forces"] = forces


def _widen_positions(path):
    with h5py.File(path, "a") as file:
        positions = file["positions"][...].astype(np.float64)
        del file["positions"]
        file["positions"] = positions


def _shuffle_offsets(path):
    with h5py.File(path, "a") as file:
        file["offsets"][3] = file["offsets"][2] - 1


def _drop_last_structure(path):
    columns = read_columns(path)
    first_of_last = columns["offsets"][-2]
    for name, field in FIELDS.items():
        columns[name] = columns[name][: first_of_last if field.per == "atom" else -1]
    write_shard(path, {**columns, "offsets": columns["offsets"][:-1]})


def _foreign(path):
    path.unlink()
    with h5py.File(path, "w") as file:
        file["forces"] = np.zeros(3)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda path: path.unlink() or path.touch(), "not a whole HDF5 file"),
        (lambda path: path.write_bytes(path.read_bytes()[:700]), "not a whole HDF5 file"),
        (lambda path: path.write_text("Lattice=..."), "not a whole HDF5 file"),
        (_foreign, "no shard of this format"),
        (_drop_forces, "no field 'forces'"),
        (_shorten_forces, "forces has shape"),
        (_widen_positions, "positions is stored as float64"),
        (_drop_last_structure, "19 structures and"),
    ],
)
def test_damaged_shard_is_named(damage, message, entries, prepared):
    shards = prepared(entries)
    _replace_shard(shards, damage)
    with pytest.raises(DataError, match=message) as caught:
        ShardSet(shards.path).read(3)
    assert "structures-00000.h5" in str(caught.value)


def _of_manifest(shards, name, path):
    raw = json.loads((shards.path / "manifest.json").read_text())
    entry = raw[name] if isinstance(raw[name], dict) else raw[name][0]
    entry["bytes"], entry["sha256"] = path.stat().st_size, file_sha256(path)
    (shards.path / "manifest.json").write_text(json.dumps(raw))


def test_index_that_is_not_the_shards_is_noticed(entries, prepared):
    shards = prepared(entries)
    verify(shards.path)
    path = shards.path / "index.npy"
    rows = np.load(path)
    rows["first_atom"][3] += 1
    np.save(path, rows)
    _of_manifest(shards, "index", path)
    with pytest.raises(DataError, match=r"index\.npy is not the index"):
        verify(shards.path)
    rows["first_atom"][3] = 10_000
    np.save(path, rows)
    with pytest.raises(DataError, match="the index is damaged"):
        ShardSet(shards.path).read(3)
    np.save(path, np.zeros(20))
    _of_manifest(shards, "index", path)
    with pytest.raises(DataError, match="another kind"):
        ShardSet(shards.path)


def test_damaged_offsets_are_noticed(entries, prepared):
    shards = prepared(entries)
    path = shards.path / "structures-00000.h5"
    _shuffle_offsets(path)
    _of_manifest(shards, "shards", path)
    with pytest.raises(DataError, match="digest"):
        verify(shards.path)


def test_truncated_and_missing_shard_are_noticed_on_opening(entries, prepared):
    shards = prepared(entries)
    path = shards.path / "structures-00000.h5"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(DataError, match=r"structures-00000\.h5 has \d+ bytes, but the manifest says"):
        ShardSet(shards.path)
    path.unlink()
    with pytest.raises(DataError, match=r"structures-00000\.h5 is missing"):
        ShardSet(shards.path)
