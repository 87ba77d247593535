"""The registry of figures: what a table allows is drawn, what it does not is refused with the reason."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

import analysis
from analysis.fitting.choice import FitChoice
from analysis.fitting.influence import dfbetas, leave_one_out, noteworthy
from analysis.fitting.law import fit
from analysis.plots import FIGURES, draw, plot_backtest, plot_overlay, save
from analysis.plots.cost import envelope
from analysis.study.learning_rate import find_learning_rates
from analysis.study.results import Results
from analysis.tables import load_runs
from scaling.errors import ConfigError


def results_of(frame, **choice):
    return Results(load_runs(frame), FitChoice(**{"replicates": 100, **choice}))


def rates_frame(exponent=-0.3, *, curved=1.0):
    """Losses exactly parabolic in log rate, lowest at 0.02 (N / 4000)^exponent."""
    rows = []
    for num_params in (500, 2000, 8000):
        best = 0.02 * (num_params / 4000) ** exponent
        for rate in 0.02 * 2.0 ** np.arange(-3, 4):
            log_loss = curved * 0.2 * np.log(rate / best) ** 2 - 0.3 * np.log(num_params)
            rows.append({"num_params": num_params, "train_structures": 1000, "lr": rate, "test_loss": np.exp(log_loss)})
    return pd.DataFrame(rows)


def test_everything_the_table_allows_can_be_drawn_and_all_else_has_a_reason(make_study):
    frame = pd.concat([make_study(), make_study(seed=1).assign(model="other", run_id=lambda f: f["run_id"] + "x")])
    results = results_of(frame)
    lacking = {name: reason for name, kind in FIGURES.items() if (reason := kind.lacks(results))}
    assert {"loss_vs_flops", "loss_vs_width", "learning_rate"} <= set(lacking)
    for name in ("loss_vs_params", "loss_vs_data", "surface", "overlay", "cost_compute", "cost_device_hours"):
        assert name not in lacking
    for name in set(FIGURES) - set(lacking):
        assert isinstance(draw(results, name), Figure)
    for name in lacking:
        with pytest.raises(ConfigError, match="cannot be drawn"):
            draw(results, name)


def test_figure_of_cost_needs_the_column(make_study):
    assert "device_hours" in FIGURES["cost_device_hours"].lacks(results_of(make_study().drop(columns="device_hours")))
    assert "train_flops" in FIGURES["cost_compute"].lacks(results_of(make_study().assign(train_flops=np.nan)))


def test_one_family_is_no_overlay(make_study):
    assert "--beside" in FIGURES["overlay"].lacks(results_of(make_study()))


def test_curves_of_a_form_with_three_axes_move_the_runs_along_the_law(make_study):
    table = load_runs(make_study(depths=(1, 2, 3, 4)), axes=("width", "depth", "D"))
    law = fit(table, "width_depth_data", replicates=0)
    axes = analysis.plot(law, "loss_vs_width").axes[0]
    points = np.concatenate([line.get_xydata() for line in axes.lines if line.get_linestyle() == "None"])
    assert len(points) == len(table)
    assert "at depth = 3; runs moved there along the law" in axes.get_title()
    moved = law.predict(width=table.axis("width"), depth=3.0, D=table.data_size) * np.exp(law.residuals)
    np.testing.assert_allclose(np.sort(points[:, 1]), np.sort(moved))
    assert not np.allclose(np.sort(moved), np.sort(table.loss))


def test_envelope_is_the_cheapest_way_to_each_loss():
    costs = np.array([1.0, 2.0, 2.0, 3.0, np.nan, 4.0])
    loss = np.array([5.0, 6.0, 4.0, 4.0, 1.0, 3.0])
    np.testing.assert_array_equal(envelope(costs, loss), [0, 2, 5])


def test_a_spoilt_run_at_the_end_has_the_most_influence(make_study):
    frame = make_study(scatter=0.02)
    spoilt = int(frame["num_params"].idxmax())
    assert np.abs(dfbetas(fit(load_runs(frame), replicates=200))["alpha"][spoilt]) < 1
    frame.loc[spoilt, "test_loss"] *= 1.5
    law = fit(load_runs(frame), objective="least_squares", replicates=200)
    influence = dfbetas(law)
    assert np.abs(influence["E"]).argmax() == spoilt
    assert abs(influence["E"][spoilt]) > noteworthy(len(frame))
    np.testing.assert_allclose(influence["E"], leave_one_out(law)["E"] / law["E"].se, rtol=1e-6)


@pytest.mark.parametrize("exponent", [-0.3, 0.2])
def test_best_learning_rate_of_each_size_and_its_slope_are_found(exponent):
    found = find_learning_rates(load_runs(rates_frame(exponent)))
    for size in found.sizes:
        assert size.best == pytest.approx(0.02 * (size.num_params / 4000) ** exponent)
    assert found.slope[0] == pytest.approx(exponent)


def test_a_minimum_outside_the_rates_tried_is_no_minimum():
    far = find_learning_rates(load_runs(rates_frame(exponent=-5.0)))
    assert [size.problem for size in far.sizes] == [
        f"the minimum lies {s} the rates tried" for s in ("above", "above", "below")
    ]
    flat = find_learning_rates(load_runs(rates_frame(curved=-1.0)))
    assert all(size.best is None and "no minimum" in size.problem for size in flat.sizes)
    assert flat.slope is None


def test_studies_of_one_learning_rate_a_size_have_no_figure_of_it(make_study):
    frame = make_study()
    frame["peak_lr"] = 0.02 * (frame["width"] / 16) ** -0.5
    assert find_learning_rates(load_runs(frame)) is None


def test_counting_trunk_parameters_moves_the_exponent_and_counting_atoms_in_proportion_does_not(make_study):
    variants = results_of(make_study(), replicates=100).variants
    assert [variant.column for variant in variants] == [None, "num_params_trunk"]
    alpha = [next(e.value for e in variant.estimates if e.name == "alpha") for variant in variants]
    assert abs(alpha[1] - alpha[0]) > 0.01
    frame = make_study().drop(columns="num_params_trunk")
    assert results_of(frame).variants == ()
    frame["train_atoms"] = frame["train_structures"] ** 1.1
    beta = [next(e.value for e in variant.estimates if e.name == "beta") for variant in results_of(frame).variants]
    assert beta[1] == pytest.approx(beta[0] / 1.1, rel=1e-3)


@pytest.mark.parametrize("ending", ["png", "svg", "pdf"])
def test_saved_figures_are_what_their_ending_says_and_the_same_bytes_again(make_study, tmp_path, ending):
    law = fit(load_runs(make_study()), replicates=0)
    contents = []
    for _ in range(2):
        picture = save(analysis.plot(law, "residuals"), tmp_path / "new" / f"residuals.{ending}")
        contents.append(picture.path.read_bytes())
    assert contents[0] == contents[1]
    assert {"png": b"\x89PNG", "svg": b"<svg", "pdf": b"%PDF"}[ending] in contents[0][:2000]
    with pytest.raises(ConfigError, match="must be one of"):
        save(analysis.plot(law, "residuals"), tmp_path / "residuals.gif")


def test_families_without_a_law_are_shown_by_their_runs(make_study):
    law, few = fit(load_runs(make_study()), replicates=0), load_runs(make_study().tail(2))
    figure = plot_overlay({"egnn": law}, {"gemnet_t": few})
    assert [text.get_text() for text in figure.legends[0].get_texts()] == [
        "egnn (25 runs)",
        "gemnet_t (2 runs, no law)",
    ]
    with pytest.raises(ConfigError, match="2 to 7 in all"):
        plot_overlay({"egnn": law})


def test_intervals_of_a_backtest_without_ends_run_to_the_edge(make_study):
    (test,) = (one for one in results_of(make_study(), replicates=0).backtests if one.axis == "N")
    assert test.runs
    unbounded = replace(test, runs=tuple(replace(run, ci95=(0.0, np.inf)) for run in test.runs))
    axes = plot_backtest((unbounded,)).axes[0]
    low, high = axes.get_ylim()
    assert 0 < low < high < np.inf
