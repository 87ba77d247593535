"""The pipeline: duplicates, rejections, running again, what the disk refuses."""

import fcntl
import json
import os
import subprocess
import sys
import textwrap
from dataclasses import replace

import numpy as np
import pytest

from scaling.config import DataConfig
from scaling.data.baseline import Baseline
from scaling.data.manifest import Rejected, group_id, group_names
from scaling.data.preparation.pipeline import prepare, verify
from scaling.data.preparation.validation import Bounds
from scaling.data.shards import ShardSet
from scaling.data.source import slices
from scaling.data.sources.extxyz import Extxyz
from scaling.data.sources.mixed import Mixed
from scaling.data.split import choose, split
from scaling.errors import ConfigError, DataError


def test_duplicate_is_removed_once_and_counted(make_structure, prepared):
    first, second = make_structure(0), make_structure(1)
    shards = prepared([first, second, replace(first, record="again")])
    assert shards.energy.tolist() == [first.energy, second.energy]
    assert shards.manifest.num_duplicates == 1


@pytest.mark.parametrize("max_atoms_per_shard", [1, 10_000])
def test_held_out_duplicate_is_kept_and_the_free_one_dropped(max_atoms_per_shard, make_structure, prepared):
    entries = [make_structure(seed) for seed in range(4)]
    held_out = replace(entries[1], holdout="test", group="theirs", record="theirs#1")
    for name, order in (("last", [*entries, held_out]), ("first", [held_out, *entries])):
        shards = prepared(order, name, max_atoms_per_shard=max_atoms_per_shard)
        assert sorted(shards.energy) == sorted(entry.energy for entry in entries)
        assert shards.manifest.holdouts == ("", "test")
        assert shards.group[shards.holdout == 1].tolist() == [group_id("theirs")]
        assert shards.manifest.num_duplicates == 1
        verify(shards.path)


def test_every_rejection_is_in_the_manifest(make_structure, prepared):
    bad = replace(make_structure(1), forces=np.zeros((9, 3)), record="file.json#1")
    shards = prepared([make_structure(0), bad, Rejected("file.json#2", "malformed record", "KeyError")])
    assert shards.num_structures == 1
    assert [(entry.record, entry.reason) for entry in shards.manifest.rejected] == [
        ("file.json#1", "atom count disagrees with the forces"),
        ("file.json#2", "malformed record"),
    ]
    assert shards.manifest.num_rejected == {"atom count disagrees with the forces": 1, "malformed record": 1}


def test_nothing_left_is_an_error_that_says_why(make_structure, listed, tmp_path):
    bad = replace(make_structure(0), energy=np.nan)
    with pytest.raises(DataError, match=r"nothing to prepare: rejected 1 not finite \(the first: made#0: energy\)"):
        prepare(listed([bad]), tmp_path / "data", progress=False)
    assert [path.name for path in tmp_path.iterdir()] == ["data.rejected.jsonl"]
    prepare(listed([make_structure(0)]), tmp_path / "data", progress=False)
    assert [path.name for path in tmp_path.iterdir()] == ["data"], "the list of the earlier try is gone"


def test_empty_source_is_an_error_and_leaves_nothing(listed, tmp_path):
    with pytest.raises(DataError, match="left nothing to prepare: it was empty"):
        prepare(listed([]), tmp_path / "data", progress=False)
    assert not list(tmp_path.iterdir())


class Keyed:
    """Settings whose labels have names."""

    energy_key = ""


def test_where_all_is_rejected_the_first_of_each_reason_is_told_and_every_one_listed(make_structure, listed, tmp_path):
    missing = [Rejected(f"a.xyz#{k}", "missing energy", "found vasp_energy") for k in range(300)]
    broken = replace(make_structure(0), positions=make_structure(0).positions * np.nan, record="b.xyz#0")

    class WithKeys(Keyed, type(listed([]))):
        pass

    with pytest.raises(DataError) as caught:
        prepare(WithKeys((*missing, broken)), tmp_path / "data", progress=False)
    assert str(caught.value) == (
        "source listed left nothing to prepare: rejected "
        "300 missing energy (the first: a.xyz#0: found vasp_energy; see source.energy_key), "
        f"1 not finite (the first: b.xyz#0: positions); every rejected record is listed in "
        f"{tmp_path / 'data.rejected.jsonl'}"
    )
    entries = [json.loads(line) for line in (tmp_path / "data.rejected.jsonl").read_text().splitlines()]
    assert [entry["record"] for entry in entries] == [*(f"a.xyz#{k}" for k in range(300)), "b.xyz#0"]


