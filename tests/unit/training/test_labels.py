"""Runs on structures of which some lack energies or forces: means over what is there, the same for any packing."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from scaling.config import DataConfig, RunConfig, TrainConfig
from scaling.data import ShardSet
from scaling.data.baseline import Baseline
from scaling.data.loading import GraphDataset, MicroBatch
from scaling.data.preparation import prepare
from scaling.data.sources.emt import Emt
from scaling.data.sources.mixed import Mixed
from scaling.errors import ConfigError
from scaling.models import build, family
from scaling.structure import Structure
from scaling.training.losses import Errors, Loss
from scaling.training.metrics import Means, Sums
from scaling.training.task import Task
from scaling.use import TrainedPotential, s2ef
from tests.unit.models.test_physics import crystal, graphs
from tests.unit.training.runs import losses, trained

BASELINE = Baseline(np.zeros((1, 3)), energy_mae_ev_per_atom=0.5, force_mae_ev_per_ang=2.0, mean_degree=20.0)
LONGER = ["train.budget.amount=200", "train.validate_every=20"]


class Poorer(Emt):
    """EMT structures of which `lacks` (number -> names) takes labels away."""

    def read(self, task):
        for entry in super().read(task):
            number = sum(map(int, entry.record.partition("#")[2].split(".")))
            yield entry if not isinstance(entry, Structure) else replace(entry, **dict.fromkeys(self.lacks(number)))

    def lacks(self, number):
        return ("forces",)


class Mixture(Poorer):
    def lacks(self, number):
        return {0: ("forces",), 1: ("energy",)}.get(number % 4, ())


def make(shared, name, source):
    def fill(folder):
        prepare(source(num_structures=320), folder / "data", progress=False)

    return shared(name, fill) / "data"


@pytest.fixture(scope="module")
def energies(shared):
    return make(shared, "energies_alone", Poorer)


@pytest.fixture(scope="module")
def mixture(shared):
    return make(shared, "mixture", Mixture)


def errors(labelled):
    """Structures of 2, 1 and 1 atoms; energies wrong by 1, 2 and 3 eV, force components by 0.1, 0.2 and 0.3."""
    sizes = torch.tensor([2, 1, 1])
    off = torch.tensor([0.1, 0.1, 0.2, 0.3])[:, None].expand(4, 3)
    truth = torch.full((4, 3), torch.nan) if labelled is None else torch.zeros(4, 3)
    return Errors.of(
        torch.tensor([1.0, 2.0, 3.0], requires_grad=True),
        off.clone().requires_grad_(),
        true_energy_G=torch.zeros(3),
        true_forces_N3=truth,
        graph_N=torch.repeat_interleave(torch.arange(3), sizes),
        num_atoms_G=sizes,
        labelled=labelled,
    )


def test_loss_is_the_sum_of_means_over_what_is_labelled():
    labelled = {"energy": torch.tensor([True, False, True]), "forces": torch.tensor([False, True, False])}
    loss = Loss.of(TrainConfig(energy_weight=0.3, force_weight=0.7), BASELINE)
    found = errors(labelled)
    by_hand = 0.3 * (0.5 + 3) / 2 / 0.5 + 0.7 * 0.2 / 2.0
    assert loss.per_structure(found, {"energy": 3 / 2, "forces": 3}).mean().item() == pytest.approx(by_hand)
    assert loss.mean(Means.of(Sums.of(found)).norms) == pytest.approx(by_hand)
    assert loss.per_structure(found).mean().item() != pytest.approx(by_hand, rel=0.2), "the control: over all of them"


def test_metrics_are_means_over_structures_or_atoms_that_have_the_labels():
    labelled = {"energy": torch.tensor([True, False, True]), "forces": torch.tensor([True, True, False])}
    means = Means.of(Sums.of(errors(labelled)))
    assert means.num_structures == 3
    assert means["energy_mae_ev"] == pytest.approx((1 + 3) / 2)
    assert means["force_mae_ev_per_ang"] == pytest.approx((2 * 0.1 + 0.2) / 3), "three atoms have forces"
    nobody = {"energy": torch.ones(3, dtype=torch.bool), "forces": torch.zeros(3, dtype=torch.bool)}
    means = Means.of(Sums.of(errors(nobody)))
    assert (means["force_mae_ev_per_ang"], means["efwt"], means.norms["force"]) == (None, None, None)
    assert means["energy_mae_ev"] == pytest.approx(2.0)


def test_scale_of_a_label_that_nobody_has_is_unknown_and_that_without_spread_its_unit():
    loss = Loss.of(TrainConfig(), replace(BASELINE, energy_mae_ev_per_atom=None, force_mae_ev_per_ang=0.0))
    assert (loss.scale("energy"), loss.scale("force")) == (None, 1.0)


def test_gradient_comes_from_labelled_structures_alone():
    found = errors({"energy": torch.tensor([False, True, True]), "forces": torch.tensor([True, False, True])})
    loss = Loss.of(TrainConfig(energy_weight=0.3, force_weight=0.7), BASELINE)
    (gradient,) = torch.autograd.grad(loss.per_structure(found).sum(), found.forces_N3)
    assert gradient.any(dim=1).tolist() == [True, True, False, True]


@pytest.mark.parametrize("name", ["egnn", "gemnet_t"])
def test_gradient_by_energies_alone_is_that_of_the_two_passes(name):
    torch.manual_seed(0)
    config = family(name)(width=8, depth=2)
    model = build(config, num_elements=3, cutoff_ang=4.0, mean_degree=20.0, scale_ev=1.0).double().train()
    batch = graphs(*crystal(0))
    energy_G, forces_N3 = model(batch)
    (energy_only_G,) = model(batch, forces=False)
    torch.testing.assert_close(energy_only_G, energy_G)

    def gradients(scalar):
        return torch.autograd.grad(scalar, list(model.parameters()), allow_unused=True, materialize_grads=True)

    expected = gradients(model(batch, (2 * energy_G, torch.zeros_like(forces_N3)))[0])
    found = gradients(energy_only_G.square().sum())
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-12)
    other = gradients(model(batch, (2 * energy_G, forces_N3))[0])
    assert any(not torch.allclose(a, b, rtol=1e-3) for a, b in zip(found, other, strict=True)), "the control"


def test_losses_on_partly_labelled_data_do_not_depend_on_packing(mixture, tmp_path):
    weights = ["train.energy_weight=0.5", "train.force_weight=0.5"]
    whole = losses(trained(mixture, tmp_path / "whole", weights))
    assert losses(trained(mixture, tmp_path / "cut", [*weights, "train.max_edges=300"])) == pytest.approx(
        whole, rel=1e-4
    )
    other = losses(trained(mixture, tmp_path / "other", ["train.energy_weight=0.6", "train.force_weight=0.5"]))
    assert other != pytest.approx(whole, rel=1e-3), "the control"


def test_each_label_weighs_in_the_steps_as_if_all_structures_had_it(mixture):
    config = RunConfig(data=DataConfig(path=str(mixture)), train=TrainConfig(energy_weight=0.4, force_weight=0.6))
    task = Task.of(config)
    shares = {label: task.shards.has(label)[task.train].mean() for label in ("energy", "forces")}
    assert all(0 < share < 1 for share in shares.values())
    assert task.upweight == pytest.approx({label: 1 / share for label, share in shares.items()})
    labels = GraphDataset(
        task.shards, cutoff_ang=5.0, reference_ev=task.baseline.reference_ev, loss_weight=np.ones(1), cache_mb=0
    ).labels(MicroBatch(tuple(task.train.tolist()), 1.0, True, 0))
    found = Errors.of(
        torch.zeros_like(labels.energy),
        torch.zeros_like(labels.forces),
        true_energy_G=labels.energy,
        true_forces_N3=labels.forces,
        graph_N=labels.batch,
        num_atoms_G=labels.num_atoms,
        labelled={"energy": labels.has_energy, "forces": labels.has_forces},
    )
    of_the_set = task.train_loss.mean(Means.of(Sums.of(found)).norms)
    assert float(task.train_loss.per_structure(found, task.upweight).mean()) == pytest.approx(of_the_set, rel=1e-5)
    without = float(task.train_loss.per_structure(found).mean())
    assert without != pytest.approx(of_the_set, rel=1e-2), "the control: what is missing counted as right"


def test_labels_are_weighed_by_the_share_of_the_structures_that_the_run_trains_on(mixture):
    task = Task.of(RunConfig(data=DataConfig(path=str(mixture), fraction=0.3)))
    own, whole = (task.shards.has("forces")[part].mean() for part in (task.train, task.split.train))
    assert task.upweight["forces"] == pytest.approx(1 / own)
    assert own != pytest.approx(whole, rel=1e-3), "the control"


def test_labels_of_a_part_count_by_its_weight(tiny_data, energies, tmp_path):
    mixed = Mixed(paths=[str(tiny_data), str(energies)], weights=[1.0, 0.1])
    prepare(mixed, tmp_path / "mixed", progress=False)
    task = Task.of(RunConfig(data=DataConfig(path=str(tmp_path / "mixed"))))
    both, alone = np.bincount(task.shards.source[task.train]).tolist()
    assert task.upweight == pytest.approx({"forces": (both + 0.1 * alone) / both})
    has_forces = task.shards.has("forces")[task.train]
    assert task.upweight["forces"] != pytest.approx(1 / has_forces.mean(), rel=0.2), "the control: unweighted"
    # In the loop each structure's loss is multiplied by its part's weight: the term's mean is then that of the part
    # that has forces.
    error = np.where(has_forces, 3.0, 0.0) * task.loss_weight[task.shards.source[task.train]] * task.upweight["forces"]
    assert error.mean() == pytest.approx(3.0)


def test_run_on_partly_labelled_data_uses_all_of_it_and_reports_each_error(mixture, tmp_path):
    result = trained(mixture, tmp_path).result()
    shards = ShardSet(mixture)
    assert 0 < shards.has("forces").sum() < 320
    assert result.test_force_mae_ev_per_ang < 1.5 * result.baseline_test_force_mae_ev_per_ang
    assert result.test_energy_mae_ev_per_atom > 0
    alone = trained(mixture, tmp_path / "forces", ["train.energy_weight=0"]).result()
    assert alone.train_structures < result.train_structures, "those without forces teach it nothing"


def test_energies_alone_are_learned_and_judged(energies, tiny_data, tmp_path):
    with pytest.raises(ConfigError, match=r"train\.force_weight=1\.0 asks for forces, .*; set train\.force_weight=0$"):
        trained(energies, tmp_path / "refused")
    with pytest.raises(ConfigError, match=r"model\.forces=direct learns forces from labels.*conservative"):
        trained(energies, tmp_path / "direct", ["train.force_weight=0", "model.forces=direct"])
    run = trained(energies, tmp_path, ["train.force_weight=0", "optim.lr=0.005", "train.batch_size=16", *LONGER])
    result = run.result()
    assert (result.test_force_mae_ev_per_ang, result.baseline_test_force_mae_ev_per_ang) == (None, None)
    assert (result.loss_force_scale_ev_per_ang, result.loss_energy_scale_ev_per_atom > 0) == (None, True)
    assert result.test_loss < 0.95 * result.baseline_test_loss
    with_forces = trained(tiny_data, tmp_path / "all").result()
    per_edge = result.train_flops / result.samples_seen / (result.train_edges / result.train_structures)
    other = (
        with_forces.train_flops / with_forces.samples_seen / (with_forces.train_edges / with_forces.train_structures)
    )
    assert per_edge < 0.5 * other, "one pass, without tangents"
    shards = ShardSet(energies)
    found = s2ef(TrainedPotential(run.path), shards, np.arange(20))
    assert (found.force_mae_ev_per_ang, found.force_cosine, found.efwt) == (None, None, None)
    assert found.energy_mae_ev_per_atom.value > 0


@pytest.mark.parametrize("setting", ["zero.stage=2", "zero.stage=3", "zero.checkpointing=1"])
def test_energies_alone_are_learned_alike_in_every_way(setting, energies, tmp_path):
    settings = ["train.force_weight=0", "train.energy_weight=1"]
    plain = losses(trained(energies, tmp_path / "plain", settings))
    assert losses(trained(energies, tmp_path / "other", [*settings, setting])) == pytest.approx(plain, rel=1e-4)
