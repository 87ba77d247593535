"""The fit: recovers known laws, finds the published optimum, says when it cannot."""

import numpy as np
import pytest

from analysis.fitting.descent import minimize
from analysis.fitting.law import fit
from analysis.fitting.objective import Problem, choose_objective
from analysis.fitting.optimum import find_optimum
from analysis.forms.registry import FORMS
from analysis.tables import load_runs
from scaling.errors import ConfigError, DataError

LAW = {"E": 0.05, "A": 2.0, "alpha": 0.35, "B": 3.0, "beta": 0.5}
HUBER = {"E": 1.8172, "A": 477.83, "B": 2143.4, "alpha": 0.3473, "beta": 0.3672}
LAD = {"E": 1.81686, "A": 482.006, "B": 2085.434, "alpha": 0.34781, "beta": 0.36585}
BOOTSTRAP_SE = {"E": 0.0257, "A": 124.5, "B": 1293.0, "alpha": 0.0154, "beta": 0.0206}


def chinchilla_table(path):
    return load_runs(path, num_params="Model Size", flops="Training FLOP", loss="loss").drop_highest(5)


@pytest.mark.parametrize("objective", ["huber", "lad", "least_squares"])
def test_noiseless_coefficients_are_recovered(make_study, objective):
    law = fit(load_runs(make_study(LAW, scatter=0.0)), objective=objective, replicates=0)
    for name, value in LAW.items():
        assert law[name].value == pytest.approx(value, rel=1e-4)  # E and A trade off; 1e-4 is the flat valley's width
    assert law.optimum.converged


def test_scatter_moves_the_coefficients(make_study):
    law = fit(load_runs(make_study(LAW, scatter=0.05)), replicates=0)
    assert abs(law["alpha"].value / LAW["alpha"] - 1) > 1e-3


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (lambda law: law.predict(N=-1, D=1e3), "N=-1 must be a positive number"),
        (lambda law: law.predict(N=1e3, D=[1e3, np.nan]), "D=nan must be a positive number"),
        (lambda law: law.predict(N="a", D=1e3), "N='a' must be a positive number"),
        (lambda law: law.predict(N=[1e3, 2e3], D=[1e3] * 3), "2 of N, 3 of D"),
        (lambda law: law.band(N=np.inf, D=1e3), "N=inf must be"),
        (lambda law: law.judge_loss(N=0, D=1e3), "N=0 must be"),
        (lambda law: law.judge_loss(N=[1e3, 2e3], D=1e3), "one size is judged at a time, e.g. N=1e9, D=1e9"),
        (lambda law: law.predict(N=1e3), "also needs a size along D"),
        (lambda law: law["gamma"], "gamma is not one of form chinchilla: E, A, B, alpha, beta"),
    ],
)
def test_sizes_and_names_that_cannot_be_are_told(make_study, ask, message):
    law = fit(load_runs(make_study(LAW)), replicates=0)
    with pytest.raises(ConfigError, match=message):
        ask(law)


@pytest.mark.parametrize("axis", ["N", "D"])
@pytest.mark.parametrize("form", ["power", "power_floor"])
def test_one_axis_forms_are_recovered_along_either_axis(make_study, form, axis):
    truth = {"E": 0.0, "A": 0.0, "alpha": 1.0, "B": 0.0, "beta": 1.0}
    names = {"N": ("A", "alpha"), "D": ("B", "beta")}[axis]
    truth.update({names[0]: 3.0, names[1]: 0.4, "E": 0.02 if form == "power_floor" else 0.0})
    law = fit(load_runs(make_study(truth, scatter=0.0)), form, axis=axis, replicates=0)
    for estimate in law.params:
        assert estimate.value == pytest.approx(truth[estimate.name], rel=1e-4)


def test_published_huber_optimum_is_found(chinchilla_csv):
    law = fit(chinchilla_table(chinchilla_csv), replicates=0)
    assert len(law.table) == 240
    assert law.optimum.objective.delta == 1e-3
    for name, value in HUBER.items():
        assert law[name].value == pytest.approx(value, rel=1e-3)
    assert law.optimum.value == pytest.approx(0.001018274, rel=1e-6)
    assert law.optimum.converged
    assert law["B"].value != pytest.approx(LAD["B"], rel=1e-3), "the two objectives must differ"


def test_published_point_is_the_least_absolute_deviation(chinchilla_csv):
    law = fit(chinchilla_table(chinchilla_csv), objective="lad", replicates=0)
    for name, value in LAD.items():
        assert law[name].value == pytest.approx(value, rel=1e-3)