def test_long_list_of_rejected_is_in_a_file_and_its_beginning_in_the_manifest(make_structure, prepared):
    rejected = [Rejected(f"a#{k}", f"reason {k % 2}", "found") for k in range(500)]
    shards = prepared([make_structure(0), *rejected])
    assert shards.manifest.num_rejected == {"reason 0": 250, "reason 1": 250}
    assert shards.manifest.rejected == tuple(rejected[:200])
    lines = (shards.path / "rejected.jsonl").read_text().splitlines()
    assert [Rejected(**json.loads(line)) for line in lines] == rejected


def test_counts_and_statistics_are_those_of_the_data(make_structure, prepared):
    entries = [make_structure(seed) for seed in range(12)]
    manifest = prepared(entries, max_atoms_per_shard=10).manifest
    per_atom = [entry.energy / len(entry.numbers) for entry in entries]
    forces = np.concatenate([entry.forces for entry in entries])
    norms = np.linalg.norm(forces, axis=1)
    assert manifest.num_atoms == len(forces) == sum(shard.num_atoms for shard in manifest.shards)
    assert manifest.num_groups == 4
    energy, force = manifest.statistics.energy_ev_per_atom, manifest.statistics.force_norm_ev_per_ang
    np.testing.assert_allclose(
        [energy.mean, energy.std, energy.min, energy.max],
        [np.mean(per_atom), np.std(per_atom), min(per_atom), max(per_atom)],
    )
    np.testing.assert_allclose([force.mean, force.std, force.max], [norms.mean(), norms.std(), norms.max()], rtol=1e-6)
    copper = np.concatenate([entry.numbers for entry in entries]) == 29
    stored = manifest.statistics.elements["Cu"]
    assert stored.num_atoms == copper.sum()
    assert stored.num_structures == sum((entry.numbers == 29).any() for entry in entries)
    assert stored.force_rms_ev_per_ang == pytest.approx(np.sqrt((forces[copper] ** 2).mean()), rel=1e-6)


def test_group_names_are_kept_for_reports(make_structure, prepared):
    shards = prepared([make_structure(seed) for seed in range(6)])
    names = group_names(shards.path)
    assert [names[group] for group in shards.group.tolist()] == ["group 0"] * 3 + ["group 1"] * 3
    assert group_id("group 0") == shards.group[0]


def test_same_again_is_skipped_without_reading_the_source(make_structure, listed, tmp_path):
    source = listed([make_structure(0)])
    first = prepare(source, tmp_path / "data", progress=False)
    stamp = (tmp_path / "data" / "manifest.json").stat().st_mtime_ns
    again = prepare(listed([]), tmp_path / "data", progress=False)
    assert (first.already, again.already) == (False, True)
    assert again.manifest == first.manifest
    assert (tmp_path / "data" / "manifest.json").stat().st_mtime_ns == stamp


def test_other_settings_are_refused_with_the_difference_named(make_structure, listed, tmp_path):
    prepare(listed([make_structure(0)]), tmp_path / "data", progress=False)
    with pytest.raises(DataError, match=r"source\.label is '' there and 'new' here; choose another out="):
        prepare(listed([make_structure(0)], label="new"), tmp_path / "data", progress=False)
    with pytest.raises(DataError, match=r"bounds\.cutoff_ang is 5\.0 there and 6\.0 here"):
        prepare(listed([make_structure(0)]), tmp_path / "data", Bounds(cutoff_ang=6.0), progress=False)


