"""A plan chooses the cheapest way that fits, and refuses what fits nowhere."""

from dataclasses import asdict, replace

import pytest

from scaling.config import BudgetConfig, LauncherConfig, ParallelConfig, PlanConfig, RunConfig, TrainConfig, ZeroConfig
from scaling.errors import ConfigError
from scaling.models.config import family
from scaling.models.counting import ParameterCount, parameters_of
from scaling.models.egnn import EGNNConfig
from scaling.planning import GIB, Data, Rate, data_of, fit, fitted, plan_run, with_ranks
from scaling.planning.ways import EFFICIENT_EDGES, USABLE, Size, ways

DATA = Data(
    num_structures=10_000,
    num_atoms=40.0,
    num_edges=1400.0,
    num_elements=5,
    largest_edges=4000.0,
    num_val=1250,
    num_test=1250,
)
RATE = Rate(((16, 1e9), (256, 4e9)))


def run(width: int = 64, batch_size: int = 32, max_edges: int = 0, **rest) -> RunConfig:
    train = TrainConfig(budget=BudgetConfig(amount=2000), batch_size=batch_size, max_edges=max_edges)
    return replace(RunConfig(), model=EGNNConfig(width=width, depth=4), train=train, **rest)


def plan(width: int, gib: float, devices: int = 4, **rest):
    config = run(width, plan=PlanConfig(num_devices=devices), **rest)
    return plan_run(config, DATA, RATE, device="cpu", limit=gib * GIB)


def way(row) -> tuple[int, int]:
    return row["zero_stage"], row["checkpointing"]


def test_what_fits_is_neither_partitioned_nor_recomputed():
    row = plan(64, gib=8)
    assert (way(row), row["micro_batches"]) == ((0, 0), 1)
    assert row["peak_bytes"] < USABLE * 8 * GIB


def test_heavier_batches_than_the_mean_are_bounded_too():
    row, model = plan(64, gib=0.1), EGNNConfig(width=64, depth=4)
    assert row["micro_batches"] == 1
    size = Size(model, parameters_of(model, DATA.num_elements), 4, 35.0, "cpu")
    assert row["max_edges"] > 8 * 1400
    assert (
        size.peak(ZeroConfig(), row["max_edges"])
        <= USABLE * 0.1 * GIB
        < size.peak(ZeroConfig(), 1.01 * row["max_edges"])
    )


@pytest.mark.parametrize("width", [64, 256, 1024])
@pytest.mark.parametrize("gib", [0.03, 0.05, 0.08, 0.16, 0.4, 0.5, 0.7, 4.0])
def test_no_way_that_fits_an_efficient_micro_batch_takes_less_time(width, gib):
    try:
        row = plan(width, gib)
    except ConfigError:
        pytest.skip("fits nowhere")
    efficient = min(8 * 1400, EFFICIENT_EDGES["cpu"])
    for zero in ways(4, ranks=4):
        try:
            other = plan(width, gib, zero=zero)
        except ConfigError:
            continue
        if other["max_edges"] >= efficient:
            assert row["device_hours"] <= other["device_hours"]
            assert way(row) <= way(other) or row["device_hours"] < other["device_hours"]


def test_batch_is_accumulated_before_layers_are_recomputed():
    row = plan(256, gib=1.0, devices=1, batch_size=1024)
    assert way(row) == (0, 0)
    assert row["micro_batches"] > 1


def test_own_micro_batches_are_never_made_larger():
    assert plan(64, gib=0.06, devices=1, max_edges=6000)["max_edges"] == 6000
    assert plan(64, gib=8, max_edges=6000)["max_edges"] == 6000


def test_own_way_is_kept_and_refused_if_it_does_not_fit():
    own = ZeroConfig(2, 3, offload=True)
    row = plan(64, gib=8, zero=own)
    assert (way(row), row["offload"]) == ((2, 3), True)
    assert way(plan(1024, 0.6)) != (0, 1)
    with pytest.raises(ConfigError, match=r"at zero\.stage=0 with zero\.checkpointing=1; 0\.36 GiB of 0\.4"):
        plan(1024, 0.4, zero=ZeroConfig(0, 1))


def test_ways_recompute_more_and_more_layers():
    alone = [zero.checkpointing for zero in ways(4, ranks=1)]
    assert alone == [0, 4, 2, 1], "none, one layer, two, all four"
    assert [zero.checkpointing for zero in ways(1, ranks=1)] == [0, 1]
    assert ways(4, ranks=2)[-1] == ZeroConfig(3, 1)
    assert len(ways(4, ranks=2)) == 3 * 4 + 1


def test_only_as_many_layers_are_recomputed_as_must_be():
    hours = {}
    for gib in (16.0, 0.032, 0.029, 0.025):
        row = plan(64, gib, devices=1)
        hours[row["checkpointing"]] = row["device_hours"]
        assert row["peak_bytes"] <= USABLE * gib * GIB
    assert list(hours) == [0, 4, 2, 1]
    assert list(hours.values()) == sorted(hours.values())


