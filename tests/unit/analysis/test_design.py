"""What to run next: is the design the one theory asks for, is the promise kept, is the budget?"""

import itertools
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from analysis.compute.cost import measure_cost
from analysis.design.advice import next_runs
from analysis.design.candidates import in_words, own_grid
from analysis.design.exchange import choose
from analysis.design.information import log_width, state_of, worth
from analysis.design.targets import find_target
from analysis.fitting.descent import minimize
from analysis.fitting.law import fit
from analysis.plots import plot_next_map, plot_next_width
from analysis.tables import load_runs
from scaling.errors import ConfigError, DataError

SIZES = {"N": 1e5 * 4.0 ** np.arange(4), "D": 1e6 * 4.0 ** np.arange(4)}
FAR = {"N": 6.4e7, "D": 6.4e8}


def true_loss(n, d):
    return 0.5 + 0.6 * (n / 8e5) ** -0.4 + 0.5 * (d / 8e6) ** -0.35


def grid_frame(noise=0.02, seed=0, more=()):
    sizes = np.array([*itertools.product(SIZES["N"], SIZES["D"]), *more])
    loss = true_loss(*sizes.T) * np.exp(noise * np.random.default_rng(seed).normal(size=len(sizes)))
    return pd.DataFrame({"num_params": sizes[:, 0], "train_structures": sizes[:, 1], "test_loss": loss})


@pytest.fixture(scope="module")
def law():
    return fit(load_runs(grid_frame()), replicates=100)


def straight_line(levels, noise=0.02):
    n = np.array(levels)
    loss = 2.0 * n**-0.3 * np.exp(noise * np.random.default_rng(0).normal(size=len(n)))
    return fit(load_runs(pd.DataFrame({"num_params": n, "test_loss": loss}), axes=("N",)), "power", replicates=100)


def test_extrapolating_a_straight_line_asks_for_runs_at_both_ends_with_elfvings_weights():
    """For a line on [-1, 1] and a target at x > 1 the c-optimal weights are (x + 1) / 2x at 1 and (x - 1) / 2x at -1.

    Source: Elfving 1952, doi:10.1214/aoms/1177729442 (the target's ray meets the hull of +-(1, z) at its upper edge).
    """
    law = straight_line(np.geomspace(1e4, 1e6, 5))
    levels = np.geomspace(1e2, 1e8, 7)  # log10 from 2 to 8: centre 5, half length 3
    ends = []
    for far in (10.0**9.5, 1e8):  # 1.5 and, the control, 1 half length from the centre
        state = state_of(law, find_target(law, "loss", {"N": far}, None), {"N": levels})
        picked = choose(replace(state, same_size=0.0), np.ones(7), 24.0, 24)
        share = np.bincount(picked, minlength=7) / len(picked)
        assert share[0] + share[-1] == 1.0
        ends.append(share[-1])
    assert ends[0] == pytest.approx(2.5 / 3.0, abs=0.06)  # the five runs there are, and whole runs only
    assert ends[1] == 1.0


def test_expected_width_agrees_with_refits_of_simulated_runs(law):
    """The spread of refits around the truth, with and without five more runs, beside the expected share."""
    result = next_runs(law, budget=40 * 6 * 6.4e6 * 6.4e7, **FAR)
    more = [tuple(run.sizes.values()) for run in result.recommended.runs]
    expected = result.recommended.runs[-1].width / result.width
    spreads = []
    for added in ((), more):
        exact = fit(load_runs(grid_frame(0.0, more=added)), replicates=0, objective="least_squares")
        problem, targets = exact.optimum.problem, []
        for seed in range(60):
            noisy = problem.log_loss + 0.02 * np.random.default_rng(seed).normal(size=len(problem.log_loss))
            own = problem.__class__(problem.form, problem.logs, noisy)
            ones = np.ones((1, len(noisy)))
            targets.append(minimize(own, exact.optimum.objective, ones, exact.optimum.theta[None]).theta[0])
        spreads.append(find_target(exact, "loss", FAR, None).values(exact, np.array(targets)).std())
    assert spreads[1] / spreads[0] == pytest.approx(expected, rel=0.35)
    assert expected < 0.5, "the control: the runs matter, so that agreement means something"


