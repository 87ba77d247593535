"""A plan chooses the cheapest way that fits, and refuses what fits nowhere."""

from dataclasses import replace

import pytest

from experiments.plan import GIB, Data, Rate, fit, plan_run, ways
from scaling.config import LauncherConfig, ModelConfig, PlanConfig, RunConfig, ZeroConfig
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
    assert recomputing["checkpointing"] > 0
    assert recomputing["device_hours"] > plan(256, 16.0)["device_hours"]


def test_what_fits_nowhere_is_refused_with_the_way_out():
    with pytest.raises(ConfigError, match=r"width=20000.* parameters\) needs .*raise plan\.num_devices \(now 4\)"):
        plan(20_000, gib=1)


def test_ways_recompute_more_and_more_layers():
    alone = [zero.checkpointing for zero in ways(4, ranks=1)]
    assert alone == [0, 4, 2, 1], "none, one layer, two, all four"
    assert [zero.checkpointing for zero in ways(1, ranks=1)] == [0, 1]
    assert ways(4, ranks=2)[-1] == ZeroConfig(3, 1)
    assert len(ways(4, ranks=2)) == 3 * 4 + 1


def test_only_as_many_layers_are_recomputed_as_must_be():
    hours = {}
    for gib in (16.0, 0.14, 0.1, 0.08):
        row = plan(64, gib, devices=1)
        hours[row["checkpointing"]] = row["device_hours"]
        assert row["peak_bytes"] <= gib * GIB
    assert list(hours) == [0, 4, 2, 1]
    assert list(hours.values()) == sorted(hours.values())


def test_run_is_fitted_to_the_ranks_and_memory_it_has():
    run = replace(RunConfig(), model=ModelConfig(width=64, depth=4), launcher=LauncherConfig(ranks=4))
    run = replace(run, plan=PlanConfig(num_devices=1000), zero=ZeroConfig(auto=True))
    found = fit(run, DATA, device="cpu", limit=0.03 * GIB)
    assert found.zero == ZeroConfig(1, 1)
    assert 1400 <= found.train.max_edges < 8 * 1400
    assert replace(found, zero=run.zero, train=run.train) == run


def test_refusal_names_the_way_that_needs_least():
    with pytest.raises(ConfigError, match=r"zero\.stage=1 with zero\.checkpointing=\d; 0\.315 GiB of 0\.35"):
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
