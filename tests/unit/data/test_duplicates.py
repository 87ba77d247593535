"""Equal geometries: copies are removed and listed, conflicts are rejected and listed, other states are kept."""

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scaling.data.preparation import duplicates
from scaling.data.preparation.duplicates import CONFLICT, MAX_MOVE_ANG, SCATTERED, Member, difference
from scaling.data.preparation.pipeline import verify
from scaling.data.sources.mixed import Mixed
from scaling.errors import DataError
from scaling.structure import LABELS


def copies(shards):
    path = shards.path / "copies.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def conflicts(shards):
    return {entry.record: entry.detail for entry in shards.manifest.rejected if entry.reason == CONFLICT}


def state(structure, charge, spin, energy=0.0):
    """The structure with another charge and multiplicity, and electrons that fit."""
    numbers = np.full(len(structure.numbers), 28)
    record = f"{structure.record} {charge} {spin}"
    changes = {"charge": charge, "spin": spin, "energy": structure.energy + energy, "record": record}
    return replace(structure, numbers=numbers, **changes)


def test_copies_are_counted_and_listed_with_the_record_that_was_kept(make_structure, prepared):
    first, second = make_structure(0), make_structure(1)
    shards = prepared([first, second, replace(first, record="b#1"), replace(first, record="b#2")])
    assert (shards.num_structures, shards.manifest.num_duplicates) == (2, 2)
    assert copies(shards) == [{"record": "b#1", "copy_of": "made#0"}, {"record": "b#2", "copy_of": "made#0"}]
    assert shards.manifest.copies.num_structures == 2
    verify(shards.path)
    (shards.path / "copies.jsonl").write_text("")
    with pytest.raises(Exception, match=r"copies\.jsonl"):
        verify(shards.path)


def test_set_without_copies_has_no_list(make_structure, prepared):
    shards = prepared([make_structure(seed) for seed in range(3)])
    assert shards.manifest.copies is None
    assert not (shards.path / "copies.jsonl").exists()


def test_equal_geometry_with_other_energy_is_rejected_with_both_records_named(make_structure, prepared):
    first, other = make_structure(0), make_structure(1)
    again = replace(first, record="b#1", energy=first.energy + 2.5)
    shards = prepared([first, other, again, replace(first, record="c#1")])
    assert shards.energy.tolist() == [other.energy]
    assert shards.manifest.num_rejected == {CONFLICT: 3}
    assert shards.manifest.num_duplicates == 0
    assert conflicts(shards) == {
        "made#0": "differs in energy by 2.5 eV from b#1",
        "b#1": "differs in energy by 2.5 eV from made#0",
        "c#1": "differs in energy by 2.5 eV from b#1",
    }


@pytest.mark.parametrize("label", ["forces", "stress"])
def test_other_forces_and_stress_are_conflicts_too(label, make_structure, prepared):
    first = replace(make_structure(0), stress=np.diag([0.1, 0.2, 0.3]))
    for size, num_kept in ((0.5 if label == "forces" else 1e-3, 1), (1e-7, 2)):
        values = getattr(first, label).copy()
        values[1, 1] += size
        shards = prepared([first, make_structure(1), replace(first, record="b", **{label: values})], f"{size}")
        assert shards.num_structures == num_kept
        assert set(conflicts(shards)) == ({"made#0", "b"} if num_kept == 1 else set())
    assert copies(shards) == [{"record": "b", "copy_of": "made#0"}]


def test_charge_and_spin_tell_equal_geometries_apart(make_structure, prepared):
    states = [(0, 1), (0, 3), (1, 2), (-1, 2), (None, None), (0, None)]
    entries = [state(make_structure(seed), *each, energy=k) for seed in (0, 1) for k, each in enumerate(states)]
    shards = prepared([*entries, replace(entries[2], record="again")])
    assert shards.num_structures == len(entries)
    assert [(shards.read(k).charge, shards.read(k).spin) for k in range(6)] == states
    assert copies(shards) == [{"record": "again", "copy_of": entries[2].record}]
    assert not shards.manifest.rejected
    blurred = [replace(entry, charge=None, spin=None) for entry in entries]
    assert prepared([*blurred, make_structure(5)], "blurred").num_structures == 1, "the control: nothing tells apart"


