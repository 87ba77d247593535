"""The forms: derivatives, start values, units."""

import numpy as np
import pandas as pd
import pytest

from analysis.fitting.law import fit
from analysis.forms.registry import FORMS, find_form
from analysis.forms.sums import non_negative_least_squares
from analysis.tables import AXES, load_runs
from scaling.errors import ConfigError

ALL = [*FORMS.values(), *(FORMS[name].along("D") for name in ("power_floor", "m3", "m4", "bnsl2"))]


def broken(axis, breaks):
    def loss(p, x):
        power = p[{"N": "A", "D": "B"}[axis]] * x[axis] ** -p["c0"]
        for i in range(1, breaks + 1):
            power *= (1 + (x[axis] / p[f"d{i}"]) ** (1 / p[f"f{i}"])) ** (-p[f"c{i}"] * p[f"f{i}"])
        return p["E"] + power

    return loss


def effective(p, x):
    more = p["R"] * (1 - np.exp(-(x["epochs"] - 1) / p["R"]))
    return x["D"] * np.where(x["epochs"] < 1, x["epochs"], 1 + more)


#: Each form once more, as its paper writes it, in the user's units; M4 is tested as the equation it solves.
PAPERS = {
    "power": lambda p, x: p["A"] / x["N"] ** p["alpha"],
    "power_floor": lambda p, x: p["E"] + p["A"] / x["N"] ** p["alpha"],
    "power_floor D": lambda p, x: p["E"] + p["B"] / x["D"] ** p["beta"],
    "compute": lambda p, x: p["E"] + p["K"] / x["C"] ** p["kappa"],
    "m3": lambda p, x: p["A"] * (1 / x["N"] + p["g"]) ** p["alpha"],
    "m3 D": lambda p, x: p["B"] * (1 / x["D"] + p["g"]) ** p["beta"],
    "bnsl1": broken("N", 1),
    "bnsl2": broken("N", 2),
    "bnsl2 D": broken("D", 2),
    "chinchilla": lambda p, x: p["E"] + p["A"] / x["N"] ** p["alpha"] + p["B"] / x["D"] ** p["beta"],
    "shared_exponent": lambda p, x: p["E"] + p["A"] / x["N"] ** p["alpha"] + p["B"] / x["D"] ** p["alpha"],
    "kaplan": lambda p, x: ((p["N_c"] / x["N"]) ** (p["alpha_N"] / p["alpha_D"]) + p["D_c"] / x["D"]) ** p["alpha_D"],
    "gamma": lambda p, x: p["E"] + (p["A"] / x["N"] ** p["alpha"] + p["B"] / x["D"] ** p["beta"]) ** p["gamma"],
    "data_constrained": lambda p, x: p["E"] + p["A"] / x["N"] ** p["alpha"] + p["B"] / effective(p, x) ** p["beta"],
    "width_depth_data": lambda p, x: (
        p["E"] + p["A_w"] / x["width"] ** p["a"] + p["A_d"] / x["depth"] ** p["b"] + p["B"] / x["D"] ** p["beta"]
    ),
}


def key_of(form):
    return form.name if FORMS[form.name] is form else f"{form.name} {''.join(form.axes)}"


def draw(form, num_replicates, generator):
    columns = {"floor": (0.01, 1.0), "coefficient": (-2.0, 2.0), "exponent": (0.1, 2.0), "shape": (0.2, 1.5)}
    return np.stack([generator.uniform(*columns[p.kind], num_replicates) for p in form.parameters], 1)


@pytest.mark.parametrize("form", ALL, ids=key_of)
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


@pytest.mark.parametrize("form", ALL, ids=key_of)
def test_public_parameters_give_the_papers_law_in_the_users_units(form):
    generator = np.random.default_rng(1)
    theta = draw(form, 3, generator)
    centre, scale = generator.uniform(3, 8, len(form.axes)), 0.07
    centre[[axis in form.uncentred for axis in form.axes]] = 0.0
    sizes = np.exp(centre[:, None] + generator.uniform(-2, 2, (len(form.axes), 6)))
    expected = scale * form.evaluate(theta, np.log(sizes) - centre[:, None])[0]
    values = form.public(theta, centre, scale)
    named = dict(zip(form.axes, sizes, strict=True))
    for value, loss in zip(values, expected, strict=True):
        public = dict(zip([parameter.name for parameter in form.parameters], value, strict=True))
        if form.name == "m4":
            coefficient, exponent = ("A", "alpha") if form.axis == "N" else ("B", "beta")
            left = (loss - public["E"]) / (public["E0"] - loss) ** public["a"]
            np.testing.assert_allclose(left, public[coefficient] / sizes[0] ** public[exponent], rtol=1e-8)
        else:
            np.testing.assert_allclose(PAPERS[key_of(form)](public, named), loss, rtol=1e-10)


@pytest.mark.parametrize("form", ALL, ids=key_of)
def test_noiseless_table_is_fitted_exactly(form):
    """From the starts alone: the parameters of the fit give the losses they were made of."""
    generator = np.random.default_rng(4)
    theta = draw(form, 1, generator)
    sizes = {axis: np.exp(generator.uniform(0.5, 6.5, 160)) for axis in form.axes}
    logs = np.log(np.stack([sizes[axis] for axis in form.axes]))
    centre = np.where([axis in form.uncentred for axis in form.axes], 0.0, logs.mean(1))
    loss = form.evaluate(theta, logs - centre[:, None])[0][0]
    columns = {AXES[axis].option: axis for axis in form.axes}
    table = load_runs(pd.DataFrame({**sizes, "loss": loss}), loss="loss", axes=form.axes, **columns)
    law = fit(table, form.name, axis=form.axes[0] if len(form.axes) == 1 else None, delta=1e-3, replicates=0)
    # Two breaks lie in a valley so flat that the descent ends a little before its floor.
    assert np.abs(law.residuals).max() < (1e-4 if form.name == "bnsl2" else 1e-5)
    other = form.evaluate(theta + 0.01, logs - centre[:, None])[0][0]
    assert np.abs(np.log(other / law.predict(**sizes))).max() > 1e-3


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
    with pytest.raises(ConfigError, match=r"form=kepler is not supported; choose one of power, "):
        find_form("kepler")


def test_axis_for_a_form_of_two_axes_is_refused():
    with pytest.raises(ConfigError, match="one-axis"):
        find_form("chinchilla", "N")