def test_five_highest_losses_move_beta(chinchilla_csv):
    table = load_runs(chinchilla_csv, num_params="Model Size", flops="Training FLOP", loss="loss")
    assert fit(table, replicates=0)["beta"].value == pytest.approx(0.453, abs=0.002)


@pytest.mark.parametrize("seed", [0, 1])
def test_published_standard_errors_are_found(chinchilla_csv, seed):
    """B's bootstrap distribution has a long tail: over 200 seeds its standard error is 1.044 +- .047 times the
    published one, within 10 % of it for 178 of them. That of the others' is 1 %.
    """
    law = fit(chinchilla_table(chinchilla_csv), replicates=4000, seed=seed)
    for name, error in BOOTSTRAP_SE.items():
        assert law[name].se == pytest.approx(error, rel=0.2 if name == "B" else 0.1)


def test_every_start_ends_in_the_same_minimum(chinchilla_csv):
    optimum = find_optimum(chinchilla_table(chinchilla_csv), FORMS["chinchilla"], "huber", None)
    assert optimum.starts_agreeing == optimum.starts
    assert optimum.gradient < 1e-6


def test_batched_replicates_match_single_ones(make_study):
    table = load_runs(make_study(LAW))
    optimum = find_optimum(table, FORMS["chinchilla"], "huber", None)
    counts = np.random.default_rng(0).multinomial(25, np.full(25, 1 / 25), size=6).astype(float)
    start = np.repeat(optimum.theta[None], 6, axis=0)
    together = minimize(optimum.problem, optimum.objective, counts, start)
    for row in range(6):
        alone = minimize(optimum.problem, optimum.objective, counts[[row]], start[[row]])
        np.testing.assert_allclose(together.theta[row], alone.theta[0], rtol=1e-9, atol=1e-12)
    assert np.abs(together.theta[0] - together.theta[1]).max() > 1e-3


def test_minimum_is_as_low_as_a_general_optimiser_finds(make_study):
    from scipy.optimize import minimize as scipy_minimize

    table = load_runs(make_study(LAW))
    optimum = find_optimum(table, FORMS["chinchilla"], "huber", 1e-2)
    problem, objective = optimum.problem, choose_objective("huber", 1e-2)
    rough = scipy_minimize(
        lambda theta: float(objective.rho(problem.residuals(theta[None])[0]).sum()),
        optimum.theta + 0.05,
        method="Nelder-Mead",
        options={"maxiter": 6000, "maxfev": 6000, "xatol": 1e-9, "fatol": 1e-14},
    )
    assert optimum.value <= rough.fun * (1 + 1e-9)


def test_same_seed_gives_the_same_numbers(make_study):
    table = load_runs(make_study(LAW))
    first, second, other = (fit(table, replicates=200, seed=seed)["alpha"].se for seed in (3, 3, 4))
    assert first == second
    assert first != other


def test_delta_of_a_small_table_follows_its_scatter(make_study):
    deltas = [
        fit(load_runs(make_study(LAW, scatter=s)), replicates=0).optimum.objective.delta for s in (0.0, 0.05, 0.1)
    ]
    assert deltas[0] == 1e-3
    assert 0.03 < deltas[1] < 0.15
    assert deltas[1] < deltas[2] < 0.3


def test_too_few_runs_are_told_with_the_number_needed(make_study):
    table = load_runs(make_study(widths={4: 373, 8: 1161}, structures=(64, 256)))
    with pytest.raises(DataError, match=r"5 parameters.*at least 6 runs; 4 of"):
        fit(table)


def test_one_size_is_told_by_axis(make_study):
    table = load_runs(make_study(widths={4: 373}, structures=(32, 64, 128, 256, 512, 1024)))
    with pytest.raises(DataError, match="two sizes of num_params; all 6 runs have 373"):
        fit(table)


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        ({"objective": "l2"}, "objective=l2 is not supported"),
        ({"delta": -1.0}, "delta=-1.0 must be a positive number"),
        ({"objective": "lad", "delta": 1e-3}, "lad has none"),
        ({"replicates": 5}, "bootstrap=5"),
        ({"form": "bnsl"}, "form=bnsl is not supported"),
    ],
)
def test_wrong_choices_are_told(make_study, choice, message):
    with pytest.raises(ConfigError, match=message):
        fit(load_runs(make_study(LAW)), **choice)


def test_bound_and_gradient_are_reported_where_an_axis_does_not_matter(make_study):
    law = fit(load_runs(make_study({**LAW, "B": 0.0}, scatter=0.0)), replicates=0)
    problem = law.optimum.problem
    assert isinstance(problem, Problem)
    assert not law.verdicts[1].identified
