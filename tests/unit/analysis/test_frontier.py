"""Compute-optimal sizes, what a run costs, what more still buys."""

import numpy as np
import pytest

from analysis.compute.allocation import closed_form, search
from analysis.compute.cost import measure_cost
from analysis.compute.decisions import decide
from analysis.compute.optimal import WEIGHTS, frontier
from analysis.compute.returns import marginal_values, saturation
from analysis.design.advice import next_runs
from analysis.design.targets import find_target
from analysis.fitting.law import fit
from analysis.fitting.resampling import interval
from analysis.report.decisions import decisions_text
from analysis.report.decisions_json import decisions_document
from analysis.study.document import strict
from analysis.tables import load_runs
from scaling.errors import ConfigError

LAW = {"E": 0.05, "A": 2.0, "alpha": 0.35, "B": 3.0, "beta": 0.5}
EPOCHS = 20.0


def fixed_epochs(frame, power=1.0):
    """The same study with a training length that follows D, as compute-optimal studies have it."""
    return frame.assign(
        epochs=EPOCHS,
        samples_seen=EPOCHS * frame["train_structures"],
        train_flops=400 * frame["num_params"] ** power * EPOCHS * frame["train_structures"],
    )


@pytest.fixture
def law(make_study):
    return fit(load_runs(fixed_epochs(make_study(LAW, scatter=0.0))), replicates=0)


def test_optimum_is_hoffmanns_closed_form(law):
    budget = np.array([1e10, 1e12])
    found = frontier(law, budget)
    a = LAW["beta"] / (LAW["alpha"] + LAW["beta"])
    scale = (LAW["alpha"] * LAW["A"] / (LAW["beta"] * LAW["B"])) ** (1 / (LAW["alpha"] + LAW["beta"]))
    nd = budget / (400 * EPOCHS)
    # 1e-4 is how well a noiseless fit finds its coefficients along the flat valley of E, A and alpha.
    np.testing.assert_allclose(found.num_params.value, scale * nd**a, rtol=1e-3)
    np.testing.assert_allclose(found.data_size.value, nd ** (1 - a) / scale, rtol=1e-3)
    assert found.exponent_n.value == pytest.approx(a, rel=1e-4)
    assert found.exponent_d.value == pytest.approx(1 - a, rel=1e-4)
    np.testing.assert_array_equal(found.num_params.ci95, [found.num_params.value] * 2)  # no scatter, no width


@pytest.mark.parametrize("form", ["chinchilla", "shared_exponent", "kaplan", "gamma"])
def test_no_other_division_of_the_budget_gives_less_loss(make_study, form):
    law = fit(load_runs(fixed_epochs(make_study(LAW, scatter=0.02))), form, replicates=0)
    found = frontier(law, 1e11)
    least = float(found.loss.value[0])
    for factor in (0.5, 0.98, 1.02, 2.0):
        other = law.predict(N=found.num_params.value * factor, D=found.data_size.value / factor)
        assert other[0] > least * (1 + 1e-9)


def test_search_agrees_with_the_closed_form_for_every_refit(make_study):
    law = fit(load_runs(make_study(LAW)), replicates=100)
    theta, nd = law.samples.theta, np.log([1e5, 1e7, 1e10])
    terms = dict(zip("ND", law.form.terms, strict=True))
    closed, searched = closed_form(law, theta, terms, WEIGHTS, nd), search(law, theta, WEIGHTS, nd, {})
    np.testing.assert_allclose(searched["N"], closed["N"], atol=1e-6)
    assert np.ptp(closed["N"], axis=0).min() > 1e-2, "the refits differ, so their agreement means something"


def test_answers_name_how_far_they_lie_beyond_the_runs(make_study):
    law = fit(load_runs(fixed_epochs(make_study(LAW, scatter=0.01))), replicates=100)
    found = frontier(law, [1e11, 1e15])
    np.testing.assert_allclose(found.beyond["C"], [1, 1e15 / law.table.axis("C").max()])
    assert found.beyond["N"][0] == 1
    assert found.beyond["N"][1] == pytest.approx(found.num_params.value[1] / law.table.num_params.max())
    (row,) = [line for line in decisions_text(decide(law, [1e11, 1e15])).splitlines() if line.startswith("      1e+15")]
    assert f"C {found.beyond['C'][1]:.3g}x, N {found.beyond['N'][1]:.3g}x" in row
    low, high = 100 * found.gain.ci95[:, 1]
    assert f"{100 * found.gain.value[1]:.1f} [{low:.1f}, {high:.1f}] %" in row


