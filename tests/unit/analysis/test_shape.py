"""Width and depth: the best shape, and what a law of N alone leaves open."""

import numpy as np
import pandas as pd
import pytest

from analysis.compute.decisions import decide
from analysis.compute.shape import best_shape, measure_shape, open_question
from analysis.fitting.law import fit
from analysis.plots import plot_shape
from analysis.report.decisions import decisions_text
from analysis.report.decisions_json import decisions_document
from analysis.tables import load_runs
from scaling.errors import ConfigError

LAW = {"E": 0.02, "A_w": 1.2, "a": 0.7, "A_d": 0.25, "b": 0.8, "B": 9.0, "beta": 0.75}
K = 8.0


def shape_frame(scatter=0.0, depths=(1, 2, 3, 4, 6, 8), width_power=2):
    generator = np.random.default_rng(0)
    rows = []
    for width in (8, 16, 32, 64, 128):
        for depth in depths:
            for size in (256, 1024, 4096, 16384):
                n = K * depth * width**width_power
                loss = LAW["E"] + LAW["A_w"] * width ** -LAW["a"] + LAW["A_d"] * depth ** -LAW["b"]
                loss = (loss + LAW["B"] * size ** -LAW["beta"]) * np.exp(scatter * generator.normal())
                row = {"width": width, "depth": depth, "num_params": n, "train_structures": size, "test_loss": loss}
                rows.append(row | {"epochs": 10.0, "train_flops": 300 * n * 10 * size})
    return pd.DataFrame(rows)


@pytest.fixture(scope="module")
def law():
    frame = shape_frame(scatter=0.005)
    return fit(load_runs(frame, axes=("width", "depth", "D")), "width_depth_data", replicates=100)


def test_best_shape_at_fixed_size_beats_its_neighbours_and_keeps_the_size(law):
    found = best_shape(law, num_params=[1e5, 1e6])
    np.testing.assert_allclose(K * found.depth.value * found.width.value**2, [1e5, 1e6], rtol=1e-9)
    assert found.problems == ()
    for factor in (0.8, 0.98, 1.02, 1.25):
        other = law.predict(
            width=found.width.value * factor, depth=found.depth.value / factor**2, D=found.data_size.value
        )
        assert (other > found.loss.value).all()


def test_best_shape_of_a_known_law_is_found():
    exact = fit(load_runs(shape_frame(), axes=("width", "depth", "D")), "width_depth_data", replicates=0)
    found = best_shape(exact, num_params=1e6)
    width = np.geomspace(1, 1e4, 200001)
    loss = LAW["A_w"] * width ** -LAW["a"] + LAW["A_d"] * (1e6 / K / width**2) ** -LAW["b"]
    assert found.width.value[0] == pytest.approx(width[loss.argmin()], rel=1e-3)


def test_budget_is_kept_and_divided_best_among_width_depth_and_data(law):
    found = best_shape(law, budgets=[1e12])
    width, depth, size = found.width.value[0], found.depth.value[0], found.data_size.value[0]
    assert 3000 * K * depth * width**2 * size == pytest.approx(1e12)
    generator = np.random.default_rng(0)
    for _ in range(20):
        x, y = generator.normal(scale=0.2, size=2)
        other = law.predict(width=width * np.exp(x), depth=depth * np.exp(y), D=size * np.exp(-2 * x - y))
        assert other[0] > found.loss.value[0]


def test_shapes_have_intervals_and_name_extrapolation(law):
    found = best_shape(law, num_params=1e9)
    low, high = found.aspect.ci95
    assert low < found.aspect.value < high
    assert found.beyond["width"][0] > 1
    assert found.beyond["depth"][0] > 1
    text = decisions_text(decide(law))
    assert "Best width and depth at given N" in text
    assert "depth" in text
    assert decisions_document(decide(law))["shapes"][0]["usable"] is True


def test_two_depths_give_a_verdict_not_a_shape():
    frame = shape_frame(scatter=0.02, depths=(2, 3))
    law = fit(load_runs(frame, axes=("width", "depth", "D")), "width_depth_data", replicates=100)
    assert any("do not determine b" in problem for problem in best_shape(law).problems)
    assert "depth/width" not in decisions_text(decide(law))


def test_parameters_that_do_not_go_as_width_squared_are_told():
    assert measure_shape(load_runs(shape_frame())).problem is None
    assert "not as width^2 depth" in measure_shape(load_runs(shape_frame(width_power=1))).problem


def test_a_law_of_n_alone_says_that_it_cannot_tell_the_shape(law):
    chinchilla = fit(load_runs(shape_frame(scatter=0.01)), replicates=0)
    assert "cannot say which is better" in open_question(chinchilla)
    assert open_question(fit(load_runs(shape_frame(scatter=0.01, depths=(2,))), replicates=0)) is None
    with pytest.raises(ConfigError, match="does not know width and depth apart"):
        best_shape(chinchilla)
    assert open_question(law) is None


def test_heat_maps_show_every_shape_and_the_best_one(law):
    at_data, at_flops = plot_shape(law).axes
    assert at_data.get_title() == "D = 16.4k"
    named = {str(line.get_label()): line for line in at_data.lines}
    ridge = named["best shape at equal N"]
    aspect = best_shape(law, num_params=K * ridge.get_ydata()[:1] * ridge.get_xdata()[:1] ** 2).aspect.value
    assert ridge.get_ydata()[0] / ridge.get_xdata()[0] == pytest.approx(aspect[0], rel=1e-6)
    assert "FLOPs" in at_flops.get_title()