def test_files_in_another_order_are_another_set(tmp_path):
    frame = "2\nenergy={0} pbc='F F F'\nH 0 0 0\nH 0 0 {0}\n"
    for number in range(1, 12):
        (tmp_path / f"md_{number}.xyz").write_text(frame.format(number / 10 + 0.6))
    source, out = Extxyz(path=str(tmp_path)), tmp_path / "out"
    assert not prepare(source, out, progress=False).already
    assert ShardSet(out).energy == pytest.approx([number / 10 + 0.6 for number in range(1, 12)])
    assert prepare(source, out, progress=False).already, "the control"
    manifest = json.loads((out / "manifest.json").read_text())
    manifest["source"]["files"].sort(key=lambda entry: entry["file"])  # as before: md_1, md_10, md_11, md_2
    (out / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(DataError, match=r"file 1 in order is 'md_10\.xyz' there and 'md_2\.xyz' here; .*; \d more; ch"):
        prepare(source, out, progress=False)


def test_bound_that_is_newer_than_a_directory_is_its_default_there(make_structure, listed, tmp_path):
    source, out = listed([make_structure()]), tmp_path / "out"
    prepare(source, out, progress=False)
    manifest = json.loads((out / "manifest.json").read_text())
    assert manifest["validation"].pop("max_stress_ev_per_ang3") == 1.0
    (out / "manifest.json").write_text(json.dumps(manifest))
    assert prepare(source, out, progress=False).already
    with pytest.raises(DataError, match=r"bounds\.max_stress_ev_per_ang3 is 1\.0 there and 2\.0 here"):
        prepare(source, out, Bounds(max_stress_ev_per_ang3=2.0), progress=False)


def test_directory_with_something_else_is_left_alone(make_structure, listed, tmp_path):
    (tmp_path / "thesis.tex").write_text("x")
    with pytest.raises(DataError, match="not a prepared data set"):
        prepare(listed([make_structure(0)]), tmp_path, progress=False)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_damaged_directory_is_not_taken_for_prepared(make_structure, listed, tmp_path):
    prepare(listed([make_structure(0)]), tmp_path / "data", progress=False)
    (tmp_path / "data" / "structures-00000.h5").unlink()
    with pytest.raises(DataError, match="was prepared, but is damaged"):
        prepare(listed([make_structure(0)]), tmp_path / "data", progress=False)


def test_verify_finds_a_flipped_bit_that_opening_does_not(make_structure, prepared):
    shards = prepared([make_structure(seed) for seed in range(5)])
    assert verify(shards.path) == shards.manifest
    path = shards.path / "structures-00000.h5"
    content = bytearray(path.read_bytes())
    content[content.index(np.float64(shards.energy[2]).tobytes())] ^= 1
    path.write_bytes(content)
    ShardSet(shards.path)
    with pytest.raises(DataError, match=r"structures-00000\.h5 is damaged"):
        verify(shards.path)


def test_leftovers_of_a_broken_run_do_not_matter(make_structure, listed, tmp_path):
    partial = tmp_path / ".data.partial"
    partial.mkdir()
    (partial / "structures-00007.h5").write_text("half")
    prepare(listed([make_structure(0)]), tmp_path / "data", progress=False)
    assert sorted(path.name for path in (tmp_path / "data").iterdir()) == [
        "groups.jsonl",
        "index.npy",
        "manifest.json",
        "structures-00000.h5",
    ]
    assert not partial.exists()


def test_second_process_on_one_directory_is_refused(make_structure, listed, tmp_path):
    partial = tmp_path / ".data.partial"
    partial.mkdir()
    handle = os.open(partial, os.O_RDONLY)
    fcntl.flock(handle, fcntl.LOCK_EX)
    with pytest.raises(DataError, match="another process is preparing"):
        prepare(listed([make_structure(0)]), tmp_path / "data", progress=False)
    os.close(handle)


def test_place_that_cannot_be_written_is_named(make_structure, listed, tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(DataError, match=r"file/\.data\.partial cannot be written: Not a directory"):
        prepare(listed([make_structure(0)]), tmp_path / "file" / "data", progress=False)


def test_full_disk_is_an_error_and_leaves_nothing(tmp_path):
    """A limit on file size stands for a full disk: writes fail half way in the same places."""
    script = textwrap.dedent(
        """
        import resource, sys
        from scaling.data.preparation.pipeline import prepare
        from scaling.data.sources.emt import Emt
        from scaling.errors import DataError
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
        try:
            prepare(Emt(num_structures=200), sys.argv[1], progress=False)
        except DataError as error:
            sys.exit(str(error))
        """
    )
    command = [sys.executable, "-c", script, str(tmp_path / "data")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1, done.stderr
    assert "cannot be written" in done.stderr
    assert "Traceback" not in done.stderr
    assert not list(tmp_path.iterdir())


def test_preparation_goes_on_where_it_was_broken_off(make_structure, listed, tmp_path, monkeypatch):
    entries = [make_structure(seed) for seed in range(60)]
    entries[10] = replace(entries[3], record="again")
    entries[30] = replace(entries[31], energy=np.nan)
    whole = prepare(listed(entries), tmp_path / "whole", progress=False)
    monkeypatch.setattr("scaling.data.preparation.draft.PIECE_ATOMS", 20)

    class Breaks(type(listed([]))):
        def read(self, task):
            if task[0] == 35:
                raise KeyboardInterrupt
            yield from super().read(task)

    class Counts(type(listed([]))):
        def read(self, task):
            read.append(task[0])
            yield from super().read(task)

    read = []
    with pytest.raises(KeyboardInterrupt):
        prepare(Breaks(tuple(entries)), tmp_path / "data", progress=False)
    assert len(list((tmp_path / ".data.partial").glob("piece-*"))) > 1
    after = prepare(Counts(tuple(entries)), tmp_path / "data", progress=False)
    assert read, "there was something left to do"
    assert min(read) == 35, "what was done is not done again"
    assert after.manifest == whole.manifest
    assert verify(tmp_path / "data").digest == whole.manifest.digest

    with pytest.raises(KeyboardInterrupt):
        prepare(Breaks(tuple(entries)), tmp_path / "other", progress=False)
    read.clear()
    prepare(Counts(tuple(entries)), tmp_path / "other", Bounds(cutoff_ang=4.9), progress=False)
    assert min(read) == 0, "pieces of another preparation are not gone on with"


def test_duplicates_are_found_in_shares_as_at_once(make_structure, prepared, monkeypatch):
    entries = [make_structure(seed) for seed in range(40)]
    again = [replace(entry, record=f"again#{k}", holdout="test" if k % 2 else "") for k, entry in enumerate(entries)]
    at_once = prepared([*entries, *again], "at once").manifest
    monkeypatch.setattr("scaling.data.preparation.duplicates.GEOMETRIES_AT_ONCE", 9)
    monkeypatch.setattr("scaling.data.preparation.duplicates.ATOMS_AT_ONCE", 20)
    monkeypatch.setattr("scaling.data.preparation.draft.PIECE_ATOMS", 30)
    in_shares = prepared([*entries, *again], "in shares").manifest
    assert in_shares == at_once
    assert (at_once.num_structures, at_once.num_duplicates) == (40, 40)


def test_parts_of_a_mixed_set_keep_their_structures_and_get_their_own_references(make_structure, prepared, tmp_path):
    one = prepared([make_structure(seed) for seed in range(30)], "one")
    shifted = [
        replace(make_structure(seed), energy=make_structure(seed).energy + 100.0 * len(make_structure(seed).numbers))
        for seed in range(30, 60)
    ]
    two = prepared(shifted, "two")
    source = Mixed(paths=[str(one.path), str(two.path)], weights=[1.0, 3.0])
    prepare(source, tmp_path / "mixed", progress=False)
    mixed = ShardSet(tmp_path / "mixed")
    assert [(part.name, part.weight) for part in mixed.manifest.parts] == [("one", 1.0), ("two", 3.0)]
    assert mixed.source.tolist() == [0] * 30 + [1] * 30
    assert mixed.energy.tolist() == [*one.energy, *two.energy]
    np.testing.assert_array_equal(mixed.read(40).positions, two.read(10).positions)
    assert mixed.group.tolist() == [*one.group, *two.group]
    baseline = Baseline.fit(mixed, np.arange(60), mixed.num_edges)
    np.testing.assert_allclose(
        baseline.reference_ev,
        [Baseline.fit(part, np.arange(30), part.num_edges).reference_ev[0] for part in (one, two)],
        atol=1e-9,
    )
    assert (baseline.reference_ev[1] - baseline.reference_ev[0] > 80).all()
    other = Mixed(paths=[str(one.path), str(two.path)])
    with pytest.raises(DataError, match=r"source\.weights is \[1\.0, 3\.0\] there and \[1\.0, 1\.0\] here"):
        prepare(other, tmp_path / "mixed", progress=False)
    with pytest.raises(DataError, match="is mixed itself; name its parts"):
        prepare(Mixed(paths=[str(mixed.path), str(one.path)]), tmp_path / "again", progress=False)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, r"source\.paths is not set"),
        ({"paths": ["a", "a"]}, "different directories"),
        ({"paths": ["a", "b"], "weights": [1.0]}, r"source\.weights=\[1\.0\] must be 2 positive numbers"),
        ({"paths": ["a", "b"], "weights": [1.0, 0.0]}, r"source\.weights"),
    ],
)
def test_senseless_mixtures_are_refused(settings, message, tmp_path):
    with pytest.raises(ConfigError, match=message):
        prepare(Mixed(**settings), tmp_path / "data", progress=False)