def test_intervals_widen_beyond_the_runs(make_study):
    law = fit(load_runs(fixed_epochs(make_study(LAW))), replicates=200)
    low, high = frontier(law, [1e10, 1e14]).num_params.ci95
    assert high[1] / low[1] > 1.5 * high[0] / low[0]


def test_intervals_of_few_runs_are_of_the_profile_as_all_others(make_study):
    """They do not depend on the bootstrap's seed, and that of N* is the one `next` starts from."""
    table = load_runs(fixed_epochs(make_study(LAW)))
    one, other = (frontier(fit(table, replicates=100, seed=seed), [1e10], flops_per_nd=6.0) for seed in (0, 1))
    for name in ("num_params", "loss", "gain", "exponent_n"):
        np.testing.assert_array_equal(getattr(one, name).ci95, getattr(other, name).ci95)
    assert one.law.uncertainty.method == "profile"
    target = find_target(one.law, "N*", {}, 1e10, cost=one.cost)
    (found,) = one.law.uncertainty.of(lambda theta: target.values(one.law, theta)[:, None])
    np.testing.assert_allclose(np.log(one.num_params.ci95[:, 0]), [found.low, found.high], rtol=1e-3)


def test_intervals_of_many_runs_are_percentiles_of_the_refits(make_study):
    law = fit(load_runs(fixed_epochs(make_study(LAW, depths=(1, 2, 3, 4)))), replicates=100)
    assert law.uncertainty.method == "bootstrap"
    found = frontier(law, [1e10])
    sizes = closed_form(law, law.samples.theta, dict(zip("ND", law.form.terms, strict=True)), WEIGHTS, np.log([1.25e6]))
    np.testing.assert_allclose(found.num_params.ci95[:, 0], np.exp(interval(sizes["N"][:, 0])), rtol=1e-9)
    np.testing.assert_allclose(found.data_size.ci95[:, 0], 1.25e6 / found.num_params.ci95[::-1, 0], rtol=1e-9)


def test_end_that_the_runs_do_not_bound_is_infinite(make_study):
    law = fit(load_runs(fixed_epochs(make_study({**LAW, "B": 0.0}))), replicates=100)
    low, high = saturation(law, "D").size.ci95[:, 0]
    assert low == 0 or high == np.inf
    strict(decisions_document(decide(law)))


def test_cost_is_measured_with_its_spread(make_study):
    cost = measure_cost(load_runs(fixed_epochs(make_study())))
    assert (cost.flops_per_param_sample, cost.epochs) == (pytest.approx(400), EPOCHS)
    assert cost.spread == pytest.approx((400, 400))
    assert cost.powers == pytest.approx((1, 1))
    assert cost.problem is None
    assert "90 edges a structure that is 4.4 FLOPs per parameter and edge" in cost.statement
    sloped = measure_cost(load_runs(fixed_epochs(make_study(), power=0.9)))
    assert sloped.powers == pytest.approx((0.9, 1))
    assert sloped.spread[1] > 1.3 * sloped.spread[0]


def test_samples_seen_as_data_are_not_repeated_again(make_study):
    frame = fixed_epochs(make_study())
    cost = measure_cost(load_runs(frame, data_size="samples_seen"))
    assert (cost.flops_per_param_sample, cost.epochs) == (pytest.approx(400), 1)


def test_equal_steps_say_that_data_cost_no_compute(make_study):
    table = load_runs(make_study())
    cost = measure_cost(table)
    assert cost.powers == pytest.approx((1, 0), abs=1e-6)
    assert "all of them saw the same 128k samples" in cost.problem
    decisions = decide(fit(table, replicates=100))
    text = decisions_text(decisions)
    assert cost.problem in decisions.frontier.problems
    assert "These runs determine none:" in text
    assert "N* ~ C^a" not in text
    assert decisions_document(decisions)["frontier"]["usable"] is False


def test_a_stated_cost_is_taken_and_contradicted(make_study):
    found = frontier(fit(load_runs(make_study(LAW)), replicates=200), 1e9, flops_per_nd=6.0)
    assert found.cost.flops_per_nd == 6
    assert found.problems == ()
    assert "not that of the runs" in found.cautions[0]
    assert found.num_params.value[0] * found.data_size.value[0] * 6 == pytest.approx(1e9)