def test_rank_one_updates_are_the_inverse_of_the_summed_information(law):
    aim = find_target(law, "loss", FAR, None)
    sizes = {"N": np.array([2.5e7, 1e5, 6.4e7]), "D": np.array([2.5e8, 6e8, 1e6])}
    state = state_of(law, aim, sizes)
    after = state.with_run(0).with_run(2)
    a = state.candidates
    information = np.linalg.inv(state.covariance) + sum(a[:, k, :, None] * a[:, k, None, :] for k in (0, 2))
    np.testing.assert_allclose(after.covariance, np.linalg.inv(information), rtol=1e-5, atol=1e-9)
    np.testing.assert_allclose(state.after_each()[:, 2], state.with_run(2).variance, rtol=1e-9)
    gradient = aim.gradients(law, law.samples.theta[:1])[0]
    np.testing.assert_allclose(after.variance[0], gradient @ after.covariance[0] @ gradient, rtol=1e-6)


def test_repeated_runs_of_one_size_are_worth_less_than_runs_of_others():
    assert worth(np.array([0.0, 1.0, 4.0]), 0.0).tolist() == [0, 1, 4]
    assert worth(np.array([1.0, 4.0]), 0.5).tolist() == [1, 1.6]


def test_plan_is_as_good_as_trying_every_pair(law):
    aim = find_target(law, "loss", FAR, None)
    found = own_grid(law.table, ("N", "D"), measure_cost(law.table).price, np.inf, FAR)
    budget = 20 * 6 * 6.4e6 * 6.4e7
    state = state_of(law, aim, found.sizes)
    picked = choose(state, found.costs, budget, 2)
    pairs = itertools.combinations_with_replacement(np.flatnonzero(found.costs <= budget), 2)
    best = min(
        float(log_width(state.with_run(i).with_run(j).variance))
        for i, j in pairs
        if found.costs[i] + found.costs[j] <= budget
    )
    assert float(log_width(state.with_run(picked[0]).with_run(picked[1]).variance)) <= best + 0.011  # COST_WEIGHT


@pytest.mark.parametrize("budget", [1.0, 7.0, 80.0])
def test_every_plan_keeps_to_the_budget_and_the_advice_is_never_behind(law, budget):
    result = next_runs(law, budget=budget * 6 * 6.4e6 * 6.4e7, count=4, **FAR)
    for plan in (result.recommended, *result.alternatives):
        assert plan.cost <= result.budget * (1 + 1e-6)
        assert len(plan.runs) <= 4
        assert plan.runs[-1].width >= result.recommended.runs[-1].width * 0.99
    widths = [run.width for run in result.recommended.runs]
    assert widths == sorted(widths, reverse=True)
    assert widths[0] < result.width


def test_exponent_asks_for_runs_along_its_axis(law):
    result = next_runs(law, target="alpha", count=3)
    spans = [max(run.sizes["N"] for run in result.recommended.runs) / 6.4e6, result.width]
    assert spans[0] > 1
    assert result.recommended.runs[-1].width < result.width


def test_gradient_of_the_optimal_size_is_that_of_its_value(law):
    aim = find_target(law, "N*", {}, 1e18)
    theta = law.optimum.theta
    alpha, beta = law["alpha"].value, law["beta"].value
    big_a, big_b = law["A"].value, law["B"].value
    closed = (np.log(alpha * big_a / (beta * big_b)) + beta * np.log(1e18 / 6)) / (alpha + beta)
    assert aim.values(law, theta[None])[0] == pytest.approx(closed, abs=1e-4)
    steps = 1e-3 * np.eye(len(theta))
    numeric = [np.diff(aim.values(law, np.array([theta - step, theta + step])))[0] / 2e-3 for step in steps]
    np.testing.assert_allclose(aim.gradients(law, theta[None])[0], numeric, atol=0.02)


def test_cost_follows_the_tables_hours_with_their_overhead():
    frame = grid_frame()
    generator = np.random.default_rng(0)
    hours = 0.02 + 1e-8 * frame["num_params"] ** 0.8 * frame["train_structures"] ** 0.2
    frame["device_hours"] = hours * np.exp(0.05 * generator.normal(size=len(frame)))
    model = measure_cost(load_runs(frame)).price
    far = 0.02 + 1e-8 * 1e8**0.8 * 1e9**0.2
    assert model.unit == "device-hours"
    assert model({"N": 1e8, "D": 1e9})[0] == pytest.approx(far, rel=0.4)
    assert 0.02 < model.log_error < 0.1
    assert measure_cost(load_runs(grid_frame())).price({"N": 1e8, "D": 1e9})[0] == pytest.approx(6e17)


def test_flops_that_data_were_derived_from_are_not_measured_again():
    frame = grid_frame()
    frame["train_flops"] = 6 * frame["num_params"] * frame["train_structures"]
    derived = measure_cost(load_runs(frame.drop(columns="train_structures"), flops="train_flops")).price
    own = measure_cost(load_runs(frame)).price
    assert "D itself was derived so" in derived.sentence
    assert "fitted to 16 runs" in own.sentence
    assert derived({"N": 1e8, "D": 1e9})[0] == pytest.approx(6e17)


