"""Labels through the commands: states and conflicts of real files, and sets of energies alone from end to end."""

import json
import re
from pathlib import Path

import ase.io
import numpy as np
import pytest
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator

from scaling.data import ShardSet
from scaling.data.preparation import CONFLICT, prepare, verify
from tests.conftest import ROOT, run_command
from tests.unit.training.test_labels import Mixture, Poorer

CASES = ROOT.parent / "shared" / "cases"
CHARGES, SPINS = CASES / "05-charge-states-dropped", CASES / "06-spin-states-dropped"


def prepared(tmp_path, *overrides):
    done = run_command("experiments.prepare", "processes=1", f"out={tmp_path / 'd'}", *overrides)
    assert "Traceback" not in done.stderr
    return done


def configurations(folder: Path, num_geometries: int, num_states: int) -> None:
    """A DeePMD system of two atoms, each geometry in several magnetic states."""
    rng = np.random.default_rng(0)
    (folder / "set.000").mkdir(parents=True)
    (folder / "type.raw").write_text("0 1\n")
    (folder / "type_map.raw").write_text("Ni O\n")
    frames = num_geometries * num_states
    coord = np.array([0, 0, 0, 2.0, 0, 0]) + rng.uniform(-0.1, 0.1, (num_geometries, 6))
    arrays = {
        "coord": np.repeat(coord, num_states, axis=0),
        "box": np.tile(4.0 * np.eye(3).ravel(), (frames, 1)),
        "energy": rng.normal(size=frames),
        "force": rng.normal(size=(frames, 6)),
        "spin": rng.normal(size=(frames, 6)),
    }
    for name, array in arrays.items():
        np.save(folder / "set.000" / f"{name}.npy", array)


@pytest.mark.skipif(not SPINS.is_dir(), reason=f"{SPINS} is not there")
def test_magnetic_states_of_deepmd_are_not_dropped_in_silence(tmp_path):
    done = prepared(tmp_path, "source=deepmd", f"source.path={SPINS / 'NiO'}")
    assert done.returncode == 3
    assert f"rejected 60 {CONFLICT}" in done.stderr
    assert "NiO/set.000#0: differs in energy by 0.05623 eV" in done.stderr
    assert "spin.npy" in done.stderr, "what could have told them apart is not read, and is named"
    assert "join them with source=mixed" in done.stderr
    assert len((tmp_path / "d.rejected.jsonl").read_text().splitlines()) == 60


def test_own_magnetic_states_conflict_and_single_ones_stay(tmp_path):
    configurations(tmp_path / "several", 5, 3)
    configurations(tmp_path / "single", 4, 1)
    for name in ("several", "single"):  # one system each, of other sizes
        (tmp_path / "both").mkdir(exist_ok=True)
        (tmp_path / name).rename(tmp_path / "both" / name)
    np.save(
        tmp_path / "both" / "single" / "set.000" / "coord.npy",
        np.load(tmp_path / "both" / "single" / "set.000" / "coord.npy") + 0.3,
    )
    done = prepared(tmp_path, "source=deepmd", f"source.path={tmp_path / 'both'}")
    assert done.returncode == 0, done.stderr
    assert re.search(rf"rejected +15 {CONFLICT}", done.stdout)
    assert f"15 structures are rejected for {CONFLICT}, e.g. several/set.000#0" in done.stderr
    assert "join them with source=mixed" in done.stderr
    manifest = json.loads((tmp_path / "d" / "manifest.json").read_text())
    assert {entry["reason"] for entry in manifest["rejected"]} == {CONFLICT}
    assert re.fullmatch(r"differs in energy by .* from several/set\.000#0", manifest["rejected"][1]["detail"])
    assert (manifest["num_structures"], manifest["num_duplicates"]) == (4, 0)


@pytest.mark.skipif(not CHARGES.is_dir(), reason=f"{CHARGES} is not there")
def test_charge_and_spin_states_of_one_geometry_are_all_kept(tmp_path):
    path = CHARGES / "charges.xyz"
    done = prepared(tmp_path, "source=extxyz", f"source.path={path}", "source.group_key=mol_id")
    assert done.returncode == 0, done.stderr
    manifest = verify(tmp_path / "d")
    assert (manifest.num_structures, manifest.num_duplicates, manifest.rejected) == (90, 0, ())
    assert manifest.labels["charge"] == manifest.labels["spin"] == 90
    assert "structures are in 3 states of charge and spin" in done.stderr


