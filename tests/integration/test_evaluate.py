"""A trained run put to use: as an ASE calculator, and evaluated from the command line."""

import json
import shutil

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk

from experiments.evaluate import Starts, evaluate
from scaling.data.shards import ShardSet
from scaling.errors import ConfigError, DataError, RunError
from scaling.use.calculator import TrainedCalculator, TrainedPotential
from scaling.use.evaluation import atoms_of
from tests.conftest import run_command


@pytest.fixture(scope="module")
def run(tiny_data, shared, tmp_path_factory):
    """The directory of a small run that is done: a copy, which tests may change."""
    made = shared("run", lambda root: trained(tiny_data, root))
    return copied(made, tmp_path_factory.mktemp("evaluate"))


@pytest.fixture(scope="module")
def direct_run(tiny_data, shared, tmp_path_factory):
    """One with forces of their own."""
    made = shared("direct_run", lambda root: trained(tiny_data, root, "model.forces=direct"))
    return copied(made, tmp_path_factory.mktemp("direct"))


def copied(root, to):
    shutil.copytree(root, to, dirs_exist_ok=True)
    (config,) = (to / "tiny").glob("*/config.yaml")
    return config.parent


def trained(data, root, *overrides):
    done = run_command(
        "experiments.train",
        *["model.width=8", "train.budget.amount=150", "train.batch_size=8", "train.validate_every=50"],
        *[f"data.path={data}", f"study.root={root}", "study.name=tiny", *overrides],
    )
    assert done.returncode == 0, done.stderr
    (config,) = (root / "tiny").glob("*/config.yaml")
    return config.parent


def some(tiny_data, num=12):
    shards = ShardSet(tiny_data)
    return shards, [shards.read(index) for index in range(num)]


@pytest.mark.parametrize("kind", ["run", "direct_run"])
def test_command_says_what_the_run_itself_said_of_the_test_set(kind, request):
    run = request.getfixturevalue(kind)
    done = run_command("experiments.evaluate", str(run), "--relax", "6")
    assert done.returncode == 0, done.stderr
    found, result = json.loads((run / "evaluation.json").read_text()), json.loads((run / "result.json").read_text())
    errors = found["s2ef"]
    assert errors["num_structures"] == result["test_structures"]
    for name in ("energy_mae_ev_per_atom", "force_mae_ev_per_ang"):
        assert errors[name]["value"] == pytest.approx(result[f"test_{name}"], rel=1e-4)  # float32
    for name in ("energy_mae_ev", "force_cosine", "efwt"):
        assert errors[name]["value"] == pytest.approx(result["extra"][f"test_{name}"], rel=1e-4)
    relaxed = found["is2rs"]
    assert relaxed["oracle"] == "emt"
    assert relaxed["converged"] + relaxed["unconverged"] + relaxed["failed"] == relaxed["num_structures"] == 6
    assert 0 <= relaxed["afbt"]["value"] < relaxed["oracle_afbt"]["value"] == 1
    assert "AFbT" in done.stdout
    assert "ADwT" in done.stdout


def test_same_settings_give_the_same_numbers_and_another_rattle_others(run):
    one, again, other = (evaluate(run, Starts(3, rattle, 0), device="cpu") for rattle in (0.05, 0.05, 0.1))
    assert one == again
    assert one["s2ef"] == other["s2ef"]
    assert one["is2rs"]["start_adwt"] != other["is2rs"]["start_adwt"]
    assert "is2rs" not in evaluate(run, Starts(0, 0.0, 0), device="cpu")


def test_calculator_gives_total_energies_and_forces_of_the_structures_it_learned_from(run, tiny_data):
    _, stored = some(tiny_data, 40)
    calculator = TrainedCalculator(run, device="cpu")
    total, bare, forces = [], [], []
    for s in stored:
        atoms = atoms_of(s)
        atoms.calc = calculator
        total.append(abs(atoms.get_potential_energy() - s.energy) / len(atoms))
        bare.append(abs(calculator.potential([atoms])[0][0] - s.energy) / len(atoms))
        forces.append(np.abs(atoms.get_forces() - s.forces).mean() / np.abs(s.forces).mean())
    assert np.mean(total) < 0.5 * np.mean(bare), "the references are added back"
    assert np.mean(forces) < 0.7


