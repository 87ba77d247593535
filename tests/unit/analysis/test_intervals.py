"""Profile intervals: exact where theory is, invariant, honest about open ends, seeds and wrong forms."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import t as student

from analysis.fitting.influence import influences, lever
from analysis.fitting.law import fit
from analysis.fitting.profile import numerical
from analysis.plots import plot
from analysis.tables import load_runs
from scaling.errors import ConfigError

LAW = {"E": 0.05, "A": 2.0, "alpha": 0.35, "B": 3.0, "beta": 0.5}


def study_law(make_study, law=LAW, form="chinchilla", replicates=0, **choice):
    return fit(load_runs(make_study(law, **choice)), form, replicates=replicates)


@pytest.mark.parametrize("level", [0.8, 0.95])
def test_interval_of_a_straight_line_is_students(make_study, level):
    """The power law is a line in logarithms, where the profile with F is exactly the t interval."""
    table = load_runs(make_study({**LAW, "E": 0.0, "B": 0.0}, scatter=0.05))
    law = fit(table, "power", objective="least_squares", replicates=0)
    x = np.log(table.num_params) - np.log(table.num_params).mean()
    error = law.residual_sd / np.sqrt(x @ x)
    half = student.ppf(0.5 + level / 2, len(x) - 2) * error
    found = law.interval("alpha", level)
    np.testing.assert_allclose(
        [found.low, found.high], [law["alpha"].value - half, law["alpha"].value + half], rtol=1e-3
    )
    far = np.log(1e6) - np.log(table.num_params).mean()
    half = student.ppf(0.5 + level / 2, len(x) - 2) * law.residual_sd * np.sqrt(1 / len(x) + far**2 / (x @ x))
    band = np.log(law.band(level=level, N=1e6)[:, 0] / law.predict(N=1e6)[0])
    np.testing.assert_allclose(band, [-half, half], rtol=1e-3)
    half = np.hypot(half, student.ppf(0.5 + level / 2, len(x) - 2) * law.residual_sd)
    runs = np.log(law.band(level=level, of_runs=True, N=1e6)[:, 0] / law.predict(N=1e6)[0])
    np.testing.assert_allclose(runs, [-half, half], rtol=1e-3)


def test_coefficient_is_bounded_however_far_the_sizes_are_from_one():
    """log A is the line's intercept at C = 1, fifty e-folds from the runs: its interval is Student's."""
    flops = np.repeat(np.geomspace(1e20, 1e24, 5), 2)
    loss = flops**-0.8 * np.exp(np.random.default_rng(0).normal(size=10))
    table = load_runs(pd.DataFrame({"train_flops": flops, "test_loss": loss}), axes=("C",))
    law = fit(table, "power", axis="C", objective="least_squares", replicates=0)
    x = np.log(flops)
    error = law.residual_sd * np.sqrt(1 / len(x) + x.mean() ** 2 / ((x - x.mean()) @ (x - x.mean())))
    found, half = law.interval(law.params[0].name), student.ppf(0.975, len(x) - 2) * error
    assert half > 6
    np.testing.assert_allclose(
        np.log([found.low, found.high]), np.log(law.params[0].value) + np.array([-half, half]), rtol=2e-3
    )


def test_ends_are_where_the_refitted_objective_has_risen_to_the_threshold(make_study):
    law = study_law(make_study, scatter=0.05)
    profile, values = law.uncertainty.profile, numerical(lambda theta: theta)
    found = law.interval("beta", 0.9)
    targets = np.linspace(found.low - 0.02, found.high + 0.02, 41)
    at, rise = profile.curve(values, 4, targets)
    ends = np.interp([found.low, found.high, law["beta"].value], at, rise)
    threshold = student.ppf(0.95, profile.noise.freedom) ** 2
    np.testing.assert_allclose(ends[:2], threshold, rtol=0.03)
    assert ends[2] < 0.05


def test_interval_does_not_depend_on_the_unit_of_the_loss(make_study):
    frame = make_study(LAW, scatter=0.05)
    small, large = (
        fit(load_runs(frame), replicates=0),
        fit(load_runs(frame.assign(test_loss=1e4 * frame["test_loss"])), replicates=0),
    )
    for name in ("alpha", "E"):
        unit = 1e4 if name == "E" else 1.0
        one, other = small.interval(name), large.interval(name)
        np.testing.assert_allclose([other.low, other.high], [unit * one.low, unit * one.high], rtol=0.01)


def test_axis_that_does_not_matter_has_an_open_interval(make_study):
    interval = study_law(make_study, {**LAW, "B": 0.0}).interval("beta")
    assert interval.high == np.inf
    assert interval.high_open
    assert not study_law(make_study).interval("beta").high_open


def test_parameter_that_noiseless_runs_do_not_see_has_no_ends(make_study):
    law = study_law(make_study, {**LAW, "B": 0.0}, scatter=0.0)
    for name, is_open in (("alpha", False), ("A", False), ("B", True), ("beta", True)):
        found = law.interval(name)
        assert (found.low_open, found.high_open) == (is_open, is_open)
        assert np.isinf(found.high) == is_open


def test_repeats_of_the_largest_size_do_not_make_the_scatter_look_smaller():
    """The fit follows six seeds at the end of a line, so their residuals add up to little; that is allowed for."""
    sizes = np.concatenate([4.0 ** np.arange(7), np.full(5, 4.0**6)])
    seeds = np.concatenate([np.zeros(7), np.arange(1, 6)]).astype(int)
    generator = np.random.default_rng(0)
    ratios = []
    for _ in range(200):
        loss = sizes**-0.3 * np.exp(0.05 * generator.normal(size=len(sizes)))
        frame = pd.DataFrame({"num_params": 1e4 * sizes, "train_structures": 1e5, "test_loss": loss, "seed": seeds})
        law = fit(load_runs(frame), "power", objective="least_squares", replicates=0)
        noise = law.uncertainty.noise
        assert 4 < noise.freedom < 5  # 7 sizes, 2 parameters, one size that weighs more
        ratios.append(2 * noise.objective_per_f / 0.05**2)
    assert abs(np.mean(ratios) - 1) < 4 * np.std(ratios) / np.sqrt(len(ratios))  # over (M / G) (G - P): 0.68


def test_repeating_runs_by_seed_does_not_make_their_shared_misfit_smaller(make_study):
    """Copies of one run under nine seeds tell no more than the run; without seeds they count as nine."""
    frame = make_study(LAW, scatter=0.05)
    copies = [frame.assign(seed=k, run_id=frame["run_id"] + f"-{k}") for k in range(9)]
    many = pd.concat(copies)
    once, again = (fit(load_runs(one), objective="least_squares", replicates=0) for one in (frame, many))
    blind = fit(load_runs(many.assign(seed=0)), objective="least_squares", replicates=0)
    width = [np.ptp(law.band(N=1e5, D=1e5)) for law in (once, again, blind)]
    assert width[1] == pytest.approx(width[0], rel=0.02)
    assert width[2] < 0.5 * width[0]


def test_predicted_loss_far_outside_is_flagged_and_near_is_not(make_study):
    law = study_law(make_study, {**LAW, "E": 0.0}, scatter=0.1)
    assert law.judge_loss(N=5e4, D=1e4).identified
    far = law.judge_loss(N=5e9, D=1e9)
    assert "spans more than a factor 4" in far.sentence or "do not bound" in far.sentence


@pytest.mark.parametrize("level", [0.3, 1.0, 95])
def test_level_that_is_none_is_refused(make_study, level):
    law = study_law(make_study)
    with pytest.raises(ConfigError, match=f"level={level}"):
        law.interval("alpha", level)
    with pytest.raises(ConfigError, match="parameter gamma is not one of form chinchilla: E, A, B, alpha, beta"):
        law.interval("gamma")


def test_form_without_interaction_is_rejected_where_there_is_one(make_study):
    frame = make_study(LAW, scatter=0.02)
    n, d = frame["num_params"] / 4e3, frame["train_structures"] / 1e3
    frame["test_loss"] *= np.exp(0.03 * np.log(n) * np.log(d))
    law = fit(load_runs(frame), replicates=0)
    assert law.lack_of_fit.p_value < 1e-3
    assert "pattern in N and D" in law.lack_of_fit.sentence
    assert not study_law(make_study, scatter=0.02).lack_of_fit.significant


def test_true_form_is_rejected_as_rarely_as_it_says(make_study):
    found = [study_law(make_study, seed=seed).lack_of_fit.p_value for seed in range(40)]
    assert np.mean(np.array(found) < 0.05) <= 0.15  # 6 of 40 at 5 %: fewer than 1 suite in 50


def test_misfit_without_a_pattern_is_noise_and_one_with_a_pattern_is_not(make_study):
    frame = make_study(LAW, scatter=0.01, seeds=(0, 1, 2))
    erratic = np.sin(1e3 * frame["num_params"] + 7 * frame["train_structures"])
    ordered = np.log(frame["num_params"] / 4e3) * np.log(frame["train_structures"] / 1e3)
    for misfit, significant in ((erratic, False), (ordered, True)):
        spoilt = frame.assign(test_loss=frame["test_loss"] * np.exp(0.05 * misfit))
        assert fit(load_runs(spoilt), replicates=0).lack_of_fit.significant == significant


def test_runs_that_carry_an_exponent_are_named(make_study):
    frame = make_study(LAW, scatter=0.02)
    spoilt = frame["run_id"][(frame["train_structures"] == 64) & (frame["width"] <= 8)].tolist()
    frame.loc[frame["run_id"].isin(spoilt), "test_loss"] *= 1.5
    law = fit(load_runs(frame), replicates=0, objective="least_squares")
    found = lever(law, "beta", 2)
    assert set(found.runs) == set(spoilt)
    clean = fit(load_runs(frame[~frame["run_id"].isin(spoilt)]), replicates=0, objective="least_squares")
    assert found.without == pytest.approx(clean["beta"].value, rel=1e-4)
    assert {one.run for one in influences(law)[:2]} & set(spoilt)


def test_five_points_of_the_published_table_carry_beta(chinchilla_csv):
    table = load_runs(chinchilla_csv, num_params="Model Size", flops="Training FLOP", loss="loss")
    found = lever(fit(table, replicates=0), "beta")
    assert (found.value, found.without) == pytest.approx((0.453, 0.367), abs=0.001)


def test_large_table_reports_the_published_intervals(chinchilla_csv):
    table = load_runs(chinchilla_csv, num_params="Model Size", flops="Training FLOP", loss="loss").drop_highest(5)
    law = fit(table)
    assert law.uncertainty.method == "bootstrap"
    assert law["alpha"].ci95 == pytest.approx((0.317, 0.373), abs=0.004)  # arXiv:2404.10102
    assert law["beta"].ci95 == pytest.approx((0.331, 0.415), abs=0.01)


@pytest.mark.parametrize("kind", ["corner", "profile"])
def test_figures_of_uncertainty_are_drawn(make_study, kind):
    figure = plot(study_law(make_study, replicates=100), kind)
    labels = [axes.get_xlabel() for axes in figure.axes]
    assert any(label.startswith("β") for label in labels)
    with pytest.raises(ConfigError, match=r"bootstrap|two exponents"):
        plot(study_law(make_study, form="power_floor"), kind)