def test_more_epochs_cost_more_where_the_table_has_only_equal_steps(make_study):
    table = load_runs(make_study(), axes=("N", "D", "epochs"))
    model = measure_cost(table, ("N", "D", "epochs")).price
    few, many = model({"N": [1e4] * 2, "D": [1024.0] * 2, "epochs": [125.0, 1250.0]}) - model.overhead
    assert many == pytest.approx(10 * few)


def test_data_that_no_run_could_use_are_not_asked_for_and_sizes_are_told_as_width_depth_fraction(make_study):
    table = load_runs(make_study({"E": 0.05, "A": 2.0, "alpha": 0.35, "B": 3.0, "beta": 0.5}))
    result = next_runs(fit(table, replicates=100))
    assert max(run.sizes["D"] for run in result.recommended.runs) <= 16384
    assert result.cost.unit == "device-hours"
    assert any("fraction 1" in warning for warning in result.warnings)
    assert in_words(table, {"N": 14625.0, "D": 4096.0}) == "width 32, depth 2, fraction 0.25"
    assert in_words(table, {"N": 213000.0, "D": 32768.0}).startswith("width 128 at depth 2, 2 x all")


def test_exponents_that_the_data_do_not_determine_are_told(make_study):
    frame = make_study({"E": 0.05, "A": 1e-9, "alpha": 0.35, "B": 3.0, "beta": 0.5})
    warnings = next_runs(fit(load_runs(frame), replicates=100), N=1e9).warnings
    assert any("spread the sizes" in warning for warning in warnings)
    assert any("times the largest sampled" in warning for warning in warnings)


@pytest.mark.parametrize("replicates", [100, 1000])
def test_the_criterion_is_a_mean_over_sixty_refits(replicates):
    many = fit(load_runs(grid_frame()), replicates=replicates)
    assert len(state_of(many, find_target(many, "loss", FAR, None), FAR).variance) == 60


def test_a_plan_that_narrows_more_than_the_candidates_is_told(law):
    poor = next_runs(law, {"N": [1e5], "D": [1e6]}, budget=20 * 6 * 6.4e6 * 6.4e7, **FAR)
    assert any("more seeds would narrow the interval more" in warning for warning in poor.warnings)
    assert not any("would narrow" in warning for warning in next_runs(law, **FAR).warnings)


def test_candidates_may_be_lists_or_a_table(law):
    lists = next_runs(law, {"N": [1e7, 2e7], "D": [1e8]}, budget=1e17)
    table = next_runs(law, pd.DataFrame({"num_params": [1e7, 2e7], "train_structures": [1e8, 1e8]}), budget=1e17)
    assert [run.sizes for run in lists.recommended.runs] == [run.sizes for run in table.recommended.runs]
    assert {run.sizes["N"] for run in lists.recommended.runs} <= {1e7, 2e7}


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"target": "gamma"}, ConfigError, "choose loss, alpha, beta, N\\*"),
        ({"budget": -1.0}, ConfigError, "budget=-1"),
        ({"budget": 1.0}, DataError, "pays for no candidate"),
        ({"count": 0}, ConfigError, "count=0"),
        ({"N": -5.0}, ConfigError, "N=-5"),
        ({"epochs": 5.0}, ConfigError, "no axis epochs"),
        ({"compute": 1e20}, ConfigError, "for target=N"),
        ({"target": "alpha", "N": 1e9}, ConfigError, "leave them out"),
        ({"candidates": {"N": [1e7]}}, ConfigError, "needs N, D"),
        ({"candidates": {"N": [1e7], "D": [np.nan]}}, DataError, "entry 1"),
        ({"candidates": pd.DataFrame({"N": [1e7]})}, ConfigError, "no column D"),
    ],
)
def test_bad_input_is_told(law, change, error, words):
    with pytest.raises(error, match=words):
        next_runs(law, **change)


def test_figures_number_the_advice_and_show_every_alternative(law):
    result = next_runs(law, **FAR)
    words = " ".join(text.get_text() for text in plot_next_map(result).axes[0].texts)
    assert all(str(place) in words for place in range(1, len(result.recommended.runs) + 1))
    lines = {line.get_label() for line in plot_next_width(result).axes[0].lines}
    assert lines >= {"best plan of at most 5 runs", "next larger model", "more data", "more seeds"}
    assert (np.diff(result.frontier[:, 1]) <= 1e-3).all()