def test_batch_gives_what_the_calculator_gives_one_by_one(run, tiny_data, monkeypatch):
    _, stored = some(tiny_data)
    systems = [atoms_of(s) for s in stored]
    potential = TrainedPotential(run, device="cpu")
    energies, forces = potential(systems)
    monkeypatch.setattr("scaling.use.calculator.MAX_EDGES", 500)
    parted = potential(systems)
    alone = [potential([atoms]) for atoms in systems]
    for other in (parted, [np.concatenate(each) for each in zip(*alone, strict=True)]):
        assert np.allclose(energies, other[0], atol=1e-5)  # float32, sums in another order
        assert np.allclose(forces, other[1], atol=1e-5)


def test_calculator_needs_no_data_and_makes_constants_again_from_them(run, tiny_data, tmp_path):
    moved = tmp_path / run.name
    shutil.copytree(run, moved)
    atoms = bulk("Cu", cubic=True)
    atoms.rattle(0.1, seed=0)
    before = TrainedPotential(moved, device="cpu")([atoms])
    (moved / "constants.json").unlink()  # as of a run of an earlier version
    again = TrainedPotential(moved, device="cpu")
    assert again.constants == TrainedPotential(run, device="cpu").constants
    assert (again([atoms])[1] == before[1]).all()
    config = moved / "config.yaml"
    config.write_text(config.read_text().replace(str(tiny_data), str(tmp_path / "gone")))
    with pytest.raises(DataError, match="gone"):
        TrainedPotential(moved)
    shutil.copy(run / "constants.json", moved)
    assert (TrainedPotential(moved, device="cpu")([atoms])[1] == before[1]).all()


def test_lone_atom_has_an_energy_and_no_force(run):
    energies, forces = TrainedPotential(run, device="cpu")([Atoms("Cu"), bulk("Cu", cubic=True)])
    assert np.isfinite(energies).all()
    assert (forces[0] == 0).all()


def test_what_cannot_be_evaluated_is_refused_with_a_remedy(run, tmp_path):
    unfinished, broken, damaged = (tmp_path / name / run.name for name in ("unfinished", "broken", "damaged"))
    for path in (unfinished, broken, damaged):
        shutil.copytree(run, path)
    (unfinished / "result.json").unlink()
    (broken / "checkpoints" / "best.safetensors").unlink()
    (damaged / "checkpoints" / "best.safetensors").write_bytes(b"x" * 100)
    for path in (tmp_path, run / "result.json"):
        with pytest.raises(RunError, match="is not a run"):
            TrainedPotential(path)
    for path, words in [(broken, "train it again"), (damaged, "restore it")]:
        with pytest.raises(RunError, match=words):
            TrainedPotential(path)
    with pytest.raises(ConfigError, match=r"--rattle -1.0 must not be negative"):
        Starts(1, -1.0, 0)
    for device, words in (("cuda:9", "torch sees no GPU"), ("tpu", "none of torch's")):
        if device == "tpu" or not torch.cuda.is_available():
            with pytest.raises(ConfigError, match=words):
                TrainedPotential(run, device=device)
    done = run_command("experiments.evaluate", str(run), "--json", str(tmp_path / "nowhere" / "x.json"))
    assert "there is no directory" in done.stderr
    done = run_command("experiments.evaluate", str(unfinished))
    assert done.returncode == 4
    assert "train it to its end" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    with pytest.raises(DataError, match="was not trained on Xe"):
        TrainedPotential(run, device="cpu")([Atoms("CuXe", [[0, 0, 0], [2.5, 0, 0]])])
    with pytest.raises(RunError, match="part=other must be one of emt"):
        TrainedCalculator(run, part="other", device="cpu")


def test_mixed_data_have_no_oracle_and_energies_by_part(tiny_data, tmp_path):
    files, other = tmp_path / "mixed", tmp_path / "other"
    shutil.copytree(tiny_data, other)
    made = run_command("experiments.prepare", "source=mixed", f"source.paths=[{tiny_data},{other}]", f"out={files}")
    assert made.returncode == 0, made.stderr
    run = trained(files, tmp_path / "studies")
    done = run_command("experiments.evaluate", str(run), "--relax", "2")
    assert done.returncode == 0, done.stderr
    assert "no AFbT and no ADwT" in done.stdout
    relaxed = json.loads((run / "evaluation.json").read_text())["is2rs"]
    assert relaxed["oracle"] is None
    assert relaxed["afbt"] is None
    assert relaxed["num_structures"] == 2
    with pytest.raises(RunError, match="part=None must be one of emt, other"):
        TrainedCalculator(run, device="cpu")
    atoms = bulk("Cu", cubic=True)
    atoms.calc = TrainedCalculator(run, part="other", device="cpu")
    assert np.isfinite(atoms.get_potential_energy())