@pytest.mark.parametrize("states", ["named", "not named"])
def test_states_of_one_geometry_are_kept_where_the_file_names_them(states, tmp_path):
    frames = []
    for number in range(4):
        for charge, spin in ((0, 1), (1, 2), (0, 3)):
            atoms = Atoms("CO", [[0, 0, 0], [1.1 + 0.02 * number, 0, 0]])
            atoms.calc = SinglePointCalculator(atoms, energy=-14.0 + charge + spin, forces=np.zeros((2, 3)))
            atoms.info |= {"charge": charge, "spin": spin} if states == "named" else {"state": f"{charge} {spin}"}
            frames.append(atoms)
    frames.append(Atoms("N2", [[0, 0, 0], [1.1, 0, 0]]))
    frames[-1].calc = SinglePointCalculator(frames[-1], energy=-16.0, forces=np.zeros((2, 3)))
    ase.io.write(tmp_path / "states.xyz", frames, format="extxyz")
    done = prepared(tmp_path, "source=extxyz", f"source.path={tmp_path / 'states.xyz'}")
    assert done.returncode == 0, done.stderr
    shards = ShardSet(tmp_path / "d")
    if states == "named":
        assert (len(shards), shards.manifest.rejected) == (13, ())
        assert (shards.read(1).charge, shards.read(1).spin) == (1, 2)
        assert shards.read(12).charge is None
    else:
        assert len(shards) == 1
        assert dict(shards.manifest.num_rejected) == {CONFLICT: 12}
        assert "let the source say so (charge=, spin=)" in done.stderr


def test_conflicting_levels_of_theory_and_true_copies_in_one_file(tmp_path):
    rng = np.random.default_rng(0)
    frames = []
    for number in range(6):
        atoms = Atoms("CO", [[0, 0, 0], [1.1 + 0.02 * number, 0, 0]], cell=[8, 8, 8], pbc=True)
        forces = rng.normal(size=(2, 3))
        for functional in ("pbe", "r2scan") if number < 2 else ("pbe", "pbe") if number < 4 else ("pbe",):
            labelled = atoms.copy()
            labelled.calc = SinglePointCalculator(labelled, energy=-14.0 + (functional == "pbe"), forces=forces)
            labelled.info["functional"] = functional
            frames.append(labelled)
    ase.io.write(tmp_path / "both.xyz", frames, format="extxyz")
    done = prepared(tmp_path, "source=extxyz", f"source.path={tmp_path / 'both.xyz'}")
    assert done.returncode == 0, done.stderr
    manifest = verify(tmp_path / "d")
    assert (manifest.num_structures, manifest.num_duplicates) == (4, 2)
    assert dict(manifest.num_rejected) == {CONFLICT: 4}
    assert [entry.record for entry in manifest.rejected] == [f"both.xyz#{k}" for k in range(4)]
    listed = [json.loads(line) for line in (tmp_path / "d" / "copies.jsonl").read_text().splitlines()]
    assert [(entry["record"], entry["copy_of"]) for entry in listed] == [
        ("both.xyz#5", "both.xyz#4"),
        ("both.xyz#7", "both.xyz#6"),
    ]
    assert "duplicates  2 removed, see copies.jsonl" in done.stdout


@pytest.mark.parametrize("source", [Poorer, Mixture])
def test_inspection_says_which_labels_there_are(source, tmp_path):
    manifest = prepare(source(num_structures=60), tmp_path / "data", progress=False).manifest
    drawn = run_command("experiments.prepare", f"inspect={tmp_path / 'data'}")
    assert (drawn.returncode, drawn.stderr) == (0, "")
    assert (tmp_path / "data" / "inspect.png").stat().st_size > 1000
    words = {name: "all" if count == 60 else count for name, count in manifest.labels.items() if count}
    assert ", ".join(f"{name} of {count}" for name, count in words.items()) in drawn.stdout
    assert len(words) == (1 if source is Poorer else 2)


def test_energies_alone_go_through_every_command(tmp_path):
    prepare(Poorer(num_structures=200), tmp_path / "energies", progress=False)
    drawn = run_command("experiments.prepare", f"inspect={tmp_path / 'energies'}")
    assert drawn.returncode == 0, drawn.stderr
    assert "labels      energy of all\n" in drawn.stdout
    assert "forces   " not in drawn.stdout
    settings = [f"data.path={tmp_path / 'energies'}", f"study.root={tmp_path}", "study=single", "model.width=4"]
    settings += ["train.budget.amount=3", "train.batch_size=4", "train.validate_every=3"]
    settings += ["plan.flops_per_s=1e9"]
    for command in ("train", "plan"):
        refused = run_command(f"experiments.{command}", *settings)
        assert refused.returncode == 2
        assert refused.stderr.count("\n") == 1, refused.stderr
        assert "train.force_weight=1.0 asks for forces" in refused.stderr
        assert refused.stderr.endswith("set train.force_weight=0\n")
    settings += ["train.force_weight=0"]
    planned = run_command("experiments.plan", *settings)
    assert planned.returncode == 0, planned.stderr
    done = run_command("experiments.train", *settings)
    assert done.returncode == 0, done.stderr
    (run,) = (path.parent for path in (tmp_path / "single").glob("*/result.json"))
    assert json.loads((run / "result.json").read_text())["test_force_mae_ev_per_ang"] is None
    judged = run_command("experiments.evaluate", str(run), "--relax", "0")
    assert judged.returncode == 0, judged.stderr
    assert "force MAE     - eV/angstrom" in judged.stdout
    collected = run_command("experiments.collect", str(tmp_path / "single"))
    assert collected.returncode == 0, collected.stderr
    assert ShardSet(tmp_path / "energies").manifest.labels["forces"] == 0
