"""The networks of Sriram et al. (ICLR 2022) have the numbers of parameters that are published for them."""

from dataclasses import replace

import pytest
import torch

from scaling.config import ModelConfig
from scaling.models import build
from scaling.models.counting import count_parameters, parameters_of
from tests.reference.presets import preset

PUBLISHED = {
    "dimenetpp_xl": 240e6,
    "gemnet_xl": 300e6,
    "gemnet_125m": 125e6,
    "gemnet_245m": 245e6,
    "gemnet_480m": 480e6,
    "gemnet_960m": 960e6,
}
#: DimeNet++ of its paper, and GemNet-dT as trained on OC20: sizes of the families that have no size of their own.
FAMILIES = {
    "dimenetpp": ({"width": 128, "depth": 4}, 1.88e6),
    "gemnet_t": ({"width": 512, "depth": 3, "triplet_width": 64, "num_radial": 128, "forces": "direct"}, 32e6),
}
OC20_ELEMENTS = 83


def built(config: ModelConfig) -> int:
    with torch.device("meta"):
        model = build(config, num_elements=OC20_ELEMENTS, cutoff_ang=6.0, mean_degree=30.0, scale_ev=1.0)
    assert {p.device.type for p in model.parameters()} == {"meta"}
    assert count_parameters(model) == parameters_of(config, OC20_ELEMENTS)
    return count_parameters(model).total


@pytest.mark.parametrize(("name", "published"), PUBLISHED.items())
def test_preset_has_the_published_number_of_parameters(name, published):
    assert built(preset(name)) == pytest.approx(published, rel=0.05)


@pytest.mark.parametrize("name", FAMILIES)
def test_family_has_it_at_the_published_size(name):
    size, published = FAMILIES[name]
    assert built(replace(preset(name), **size)) == pytest.approx(published, rel=0.05)
