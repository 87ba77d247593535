"""Intervals, bands, backtests: do they hold what they promise?"""

import numpy as np
import pytest

from analysis.fitting.descent import minimize
from analysis.fitting.influence import leave_one_out
from analysis.fitting.law import fit
from analysis.fitting.resampling import balanced_counts, resampling_unit
from analysis.selection.held_out import backtest
from analysis.tables import load_runs

LAW = {"E": 0.05, "A": 2.0, "alpha": 0.35, "B": 3.0, "beta": 0.5}


def test_interval_covers_the_truth_in_most_simulated_studies(make_study):
    inside = []
    for seed in range(24):
        law = fit(load_runs(make_study(LAW, scatter=0.05, seed=seed)), replicates=200)
        low, high = law["beta"].ci95
        inside.append(low <= LAW["beta"] <= high)
    assert np.mean(inside) >= 0.8  # 24 draws of 95 %: below 20 of 24 in 1 of 170 suites


def test_more_scatter_gives_wider_intervals(make_study):
    widths = [
        np.ptp(fit(load_runs(make_study(LAW, scatter=s)), replicates=200)["beta"].ci95) for s in (0.01, 0.05, 0.1)
    ]
    assert widths == sorted(widths)


def test_runs_of_several_seeds_are_drawn_as_configurations(make_study):
    unit, group = resampling_unit(load_runs(make_study(seeds=(0, 1, 2))))
    assert unit == "configuration"
    assert np.bincount(group).tolist() == [3] * 25
    assert resampling_unit(load_runs(make_study()))[0] == "run"


def test_every_run_is_drawn_equally_often_over_all_replicates():
    counts = balanced_counts(30, 200, np.random.default_rng(0))
    assert (counts.sum(0) == 200).all()
    assert (counts.sum(1) == 30).all()
    # The variance of a count is that of draws with replacement, 1 - 1/30, less the balance's share of 1/200.
    assert counts.var() == pytest.approx(1 - 1 / 30, rel=0.05)  # 6,000 counts: 2 %
    assert (counts == balanced_counts(30, 200, np.random.default_rng(0))).all()
    assert (counts != balanced_counts(30, 200, np.random.default_rng(1))).any()


def test_seeds_of_one_configuration_are_drawn_together(make_study, monkeypatch):
    drawn = []
    monkeypatch.setattr("analysis.fitting.resampling.minimize", lambda *a: drawn.append(a[2]) or minimize(*a))
    fit(load_runs(make_study(LAW, scatter=0.05, seeds=(0, 1, 2))), replicates=100)
    counts = drawn[0]
    group = resampling_unit(load_runs(make_study(seeds=(0, 1, 2))))[1]
    for number in range(25):
        assert np.ptp(counts[:, group == number], axis=1).max() == 0
    assert (counts.sum(0) == 100).all()


def test_band_of_runs_holds_the_runs_and_contains_the_band_of_the_law(make_study):
    table = load_runs(make_study(LAW, scatter=0.05))
    law = fit(table, replicates=300)
    runs = law.band(of_runs=True, **table.sizes)
    curve = law.band(**table.sizes)
    assert np.mean((runs[0] <= table.loss) & (table.loss <= runs[1])) >= 0.88
    assert np.mean((curve[0] <= table.loss) & (table.loss <= curve[1])) < 0.8
    assert (runs[0] < curve[0]).all()
    assert (runs[1] > curve[1]).all()


def test_backtest_predicts_the_largest_runs_of_a_true_law(make_study):
    tests = backtest(fit(load_runs(make_study(LAW, scatter=0.05)), replicates=0), every_origin=False)
    assert [test.axis for test in tests] == ["N", "D"]
    for test in tests:
        assert len(test.runs) == 5
        assert test.rmse < 0.2
        assert test.coverage >= 0.6


def test_backtest_exposes_a_law_that_breaks(make_study):
    frame = make_study(LAW, scatter=0.01)
    frame.loc[frame["width"] == 64, "test_loss"] *= 2.0
    broken = backtest(fit(load_runs(frame), replicates=0))[0]
    assert broken.rmse > 0.5
    assert broken.coverage == 0.0


def test_backtest_without_enough_runs_says_so(make_study):
    law = fit(load_runs(make_study(LAW, widths={4: 373, 8: 1161}, structures=(64, 256, 1024))), replicates=0)
    held_out = backtest(law)[0]
    assert held_out.rmse is None
    assert "at least 6 runs" in held_out.problem


def test_leaving_out_an_outlier_moves_the_law_most(make_study):
    frame = make_study(LAW, scatter=0.01)
    frame.loc[24, "test_loss"] *= 1.3
    moves = leave_one_out(fit(load_runs(frame), replicates=0, objective="least_squares"))
    assert np.abs(moves["alpha"]).argmax() == 24


def test_prediction_is_the_formula(make_study):
    law = fit(load_runs(make_study(LAW)), replicates=0)
    value = {estimate.name: estimate.value for estimate in law.params}
    expected = value["E"] + value["A"] * 5e4 ** -value["alpha"] + value["B"] * 1e4 ** -value["beta"]
    assert law.predict(N=5e4, D=1e4)[0] == pytest.approx(expected, rel=1e-12)


def test_backtest_holds_out_the_largest_width_at_every_depth(make_study):
    tested = backtest(fit(load_runs(make_study(LAW, scatter=0.05, depths=(2, 3))), replicates=0))[0]
    assert (tested.axis, tested.size) == ("width", 64)
    assert len({run.num_params for run in tested.runs}) == 2, "both depths"
    assert tested.rmse < 0.15
