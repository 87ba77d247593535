"""The plan of the seed study's grid, the refusal of what cannot fit, and runs fitted to a given memory."""

import json
import shlex

from omegaconf import OmegaConf

from tests.conftest import run_command

ELEVEN_SIZES = (0.10e6, 1.18e6, 11.2e6, 20.9e6, 49.7e6, 107e6, 198e6, 497e6, 1.01e9, 2.06e9, 3.83e9)


def test_grid_of_li_is_planned_with_its_eleven_sizes(tmp_path):
    planned = run_command("experiments.plan", "study=li2025_width_data", f"study.root={tmp_path}")
    assert planned.returncode == 0, planned.stderr
    plan = json.loads((tmp_path / "li2025_width_data" / "plan.json").read_text())
    assert len(plan["runs"]) == 77
    assert f"77 runs, {plan['device_hours']:,.4g} device-hours (as given)" in planned.stdout
    gib = sum(4 * run["num_params"] for run in plan["runs"]) / 2**30
    assert f"disk: {gib:,.2f} GiB when all are done; at most " in planned.stdout
    assert plan["disk_bytes_kept"] == gib * 2**30
    assert plan["disk_bytes_of_largest_training"] == max(run["disk_bytes_training"] for run in plan["runs"])
    assert all(run["disk_bytes_training"] > 4 * run["disk_bytes_kept"] for run in plan["runs"])
    found = sorted({run["num_params"] for run in plan["runs"]})
    assert len(found) == 11
    for num_params, wanted in zip(found, ELEVEN_SIZES, strict=True):
        assert abs(num_params / wanted - 1) < 0.03
    assert all(run["peak_bytes"] < plan["device_memory_bytes"] for run in plan["runs"])


def test_what_cannot_fit_is_refused_before_anything_is_written(tmp_path):
    little = ["plan.num_devices=1", "plan.device_memory_gib=40"]
    planned = run_command("experiments.plan", "study=li2025_width_data", f"study.root={tmp_path}", *little)
    assert planned.returncode == 2
    assert "raise the number of devices (now 1), how many share a batch (now parallel.graph=1)" in planned.stderr
    assert not list(tmp_path.rglob("plan.json"))


def test_printed_command_says_what_was_planned(tiny_data, tmp_path):
    ways = ["launcher.ranks=2", "parallel.graph=2", "zero=stage2", "zero.checkpointing=1"]
    where = [f"data.path={tiny_data}", f"study.root={tmp_path}", "study.name=s"]
    cheap = ["model.width=4", "train.budget.amount=2", "train.validate_every=2"]
    planned = run_command("experiments.plan", *where, *cheap, *ways, "plan.flops_per_s=1e9")
    assert planned.returncode == 0, planned.stderr
    words = shlex.split(planned.stdout.splitlines()[-1].partition("experiments.train ")[2])
    staged = run_command("experiments.train", *words, "launcher=torchrun")
    assert staged.returncode == 0, staged.stderr
    (run,) = json.loads((tmp_path / "s" / "plan.json").read_text())["runs"]
    (config_path,) = (tmp_path / "s").glob("*/config.yaml")
    config = OmegaConf.load(config_path)
    assert (run["zero_stage"], run["checkpointing"]) == (config.zero.stage, config.zero.checkpointing) == (2, 1)
    assert (run["ranks"], config.launcher.ranks, config.parallel.graph) == (2, 2, 2)


def test_runs_are_fitted_to_the_memory_of_a_device(tiny_data, tmp_path):
    asked = ["zero=auto", "plan.device_memory_gib=0.005", "model.width=16", "model.depth=3"]
    where = [f"data.path={tiny_data}", f"study.root={tmp_path}", "study.name=small", "train.budget.amount=4"]
    trained = run_command("experiments.train", *asked, *where)
    assert trained.returncode == 0, trained.stderr
    (config_path,) = (tmp_path / "small").glob("*/config.yaml")
    config = OmegaConf.load(config_path)
    assert (config.zero.stage, config.zero.auto) == (0, False)
    assert config.zero.checkpointing > 0
    assert config.train.max_edges > 0
    refused = run_command("experiments.train", *asked, *where, "plan.device_memory_gib=0.0001")
    assert refused.returncode == 2
    assert "GiB a device for the largest structure alone" in refused.stderr