def test_equal_geometries_of_two_parts_are_both_kept(make_structure, prepared, tmp_path):
    low = prepared([make_structure(seed) for seed in range(20)], "low")
    high = prepared([replace(make_structure(seed), energy=5.0 * seed) for seed in range(20)], "high")
    prepare(Mixed(paths=[str(low.path), str(high.path)]), tmp_path / "mixed", progress=False)
    mixed = ShardSet(tmp_path / "mixed")
    assert np.bincount(mixed.source).tolist() == [20, 20]
    assert mixed.manifest.num_duplicates == 0
    parts = split(mixed, val_share=0.3, test_share=0.3, seed=0)
    sides = [set(mixed.group[side].tolist()) for side in (parts.train, parts.val, parts.test)]
    assert len(set.union(*sides)) == sum(map(len, sides)), "a geometry's group is on one side"


def test_part_on_which_a_run_is_judged_must_be_trained_on(make_structure, prepared, tmp_path):
    seen = prepared([make_structure(seed) for seed in range(30)], "seen")
    unseen = prepared([replace(make_structure(seed), holdout="ood") for seed in range(30, 36)], "unseen")
    prepare(Mixed(paths=[str(seen.path), str(unseen.path)]), tmp_path / "mixed", progress=False)
    with pytest.raises(DataError, match="no training structure with Z=13 of unseen"):
        choose(DataConfig(path=str(tmp_path / "mixed"), val_share=0.3, test_share=0.3), ShardSet(tmp_path / "mixed"))


