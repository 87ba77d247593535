"""What the engine predicts knows its own way back."""

import pytest
import torch

from scaling.config import RunConfig, ZeroConfig
from scaling.models import Graphs, build
from scaling.training.engine import Engine
from scaling.training.world import World
from tests.unit.models.test_physics import crystal, graphs


@pytest.fixture
def engine() -> Engine:
    torch.manual_seed(0)
    model = build(RunConfig().model, num_elements=3, cutoff_ang=4.0, mean_degree=20.0, scale_ev=1.0)
    return Engine(model, optim=RunConfig().optim, zero=ZeroConfig(), precision="fp32", world=World.join())


def batch(seed: int) -> Graphs:
    found = graphs(*crystal(seed, 4))
    return Graphs(**{k: v.float() if k in ("x_N3", "shift_E3") else v for k, v in vars(found).items()})


def gradient(engine: Engine) -> torch.Tensor:
    found = torch.cat([value.flatten() for value in engine.gradients().values()])
    engine.module.zero_grad()
    return found


def test_each_of_two_predictions_goes_its_own_way_back(engine):
    def loss(prediction):
        return prediction.energy_G.square().sum() + (prediction.forces_N3 - 0.3).square().sum()

    expected = []
    for seed in (1, 2):
        alone = engine.forward(batch(seed))
        alone.backward(loss(alone), is_last=True)
        expected.append(gradient(engine))
    first, second = engine.forward(batch(1)), engine.forward(batch(2))
    first.backward(loss(first), is_last=True)
    found_first = gradient(engine)
    second.backward(loss(second), is_last=True)
    torch.testing.assert_close(found_first, expected[0], rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(gradient(engine), expected[1], rtol=1e-5, atol=1e-6)
    assert not torch.allclose(expected[0], expected[1], rtol=1e-2), "the control"


def test_loss_of_forces_alone_has_a_gradient(engine):
    prediction = engine.forward(batch(1))
    prediction.backward((prediction.forces_N3 - 0.3).square().sum(), is_last=True)
    assert gradient(engine).abs().max() > 0
