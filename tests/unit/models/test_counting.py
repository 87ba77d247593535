"""FLOPs in closed form are those of torch's own counter; parameters are those of the equations."""

from dataclasses import replace

import pytest
import torch

from scaling.errors import ConfigError
from scaling.models import build
from scaling.models.config import FAMILIES, family
from scaling.models.counting import count_parameters, parameters_of, training_flops, with_width
from scaling.models.egnn import EGNNConfig
from scaling.models.ops import neighborhoods
from tests.reference.counters import matrix_flops
from tests.reference.parameters import by_hand
from tests.unit.models.test_physics import crystal, graphs

models = pytest.mark.parametrize("name", FAMILIES)


def network(width, depth, forces, name="egnn"):
    config = family(name)(width=width, depth=depth, forces=forces)
    return config, build(config, num_elements=3, cutoff_ang=4.0, mean_degree=20.0, scale_ev=1.0).double().train()


@models
@pytest.mark.parametrize("forces", ["conservative", "direct"])
@pytest.mark.parametrize(("width", "depth"), [(4, 1), (8, 2), (16, 3), (32, 5)])
def test_training_flops_in_closed_form_are_those_counted(width, depth, forces, name, monkeypatch):
    monkeypatch.setattr(neighborhoods, "FULLNESS", 1.0)  # no padding
    config, model = network(width, depth, forces, name)
    batch = graphs(*crystal(0))

    def step():
        energy_G, forces_N3 = model(batch)
        if model.is_conservative:
            energy_G, forces_N3 = model(batch, (2 * energy_G, 2 * forces_N3))[0], torch.zeros(())
        (energy_G.square().sum() + forces_N3.square().sum()).backward()

    expected = training_flops(config, num_atoms=len(batch.x_N3), num_edges=len(batch.src_E))
    assert expected == pytest.approx(matrix_flops(step), rel=0.01)


@models
@pytest.mark.parametrize(("width", "depth"), [(4, 1), (8, 2), (32, 5)])
def test_flops_of_energies_alone_are_those_counted(width, depth, name, monkeypatch):
    monkeypatch.setattr(neighborhoods, "FULLNESS", 1.0)  # no padding
    config, model = network(width, depth, "conservative", name)
    batch = graphs(*crystal(0))
    size = {"num_atoms": len(batch.x_N3), "num_edges": len(batch.src_E)}
    counted = matrix_flops(lambda: model(batch, forces=False)[0].square().sum().backward())
    assert training_flops(config, **size, forces=False) == pytest.approx(counted, rel=0.01)
    assert training_flops(config, **size) > 2.5 * counted, "the control: forces cost more"


@models
@pytest.mark.parametrize("forces", ["conservative", "direct"])
def test_parts_add_up_to_all_parameters(forces, name):
    _, model = network(8, 2, forces, name)
    count = count_parameters(model)
    assert count.total == sum(p.numel() for p in model.parameters())
    assert count.embedding == 3 * 8
    assert count.head > 0
    assert count.trunk > 0


def test_wider_model_costs_quadratically_more():
    narrow = training_flops(EGNNConfig(width=64), num_atoms=100, num_edges=3000)
    wide = training_flops(EGNNConfig(width=128), num_atoms=100, num_edges=3000)
    assert 3.4 < wide / narrow < 4.0
    assert torch.isfinite(torch.tensor(wide))


@models
@pytest.mark.parametrize("forces", ["conservative", "direct"])
@pytest.mark.parametrize(("width", "depth"), [(1, 1), (8, 2), (33, 5)])
def test_parameters_are_those_built_and_those_of_the_equations(width, depth, forces, name):
    config, model = network(width, depth, forces, name)
    count = parameters_of(config, 3)
    assert count == count_parameters(model)
    assert tuple(count.by_part().values()) == by_hand(config, 3)
    assert count.largest == max(p.numel() for p in model.parameters())


#: Table of sizes of Li et al. (arXiv 2504.08112).
SIZES_OF_LI = (0.10e6, 1.18e6, 11.2e6, 20.9e6, 49.7e6, 107e6, 198e6, 497e6, 1.01e9, 2.06e9, 3.83e9)


@pytest.mark.parametrize("num_params", SIZES_OF_LI)
def test_every_size_up_to_billions_is_met_and_built_without_memory(num_params):
    config = with_width(EGNNConfig(depth=3, forces="direct", num_params=num_params), 90)
    with torch.device("meta"):
        model = build(config, num_elements=90, cutoff_ang=5.0, mean_degree=20.0, scale_ev=1.0)
    count = count_parameters(model)
    assert tuple(count.by_part().values()) == by_hand(config, 90)
    assert count.total == pytest.approx(num_params, rel=0.03)


@models
@pytest.mark.parametrize("num_params", [700, 5e3, 1.234e5, 7e6])
def test_width_is_the_one_that_comes_nearest_found_with_few_networks(num_params, name):
    config = family(name)(depth=2, forces="direct", num_params=num_params)
    try:
        before = parameters_of.cache_info().misses
        found = with_width(config, 5)
        assert parameters_of.cache_info().misses - before <= 12
    except ConfigError:
        assert num_params < sum(by_hand(replace(config, width=1, num_params=None), 5))
        return

    def miss(width: int) -> float:
        return abs(sum(by_hand(replace(config, width=width, num_params=None), 5)) - num_params)

    assert miss(found.width) == min(map(miss, range(1, 3 * found.width + 3)))


def test_too_few_parameters_are_refused_with_the_least():
    with pytest.raises(ConfigError, match=r"num_params=5 must be at least \d+, which is width 1 at model\.depth=2"):
        with_width(EGNNConfig(num_params=5), 3)
