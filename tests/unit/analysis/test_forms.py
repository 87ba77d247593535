"""The forms: derivatives, start values, units."""

import numpy as np
import pytest

from analysis.forms import FORMS, find_form
from analysis.powers import Power, SumOfPowers, non_negative_least_squares
from scaling.errors import ConfigError

SHARED_EXPONENT = SumOfPowers("shared", (Power("A", "N", "alpha"), Power("B", "D", "alpha")), "E", "test")
ALL = [*FORMS.values(), FORMS["power_floor"].along("D"), SHARED_EXPONENT]


def draw(form, num_replicates, generator):
    columns = {"floor": (0.01, 1.0), "coefficient": (-2.0, 2.0), "exponent": (0.1, 2.0)}
    return np.stack([generator.uniform(*columns[p.kind], num_replicates) for p in form.parameters], 1)


@pytest.mark.parametrize("form", ALL, ids=lambda form: f"{form.name}-{''.join(form.axes)}")
def test_gradient_matches_finite_differences(form):
    generator = np.random.default_rng(0)
    theta, logs = draw(form, 4, generator), generator.normal(size=(len(form.axes), 9))
    gradient = form.evaluate(theta, logs)[1]
    step = 1e-6
    for column in range(theta.shape[1]):
        shift = step * np.eye(theta.shape[1])[column]
        numeric = (form.evaluate(theta + shift, logs)[0] - form.evaluate(theta - shift, logs)[0]) / (2 * step)
        # Central differences of functions of size 10: truncation 1e-11, rounding 1e-9.
        np.testing.assert_allclose(gradient[:, column], numeric, rtol=1e-6, atol=1e-8)
        if column:
            assert not np.allclose(gradient[:, column - 1], numeric, rtol=1e-3)


@pytest.mark.parametrize("form", ALL, ids=lambda form: f"{form.name}-{''.join(form.axes)}")
def test_public_parameters_give_the_law_in_the_users_units(form):
    generator = np.random.default_rng(1)
    theta = draw(form, 3, generator)
    centre, scale = generator.uniform(3, 8, len(form.axes)), 0.07
    sizes = np.exp(generator.uniform(2, 9, (len(form.axes), 6)))
    expected = scale * form.evaluate(theta, np.log(sizes) - centre[:, None])[0]
    values = form.public(theta, centre, scale)
    names = [parameter.name for parameter in form.parameters]
    for row, value in enumerate(values):
        public = dict(zip(names, value, strict=True))
        loss = np.full(6, public.get("E", 0.0))
        for term in form.terms:
            loss += public[term.coefficient] * sizes[form.axes.index(term.axis)] ** -public[term.exponent]
        np.testing.assert_allclose(loss, expected[row], rtol=1e-10)


def test_best_start_of_a_noiseless_table_is_near_the_truth():
    form = FORMS["chinchilla"]
    generator = np.random.default_rng(2)
    logs = generator.normal(size=(2, 60))
    truth = np.array([[0.5, -0.7, -0.2, 0.4, 0.6]])
    loss = form.evaluate(truth, logs)[0][0]
    start = form.starts(logs, loss, np.ones(60))[0]
    np.testing.assert_allclose(start[-2:], truth[0, -2:], rtol=0.25)  # the grid's spacing is 24 %


def test_non_negative_least_squares_matches_scipy():
    from scipy.optimize import nnls

    generator = np.random.default_rng(3)
    design, target = generator.normal(size=(20, 3, 15)), generator.normal(size=15)
    found, squares = non_negative_least_squares(design, target)
    clipped = 0
    for matrix, coefficients, square in zip(design, found, squares, strict=True):
        reference, length = nnls(matrix.T, target)
        np.testing.assert_allclose(coefficients, reference, atol=1e-9)
        np.testing.assert_allclose(square, length**2, rtol=1e-9)
        clipped += int((reference == 0).any())
    assert clipped > 5, "the comparison must meet the bound"


def test_unknown_form_is_said_to_be_unsupported():
    with pytest.raises(ConfigError, match=r"form=kaplan is not supported; choose one of power, "):
        find_form("kaplan")


def test_axis_for_a_form_of_two_axes_is_refused():
    with pytest.raises(ConfigError, match="one-axis"):
        find_form("chinchilla", "N")