def test_held_out_copy_stays_and_else_the_one_with_most_labels(make_structure, prepared):
    whole = make_structure(0)
    poor = replace(whole, forces=None, record="poor")
    shards = prepared([poor, whole])
    assert copies(shards) == [{"record": "poor", "copy_of": "made#0"}]
    assert shards.read(0).forces is not None
    shards = prepared([poor, replace(whole, holdout="test")], "held out")
    assert copies(shards) == [{"record": "poor", "copy_of": "made#0"}]
    assert shards.read(0).forces is not None


@pytest.mark.parametrize(
    ("kinds", "details"),
    [
        ([("energy",), ("forces",)], ["has energy; b has forces", "has forces; a has energy"]),
        (
            [("energy", "forces"), ("energy", "stress"), ("energy",)],
            [
                "has energy and forces; b has energy and stress",
                "has energy and stress; a has energy and forces",
                "has energy; a has energy and forces",
            ],
        ),
    ],
)
def test_labels_of_one_structure_in_several_records_are_not_lost_in_silence(kinds, details, make_structure, prepared):
    whole = replace(make_structure(0), stress=np.eye(3) * 0.01)
    entries = [
        replace(whole, record="abc"[k], **{name: None for name in LABELS if name not in names})
        for k, names in enumerate(kinds)
    ]
    shards = prepared([*entries, make_structure(1)])
    assert {entry.record: entry.detail for entry in shards.manifest.rejected} == dict(zip("abc", details, strict=False))
    assert dict(shards.manifest.num_rejected) == {SCATTERED: len(entries)}
    assert (shards.num_structures, copies(shards)) == (1, [])
    with_all = prepared([*entries, make_structure(1), replace(whole, record="whole")], "whole")
    assert not with_all.manifest.rejected, "the control: one record has all that the others have"
    assert {entry["copy_of"] for entry in copies(with_all)} == {"whole"}
    with pytest.raises(DataError, match=rf"{SCATTERED} \(the first: a: {details[0]}\).*join the labels of each"):
        prepared(entries, "nothing")


def test_held_out_record_that_lacks_a_label_of_its_copy_is_not_kept_in_its_place(make_structure, prepared):
    whole = make_structure(0)
    poor = replace(whole, forces=None, record="poor", holdout="test")
    shards = prepared([whole, make_structure(1), poor])
    assert dict(shards.manifest.num_rejected) == {SCATTERED: 2}


def test_records_that_share_no_label_with_the_first_are_compared_with_one_another(make_structure, prepared):
    whole = make_structure(0)
    low, high = (
        replace(whole, record=f"{size}", energy=None, forces=None, stress=np.eye(3) * size) for size in (0.01, 0.5)
    )
    shards = prepared([whole, low, high, make_structure(1)])
    assert conflicts(shards) == {
        "made#0": "0.5 differs in stress by 0.49 eV/angstrom^3 from 0.01",
        "0.01": "differs in stress by 0.49 eV/angstrom^3 from 0.5",
        "0.5": "differs in stress by 0.49 eV/angstrom^3 from 0.01",
    }


def test_many_copies_are_each_compared_with_few(make_structure, prepared, monkeypatch):
    counted = []
    monkeypatch.setattr(duplicates, "difference", lambda one, other: counted.append(1) or difference(one, other))
    whole = replace(make_structure(0), stress=np.eye(3) * 0.01)
    without = [{}, {"stress": None}, {"forces": None}, {"energy": None, "forces": None}]
    entries = [replace(whole, record=f"{k}", **without[k % 4]) for k in range(200)]
    assert prepared(entries).num_structures == 1
    assert len(counted) == 199


