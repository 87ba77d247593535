"""A plan chooses the cheapest way that fits, and refuses what fits nowhere."""

from dataclasses import replace

import pytest

from experiments.plan import GIB, Data, Rate, plan_run
from scaling.config import ModelConfig, PlanConfig, RunConfig
from scaling.errors import ConfigError

DATA = Data(num_structures=10_000, num_atoms=40.0, num_edges=1400.0, num_elements=5)
RATE = Rate(((16, 1e9), (256, 4e9)))


def plan(width: int, gib: float, devices: int = 4, **model):
    config = replace(
        RunConfig(), model=ModelConfig(width=width, depth=4, **model), plan=PlanConfig(num_devices=devices)
    )
    return plan_run(config, DATA, RATE, device="cpu", limit=gib * GIB)


def test_what_fits_is_neither_partitioned_nor_recomputed():
    row = plan(64, gib=8)
    assert (row["zero_stage"], row["checkpointing"], row["max_edges"]) == (0, 0, 0)
    assert row["peak_bytes"] < 8 * GIB


def test_less_memory_costs_a_dearer_way_and_then_smaller_micro_batches():
    limits = (16.0, 0.7, 0.5)
    ways = [plan(1024, gib) for gib in limits]
    chosen = [(row["zero_stage"], row["checkpointing"], bool(row["max_edges"])) for row in ways]
    assert chosen[0] == (0, 0, False)
    assert chosen[1] > chosen[0]
    assert 1400 <= plan(64, 0.03)["max_edges"] < 8 * 1400, "only a part of a device's 8 structures fits at a time"
    assert all(row["peak_bytes"] <= gib * GIB for row, gib in zip(ways, limits, strict=True))
    recomputing = plan(256, 0.15)
    assert recomputing["checkpointing"] == 1
    assert recomputing["device_hours"] > plan(256, 16.0)["device_hours"]


def test_what_fits_nowhere_is_refused_with_the_way_out():
    with pytest.raises(ConfigError, match=r"width=20000.* parameters\) needs .*raise plan\.num_devices \(now 4\)"):
        plan(20_000, gib=1)


def test_refusal_names_the_way_that_needs_least():
    with pytest.raises(ConfigError, match=r"zero\.stage=1 with checkpointing, 0\.315 GiB of 0\.35 may be used"):
        plan(1024, 0.35)


def test_device_hours_follow_from_flops_and_rate():
    row = plan(64, gib=8)
    assert row["train_flops"] == pytest.approx(2000 * 32 * row["flops_per_structure"])
    assert RATE.at(64) == pytest.approx(2e9)
    assert row["device_hours"] == pytest.approx(row["train_flops"] / 2e9 / 3600)


def test_number_of_parameters_stands_for_a_width():
    row = plan(16, gib=8, num_params=1e6)
    assert row["num_params"] == pytest.approx(1e6, rel=0.01)
    assert plan(row["width"], gib=8)["num_params"] == row["num_params"]