def test_element_without_an_energy_in_training_has_no_reference_to_be_judged_by(make_structure, prepared):
    def of(element, seed, **changes):
        structure = make_structure(seed)
        return replace(structure, numbers=np.full(len(structure.numbers), element), **changes)

    common = [of(13, seed) for seed in range(90)]
    judged = of(47, 199, holdout="ood")
    poor = prepared([*common, *(of(47, seed, energy=None) for seed in range(90, 120)), judged], "poor")
    config, both = (
        DataConfig(path=str(poor.path)),
        {"energy": "train.energy_weight=1", "forces": "train.force_weight=1"},
    )
    with pytest.raises(DataError, match="no training structure that has an energy with Z=47, which"):
        choose(config, poor, both)
    choose(config, poor, {"forces": "train.force_weight=1"})
    rich = prepared([*common, *(of(47, seed) for seed in range(90, 120)), judged], "rich")
    choose(config, rich, both)


def test_names_of_groups_are_guarded(make_structure, prepared, tmp_path):
    shards = prepared([make_structure(seed) for seed in range(6)], "data")
    path = shards.path / "groups.jsonl"
    path.write_text(path.read_text().replace("group 1", "group 2"))
    with pytest.raises(DataError, match=r"groups\.jsonl is damaged"):
        verify(shards.path)
    with pytest.raises(DataError, match="names of its groups are damaged"):
        prepare(Mixed(paths=[str(shards.path)]), tmp_path / "mixed", progress=False)


def test_symlink_to_an_empty_directory_is_filled(make_structure, listed, tmp_path):
    (tmp_path / "scratch").mkdir()
    (tmp_path / "data").symlink_to(tmp_path / "scratch")
    prepare(listed([make_structure(0)]), tmp_path / "data", progress=False)
    assert len(ShardSet(tmp_path / "data")) == 1


def test_pieces_of_another_version_of_the_code_are_not_gone_on_with(make_structure, listed, tmp_path, monkeypatch):
    entries = [make_structure(seed) for seed in range(40)]
    whole = prepare(listed(entries), tmp_path / "whole", progress=False)
    monkeypatch.setattr("scaling.data.preparation.draft.PIECE_ATOMS", 20)

    class Breaks(type(listed([]))):
        def read(self, task):
            if task[0] >= 21:
                raise KeyboardInterrupt
            yield from super().read(task)

    class CutsOtherwise(type(listed([]))):
        def tasks(self):
            return slices(len(self.entries), 10)

    with pytest.raises(KeyboardInterrupt):
        prepare(Breaks(tuple(entries)), tmp_path / "data", progress=False)
    monkeypatch.setattr("scaling.data.preparation.pipeline._code", lambda: "another")
    after = prepare(CutsOtherwise(tuple(entries)), tmp_path / "data", progress=False)
    assert after.manifest == whole.manifest