def test_conflict_with_a_held_out_structure_rejects_both(make_structure, prepared):
    first = make_structure(0)
    shards = prepared([first, make_structure(1), replace(first, record="theirs", energy=50.0, holdout="test")])
    assert set(conflicts(shards)) == {"made#0", "theirs"}
    assert shards.manifest.holdouts == ("", "test")


def test_parts_of_a_mixed_set_do_not_conflict_but_each_may(make_structure, prepared, tmp_path):
    from scaling.data.preparation.pipeline import prepare

    low = prepared([make_structure(seed) for seed in range(5)], "low")
    high = prepared([replace(make_structure(seed), energy=9.0 * seed) for seed in range(5)], "high")
    mixed = prepare(Mixed(paths=[str(low.path), str(high.path)]), tmp_path / "mixed", progress=False).manifest
    assert (mixed.num_structures, mixed.num_duplicates, mixed.rejected) == (10, 0, ())


@given(seed=st.integers(0, 2**32 - 1))
def test_copy_in_other_order_and_images_is_a_copy_and_one_changed_force_is_not(seed):
    rng = np.random.default_rng(seed)
    num = int(rng.integers(2, 30))
    cell = np.eye(3) * 9.0 + rng.uniform(-1, 1, (3, 3))
    corners = np.stack(np.meshgrid(*[np.arange(4)] * 3), axis=-1).reshape(-1, 3)[:num]
    positions = (corners / 4 + rng.uniform(0, 0.05, (num, 3)) + rng.uniform(-1, 1, 3)) @ cell
    pbc = rng.integers(0, 2, 3).astype(bool)
    cell = np.where(pbc[:, None], cell, 0.0)
    labels = {"energy": np.array(rng.normal()), "forces": rng.normal(size=(num, 3)), "stress": rng.normal(size=(3, 3))}
    one = Member(0, "one", True, rng.choice([6, 8], num), positions, cell, pbc, labels)
    order = rng.permutation(num)
    images = (rng.integers(-2, 3, (num, 3)) * pbc) @ cell
    turned = {**labels, "forces": labels["forces"][order] + rng.uniform(-4e-4, 4e-4, (num, 3))}
    other = Member(1, "b", True, one.numbers[order], (positions + images)[order], cell, pbc, turned)
    assert difference(one, other) == ""
    assert difference(other, one) == ""
    wrong = turned["forces"].copy()
    wrong[rng.integers(num), rng.integers(3)] += 0.01
    assert "forces by 0.0" in difference(one, other._replace(labels={**turned, "forces": wrong}))
    shuffled = other._replace(labels={**turned, "forces": np.roll(turned["forces"], 1, axis=0)})
    assert "forces by" in difference(one, shuffled), "the order of forces is that of the atoms"


def test_geometries_that_only_round_alike_may_differ_by_what_lies_between_them():
    positions = np.array([[0.0, 0, 0], [1.1, 0, 0]])
    labels = {"energy": np.array(-14.0), "forces": np.array([[2.0, 0, 0], [-2.0, 0, 0]])}
    one = Member(0, "a", True, np.array([6, 8]), positions, np.zeros((3, 3)), np.zeros(3, bool), labels)
    step = 0.8e-3
    later = {
        "energy": labels["energy"] + 2.0 * step,
        "forces": labels["forces"] + np.array([[60 * step], [-60 * step]]),
    }
    moved = one._replace(index=1, positions=positions + np.array([[0], [step]]), labels=later)
    assert difference(one, moved) == "", "the end of a relaxation"
    assert difference(one, one._replace(labels=later)), "the control: quite the same geometry"
    far = {**later, "energy": labels["energy"] + 0.05}
    assert "energy by 0.05 eV" in difference(one, moved._replace(labels=far))
    lost = one._replace(positions=positions + np.array([[0], [1.0]]), labels={**labels, "energy": np.array(-12.0)})
    assert difference(one, lost), f"no more than {MAX_MOVE_ANG} angstrom counts"
