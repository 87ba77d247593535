"""One way to hold runs out: the function, the command and the comparison of forms say the same of one form."""

import json

import numpy as np
import pandas as pd
import pytest

from analysis.__main__ import main
from analysis.fitting.choice import refit
from analysis.fitting.law import fit
from analysis.selection.comparison import compare
from analysis.selection.held_out import backtest
from analysis.selection.origins import cut_sizes, largest_origin, rolling_origins
from analysis.selection.scores import Score, mean_coverage, mean_rmse
from analysis.tables import load_runs

LAW = {"E": 0.05, "A": 2.0, "alpha": 0.35, "B": 3.0, "beta": 0.5}


@pytest.fixture
def table(make_study):
    return load_runs(make_study(LAW, scatter=0.03))


@pytest.fixture
def law(table):
    return fit(table, replicates=0)


def test_function_and_command_are_the_same_backtest(law, tmp_path, capsys):
    path = tmp_path / "runs.csv"
    law.table.frame.to_csv(path, index=False)
    found = backtest(law)
    assert main(["backtest", str(path), "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["rmse_log_loss"] == pytest.approx(found.rmse, rel=1e-9)
    assert said["coverage_95"] == pytest.approx(found.coverage)
    numbers = [(one.axis, one.size, one.num_fitted, one.num_held_out, one.coverage) for one in found.scores]
    keys = ("axis", "size", "n_fitted", "n_held_out", "coverage_95")
    assert [tuple(one[key] for key in keys) for one in said["origins"]] == numbers
    # The negative control: held-out runs at another reach are other ones.
    assert main(["backtest", str(path), "--json", "--reach", "20"]) == 0
    assert json.loads(capsys.readouterr().out)["rmse_log_loss"] != pytest.approx(found.rmse, rel=1e-3)


@pytest.mark.parametrize("depths", [(2,), (1, 2, 3, 4, 5)])  # 25 runs; 125, whose intervals are the bootstrap's
def test_comparison_and_backtest_score_a_form_alike(make_study, depths):
    table = load_runs(make_study(LAW, scatter=0.03, depths=depths))
    compared, tested = compare(table, ["chinchilla"]), backtest(fit(table, replicates=0))
    assert compared.objective.delta == tested.law.optimum.objective.delta
    assert len(compared.best.scores) == len(tested.scores) > 0
    for one, other in zip(compared.best.scores, tested.scores, strict=True):
        assert (one.axis, one.size, one.num_held_out) == (other.axis, other.size, other.num_held_out)
        # 1e-3: both descend to one minimum, from other starts and in another unit of the loss.
        assert one.rmse == pytest.approx(other.rmse, rel=1e-3)
        assert one.coverage == other.coverage
    power = compare(table, ["shared_exponent"], replicates=0).best
    assert power.rmse != pytest.approx(tested.rmse, rel=1e-3), "the control: another form scores otherwise"


def test_intervals_are_those_that_the_refitted_law_reports(law):
    for test in backtest(law):
        smaller = refit(law, law.table.keep(test.origin.fitted))
        sizes = {axis: values[test.origin.held_out] for axis, values in law.table.sizes.items()}
        np.testing.assert_allclose(np.transpose([run.ci95 for run in test.runs]), smaller.band(of_runs=True, **sizes))
        curve = smaller.band(of_runs=False, **sizes)
        assert (curve[0] > [run.ci95[0] for run in test.runs]).all(), "the control: bands of the law are narrower"


def test_refit_keeps_form_objective_and_delta(law):
    part = law.table.keep(law.table.num_params < 2e4)
    own = fit(part, replicates=0).optimum.objective.delta
    assert refit(law, part).optimum.objective == law.optimum.objective
    assert own != law.optimum.objective.delta, "the control: a fit of its own has a delta of its own"


def test_no_origin_mixes_fitted_and_held_out_sizes_at_any_depth(make_study):
    table = load_runs(make_study(LAW, depths=(1, 2, 3)))
    origins = rolling_origins(table, ("N", "D"), 2.0)
    assert {origin.axis for origin in origins} == {"width", "D"}
    for origin in origins:
        sizes = cut_sizes(table, origin.axis)
        assert sizes[origin.fitted].max() <= origin.size * 1.001 < sizes[origin.held_out].min()
        assert table.frame["depth"][origin.held_out].nunique() == 3


def test_one_origin_an_axis_holds_out_the_largest_tenth(law):
    every, nearest = backtest(law), backtest(law, every_origin=False)
    assert [test.axis for test in nearest] == ["N", "D"]
    first = {test.axis: test.rmse for test in reversed(every)}
    assert {test.axis: test.rmse for test in nearest} == first
    assert len(every) > len(nearest)
    sizes = np.geomspace(1e4, 1e6, 60)
    line = load_runs(pd.DataFrame({"num_params": sizes, "test_loss": 0.1 + sizes**-0.3}), axes=("N",))
    np.testing.assert_array_equal(largest_origin(line, "N").held_out, np.arange(60) >= 54)


def test_coverage_of_several_origins_is_of_all_their_runs():
    origins = [Score("N", 1e4, 20, 1, rmse=0.1, coverage=1.0), Score("N", 1e5, 12, 9, rmse=0.2, coverage=0.0)]
    assert mean_coverage(origins) == pytest.approx(0.1)
    assert mean_coverage([*origins, Score("D", 1e3, 12, 3, rmse=0.1)]) is None
    assert mean_rmse(origins) == pytest.approx(0.15)