def test_exponents_that_are_not_identified_give_a_verdict(make_study):
    frame = fixed_epochs(make_study(LAW, widths={4: 373, 8: 1161}, structures=(64, 128, 256, 512, 1024)))
    law = fit(load_runs(frame), replicates=100)
    found = frontier(law)
    assert any("do not determine alpha" in problem for problem in found.problems)
    text = decisions_text(decide(law))
    assert "N* ~ C^a" not in text
    assert "N saturates at D = 1.02k at no size that these runs determine" in text
    strict(decisions_document(decide(law)))


def test_saturated_axis_has_the_stated_share_of_the_loss(law):
    found = saturation(law, "N", share=0.1, given=np.array([1e3, 1e5]))
    term = law["A"].value * found.size.value ** -law["alpha"].value
    np.testing.assert_allclose(term / law.predict(N=found.size.value, D=found.given), 0.1, rtol=1e-6)
    assert found.size.value[1] > found.size.value[0]


def test_a_law_without_floor_never_saturates(make_study):
    law = fit(load_runs(make_study(LAW)), "power", replicates=0)
    assert saturation(law, "N").beyond[0] > 1e8


def test_marginal_value_is_exponent_times_share(make_study):
    frame = fixed_epochs(make_study(LAW, scatter=0.0))
    frame["device_hours"] = 1e-6 * frame["num_params"] ** 0.5 * frame["train_structures"]
    law = fit(load_runs(frame), replicates=0)
    of_n, of_d = marginal_values(law, N=1e4, D=1e3)
    share = law["A"].value * 1e4 ** -law["alpha"].value / law.predict(N=1e4, D=1e3)[0]
    assert of_n.left.value == pytest.approx(share)
    assert of_n.elasticity.value == pytest.approx(share * law["alpha"].value, rel=1e-5)
    assert of_n.hours_exponent == pytest.approx(0.5)
    assert of_n.per_hours.value == pytest.approx(of_n.elasticity.value / 0.5)
    assert of_d.per_hour.value == pytest.approx(of_d.elasticity.value / (1e-6 * 1e2 * 1e3))


def bent(frame):
    """Losses with a product of the log sizes, which no sum of powers has."""
    bend = np.log(frame["num_params"] / 4e3) * np.log(frame["train_structures"] / 1e3)
    return frame.assign(test_loss=frame["test_loss"] * np.exp(0.03 * bend))


def test_a_form_that_does_not_fit_and_mixed_runs_are_told_beside_every_answer(make_study):
    frame = fixed_epochs(make_study(LAW, scatter=0.02)).assign(Task=["a"] * 10 + ["b"] * 15)
    spoilt, clean = (fit(load_runs(one), replicates=100) for one in (bent(frame), frame))
    for law, misfit in ((spoilt, True), (clean, False)):
        decisions = decide(law)
        said = (
            decisions_text(decisions),
            " ".join(decisions_document(decisions)["frontier"]["cautions"]),
            " ".join(next_runs(law).warnings),
        )
        assert all("across different tasks (a, b)" in words for words in said)
        assert all(("form does not fit" in words) == misfit for words in said)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda law: frontier(law, -1.0), "must be positive"),
        (lambda law: frontier(law, 1e60), "beyond the runs of the table: FLOPs must be in the unit"),
        (lambda law: frontier(law, flops_per_nd=0.0), "flops_per_nd=0.0 must be a positive number"),
        (lambda law: saturation(law, "C"), "has no axis C"),
        (lambda law: saturation(law, "N", share=1.0), "share=1.0 must be between 0 and 1"),
    ],
)
def test_wrong_questions_are_told(law, call, message):
    with pytest.raises(ConfigError, match=message):
        call(law)


def test_forms_of_one_axis_have_no_frontier(make_study):
    law = fit(load_runs(make_study(LAW)), "power_floor", replicates=0)
    with pytest.raises(ConfigError, match="use chinchilla"):
        frontier(law)
    assert "they need a form with N and D" in decisions_text(decide(law))


def test_published_frontier_of_the_chinchilla_data(chinchilla_csv):
    """a = 0.513 with a standard error of 0.020. Source: Besiroglu et al. 2024, arXiv:2404.10102, notebook cell 59."""
    table = load_runs(chinchilla_csv, num_params="Model Size", flops="Training FLOP", loss="loss").drop_highest(5)
    found = frontier(fit(table, objective="lad", replicates=0), 5.76e23)
    assert found.exponent_n.value == pytest.approx(0.513, abs=0.001)
    assert found.cost.flops_per_nd == 6
    assert 15 < found.ratio.value[0] < 25