@pytest.fixture
def small_machine(monkeypatch):
    monkeypatch.setattr(fit, "data_of", lambda config: DATA)
    monkeypatch.setattr(fit, "memory_here", lambda device, ranks: 0.35 * GIB / ranks)


def test_run_is_fitted_to_the_ranks_and_memory_it_has(small_machine):
    config = run(launcher=LauncherConfig(ranks=4), plan=PlanConfig(num_devices=1000), zero=ZeroConfig(auto=True))
    found = fitted(config, begun_at=None, side_by_side=1)
    assert found.zero == ZeroConfig()
    assert replace(found, zero=config.zero, train=config.train) == config
    shared = fitted(config, begun_at=None, side_by_side=3)
    assert shared.zero.checkpointing
    assert shared.train.max_edges < found.train.max_edges


def test_run_that_was_begun_keeps_its_stage(small_machine):
    config = run(launcher=LauncherConfig(ranks=4), zero=ZeroConfig(auto=True))
    stages = [fitted(config, begun_at=stage, side_by_side=1).zero.stage for stage in (None, 0, 1, 2, 3)]
    assert stages == [0, 0, 1, 2, 3]


def test_what_fits_nowhere_is_refused_with_the_way_out():
    with pytest.raises(ConfigError, match=r"width=20000.* parameters\) needs .*raise the number of devices \(now 4\)"):
        plan(20_000, gib=1)


def test_refusal_names_the_way_that_needs_least():
    with pytest.raises(ConfigError, match=r"zero\.stage=3 with zero\.checkpointing=\d; 0\.18 GiB of 0\.2"):
        plan(1024, 0.2)


def test_device_hours_follow_from_flops_and_rate():
    row = plan(64, gib=8)
    assert row["train_flops"] == pytest.approx(2000 * 32 * row["flops_per_structure"])
    judged = 2000 / run().train.validate_every * DATA.num_val + DATA.num_test
    assert row["evaluation_flops"] == pytest.approx(judged * row["flops_per_structure"] / 4)
    assert RATE.at(64) == pytest.approx(2e9)
    assert row["device_hours"] == pytest.approx((row["train_flops"] + row["evaluation_flops"]) / 2e9 / 3600)


def test_number_of_parameters_stands_for_a_width():
    config = run(plan=PlanConfig(num_devices=4))
    config = replace(config, model=replace(config.model, width=EGNNConfig().width, num_params=1e6))
    row = plan_run(config, DATA, RATE, device="cpu", limit=8 * GIB)
    assert row["num_params"] == pytest.approx(1e6, rel=0.01)
    assert plan(row["width"], gib=8)["num_params"] == row["num_params"]


def test_structures_that_are_not_at_hand_are_assumed():
    given = PlanConfig(num_structures=800, num_atoms=10, num_edges=200, num_elements=3)
    data = data_of(run(plan=given))
    assert asdict(data) == {
        **{"num_structures": 800, "num_atoms": 10, "num_edges": 200, "num_elements": 3, "largest_edges": 200},
        **{"num_val": pytest.approx(100), "num_test": pytest.approx(100), "has_forces": True},
    }


@pytest.mark.parametrize("name", ["dimenetpp", "gemnet_t"])
def test_ranks_that_share_a_batch_need_less_memory_each(name):
    model = family(name)(width=128, depth=4)
    sizes = [Size(model, ParameterCount(0, 10**6, 0, largest=10**4), 4, 30.0, "cuda", graph) for graph in (1, 2, 4)]
    alone, two, four = (size.peak(ZeroConfig(0, 0), 100_000) for size in sizes)
    assert alone > 1.8 * two > 3 * four
    most = [size.most_edges(ZeroConfig(0, 0), 10 * GIB) for size in sizes]
    assert most[2] == pytest.approx(4 * most[0], rel=0.01)


def test_number_of_ranks_that_share_a_batch_divides_the_ranks():
    with pytest.raises(ConfigError, match=r"parallel.graph=3 must be a divisor of launcher.ranks=4"):
        RunConfig(parallel=ParallelConfig(3), launcher=LauncherConfig(ranks=4))
    assert RunConfig(parallel=ParallelConfig(2), launcher=LauncherConfig(ranks=4)).parallel.graph == 2


def test_number_of_ranks_is_not_sought_where_none_can_share_batches_so():
    config = RunConfig(parallel=ParallelConfig(3), launcher=LauncherConfig(kind="slurm", ranks=0))
    data = Data(100, 10.0, 300.0, 3, 300.0, 10, 10)
    with pytest.raises(ConfigError, match=r"parallel.graph=3 must divide a power of two"):
        with_ranks(config, data, device="cpu", limit=GIB)
