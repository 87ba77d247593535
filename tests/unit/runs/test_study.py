"""Unlike runs are never mixed under one study's name."""

import json
from dataclasses import replace

import pytest

from scaling.config import BudgetConfig, RunConfig
from scaling.errors import RunError
from scaling.models.config import family as model_family
from scaling.runs.study import admitted, hold_together

GRID = [
    replace(RunConfig(), model=replace(RunConfig().model, width=w), data=replace(RunConfig().data, fraction=f))
    for w in (4, 8)
    for f in (0.5, 1.0)
]


def test_grid_may_be_given_again_and_extended(tmp_path):
    hold_together(tmp_path / "s", GRID, "digest")
    hold_together(tmp_path / "s", GRID, "digest")
    begun = (tmp_path / "s" / "study.json").read_text()
    hold_together(tmp_path / "s", [replace(GRID[0], seed=1, model=replace(GRID[0].model, width=64))], "digest")
    assert (tmp_path / "s" / "study.json").read_text() == begun


def test_changed_data_is_refused_by_digest(tmp_path):
    hold_together(tmp_path / "s", GRID, "digest")
    with pytest.raises(RunError, match=r"its data = digest, now it is other.*another study\.name"):
        hold_together(tmp_path / "s", GRID, "other")


def test_changed_recipe_is_refused_by_key(tmp_path):
    hold_together(tmp_path / "s", GRID, "digest")
    longer = replace(GRID[0], train=replace(GRID[0].train, budget=BudgetConfig("steps", 9999)))
    with pytest.raises(RunError, match=r"train\.budget\.amount = 2000\.0, now it is 9999\.0"):
        hold_together(tmp_path / "s", [longer], "digest")


def test_keys_that_the_first_grid_swept_may_vary(tmp_path):
    rates = [replace(GRID[0], optim=replace(GRID[0].optim, lr=lr)) for lr in (0.01, 0.02)]
    hold_together(tmp_path / "s", rates, "digest")
    hold_together(tmp_path / "s", [replace(GRID[0], optim=replace(GRID[0].optim, lr=0.04))], "digest")
    assert "optim.lr (egnn)" in json.loads((tmp_path / "s" / "study.json").read_text())["axes"]
    with pytest.raises(RunError, match=r"optim\.beta1 \(egnn\) = 0\.9, now it is 0\.5"):
        hold_together(tmp_path / "s", [replace(GRID[0], optim=replace(GRID[0].optim, beta1=0.5))], "digest")


def test_damaged_study_file_is_named_with_the_way_out(tmp_path):
    hold_together(tmp_path / "s", GRID, "digest")
    (tmp_path / "s" / "study.json").write_text('{"axes": ["se')
    with pytest.raises(RunError, match=r"study\.json is damaged .*remove it"):
        hold_together(tmp_path / "s", GRID, "digest")


def family(name, lr, **sizes):
    model = model_family(name)(**sizes)
    return replace(RunConfig(), model=model, optim=replace(RunConfig().optim, lr=lr))


FAMILIES = [family("egnn", 0.02), family("gemnet_t", 0.012, num_spherical=5)]


@pytest.mark.parametrize("order", [FAMILIES, FAMILIES[::-1]])
def test_architectures_have_recipes_of_their_own_in_any_order(tmp_path, order):
    for configs in (order, order, order[::-1]):
        hold_together(tmp_path / "together", configs, "digest")
    for config in order * 2:
        hold_together(tmp_path / "one by one", [config], "digest")
    for study in ("together", "one by one"):
        with pytest.raises(RunError, match=r"optim\.lr \(gemnet_t\) = 0\.012, now it is 0\.02"):
            hold_together(tmp_path / study, [family("gemnet_t", 0.02, num_spherical=5)], "digest")
        with pytest.raises(RunError, match=r"model\.num_spherical \(gemnet_t\) = 5, now it is 7"):
            hold_together(tmp_path / study, [family("gemnet_t", 0.012)], "digest")


def test_one_network_of_an_architecture_beside_another_of_given_sizes(tmp_path):
    grid = [family("gemnet_t", 0.012, node_width=8), family("gemnet_t", 0.012)]
    hold_together(tmp_path / "s", grid, "digest")
    begun = json.loads((tmp_path / "s" / "study.json").read_text())
    assert "model.node_width (gemnet_t)" in begun["axes"]
    for configs in (grid, grid[::-1], grid[1:]):
        hold_together(tmp_path / "s", configs, "digest")
        assert json.loads((tmp_path / "s" / "study.json").read_text()) == begun
    with pytest.raises(RunError, match=r"model\.triplet_width \(gemnet_t\) = 0, now it is 3"):
        hold_together(tmp_path / "s", [family("gemnet_t", 0.012, triplet_width=3)], "digest")


def test_what_architectures_share_is_kept_for_one_that_comes_later(tmp_path):
    hold_together(tmp_path / "s", [family("egnn", 0.02)], "digest")
    later = family("gemnet_t", 0.012)
    with pytest.raises(RunError, match=r"train\.batch_size = 32, now it is 7"):
        hold_together(tmp_path / "s", [replace(later, train=replace(later.train, batch_size=7))], "digest")


def test_keys_that_a_sweep_varies_may_come_one_value_at_a_time(tmp_path):
    rates = [replace(GRID[0], optim=replace(GRID[0].optim, lr=lr)) for lr in (0.01, 0.02)]
    for config in rates:
        hold_together(tmp_path / "s", [config], "digest", swept={"optim.lr", "study.name"})
    hold_together(tmp_path / "t", rates[:1], "digest")
    with pytest.raises(RunError, match=r"optim\.lr \(egnn\) = 0\.01, now it is 0\.02"):
        hold_together(tmp_path / "t", rates[1:], "digest")


def test_study_that_refuses_runs_is_not_begun(tmp_path):
    admitted(tmp_path / "s", GRID, "digest")
    assert not (tmp_path / "s").exists()
