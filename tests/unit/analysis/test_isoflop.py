"""Approach 2: groups of runs, their optima, and the bias that its grid gives it."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from analysis.compute.decisions import decide
from analysis.compute.parabolas import group_budgets, isoflop
from analysis.fitting.identify import Verdict
from analysis.fitting.law import fit
from analysis.plots import plot_isoflop
from analysis.report.decisions import decisions_text
from analysis.report.decisions_json import decisions_document
from analysis.tables import load_runs

LAW = {"E": 1.69, "A": 406.4, "alpha": 0.34, "B": 410.7, "beta": 0.28}
EVEN = {"E": 1.7, "A": 400.0, "alpha": 0.3, "B": 400.0, "beta": 0.3}
BUDGETS = np.geomspace(1e18, 1e21, 5)
WIDE, NARROW = 16.0, 1.5
FITS = Path(__file__).parents[4] / "shared" / "data" / "fits"
ML_SCALEFIT = FITS / "openathena_isoflops" / "extract" / "ml_scalefit" / "isoflops.csv"


def exponent(law):
    return law["beta"] / (law["alpha"] + law["beta"])


def optimum(law, budget):
    scale = (law["alpha"] * law["A"] / (law["beta"] * law["B"])) ** (1 / (law["alpha"] + law["beta"]))
    return scale * (budget / 6) ** exponent(law)


def isoflop_frame(law, *, width, drift=0.0, num_sizes=9, scatter=0.0):
    """IsoFLOP runs of a known law: `width` is the factor from the optimum to the ends of each budget's N.

    `drift` moves the grid off the optimum by the budget's powers: 0 keeps it centred.
    """
    generator = np.random.default_rng(0)
    rows = []
    for budget in BUDGETS:
        off = (budget / BUDGETS[len(BUDGETS) // 2]) ** drift
        for factor in np.geomspace(1 / width, width, num_sizes):
            n = optimum(law, budget) * factor * off
            d = budget / (6 * n)
            loss = law["E"] + law["A"] * n ** -law["alpha"] + law["B"] * d ** -law["beta"]
            loss *= np.exp(scatter * generator.normal())
            rows.append({"num_params": n, "train_structures": d, "train_flops": budget, "test_loss": loss})
    return pd.DataFrame(rows)


def analyse(law, **grid):
    fitted = fit(load_runs(isoflop_frame(law, **grid)), replicates=0)
    return fitted, isoflop(fitted)


def test_even_centred_grid_is_the_one_without_bias():
    _, found = analyse(EVEN, width=WIDE)
    assert found.exponent.value == pytest.approx(0.5, abs=1e-6)
    assert found.size_bias.value == pytest.approx(1, abs=1e-3)
    assert found.parabolas[0].num_params.value == pytest.approx(optimum(EVEN, BUDGETS[0]), rel=1e-4)


def test_unequal_exponents_bias_the_sizes_of_a_wide_grid_but_not_the_surface():
    fitted, wide = analyse(LAW, width=WIDE)
    _, narrow = analyse(LAW, width=NARROW)
    assert abs(wide.size_bias.value - 1) > 0.05
    assert abs(narrow.size_bias.value - 1) < 0.005
    assert wide.parabolas[-1].num_params.value / optimum(LAW, BUDGETS[-1]) == pytest.approx(
        float(wide.size_bias.value), rel=1e-6
    )
    assert wide.surface.value == pytest.approx(exponent(LAW), abs=1e-4)
    assert fitted["alpha"].value == pytest.approx(LAW["alpha"], rel=1e-3)


@pytest.mark.parametrize("law", [LAW, EVEN])
def test_a_grid_that_drifts_off_centre_biases_the_exponent(law):
    fitted, found = analyse(law, width=4.0, drift=0.3)
    error = found.exponent.value - exponent(law)
    assert abs(error) > 0.005
    assert found.bias.value == pytest.approx(error, abs=1e-6), "the stated bias is the one that is there"
    assert found.surface.value == pytest.approx(exponent(law), abs=1e-6)
    assert fitted["beta"].value == pytest.approx(law["beta"], rel=1e-5)


def test_a_surface_that_is_not_determined_tells_no_bias():
    law = fit(load_runs(isoflop_frame(LAW, width=4.0, scatter=0.002)), replicates=0)
    vague = replace(law)
    vars(vague)["verdicts"] = (Verdict("alpha", ("its 95 % interval has no end",)),)
    for one, usable in ((law, True), (vague, False)):
        decisions = decide(one)
        text = decisions_text(decisions)
        assert "through 5 budgets" in text
        assert ("the surface over the same budgets" in text) == usable
        assert ("These runs determine none:" in text) != usable
        assert decisions_document(decisions)["isoflop"]["surface_usable"] == usable


def test_minimum_outside_the_runs_is_left_out_with_the_reason():
    frame = isoflop_frame(LAW, width=3.0)
    largest = frame["train_flops"] == BUDGETS[-1]
    above = largest & (frame["num_params"] > 0.9 * optimum(LAW, BUDGETS[-1]))
    frame = frame[~above]
    found = isoflop(fit(load_runs(frame), replicates=0))
    assert len(found.parabolas) == 4
    (left,) = found.left_out
    assert left.budget == pytest.approx(BUDGETS[-1])
    assert "outside the sampled N" in left.reason


def test_budgets_of_few_sizes_are_left_out(make_study):
    found = isoflop(fit(load_runs(make_study()), replicates=0))
    assert found.exponent is None
    assert {left.reason for left in found.left_out} == {"1 different N, a parabola needs at least 4"}


def test_runs_are_grouped_by_gaps_in_flops():
    flops = np.array([3e20, 1e19, 1.02e19, 1.05e19, 3.1e20, 9e20])
    assert [sorted(rows.tolist()) for rows in group_budgets(flops)] == [[1, 2, 3], [0, 4], [5]]
    chain = np.geomspace(1, 10, 60)
    assert all(chain[rows].max() <= 1.5 * chain[rows].min() for rows in group_budgets(chain))


def test_intervals_of_the_minima_widen_with_the_scatter():
    widths = []
    for scatter in (0.0, 0.002, 0.01):
        _, found = analyse(LAW, width=4.0, scatter=scatter)
        low, high = found.exponent.ci95
        widths.append(high - low)
        assert low < found.exponent.value < high or scatter == 0
    assert 3 * widths[0] < widths[1] < widths[2] / 2


def test_every_budget_is_drawn_with_its_parabola_and_the_surface():
    _, found = analyse(LAW, width=4.0, scatter=0.002)
    (axes,) = plot_isoflop(found).axes
    stars = [line for line in axes.lines if line.get_marker() == "*" and len(line.get_xdata())]
    assert [line.get_xdata()[0] for line in stars] == [parabola.num_params.value for parabola in found.parabolas]
    dashed = [line for line in axes.lines if line.get_linestyle() == "--" and len(line.get_xdata())]
    assert len(dashed) == len(BUDGETS)


@pytest.fixture
def ml_scalefit():
    if not ML_SCALEFIT.exists():
        pytest.skip(f"{ML_SCALEFIT} is not on this machine; its licence does not allow shipping it")
    return load_runs(ML_SCALEFIT, num_params="params", data_size="tokens", flops="budget", loss="loss")


VPNLS = {"E": 1.8608, "A": 4.1479, "alpha": 0.36, "B": 1.0546, "beta": 0.40}
"""Published for 124 rows, N in millions, D in billions. Source: README of Open-Athena/vpnls at 026317d."""


def huber(residual, delta=1e-3):
    size = np.minimum(np.abs(residual), delta)
    return float((size * (np.abs(residual) - 0.5 * size)).sum())


def test_published_variable_projection_is_reproduced_by_its_own_recipe(ml_scalefit):
    """Residuals of the loss, not its logarithm; exponents on a grid of 0.01; ten reweightings of the coefficients."""
    n, d, loss = ml_scalefit.num_params / 1e6, ml_scalefit.data_size / 1e9, ml_scalefit.loss
    best = (np.inf, {})
    for alpha in np.arange(30, 45) / 100:
        for beta in np.arange(30, 50) / 100:
            design = np.stack([np.ones_like(n), n**-alpha, d**-beta], 1)
            weight = np.ones_like(n)
            for _ in range(11):
                root = np.sqrt(weight)
                coefficients = np.linalg.lstsq(design * root[:, None], loss * root, rcond=None)[0]
                residual = loss - design @ coefficients
                weight = 1e-3 / np.maximum(np.abs(residual), 1e-3)
            best = min(
                best,
                (huber(residual), dict(zip(VPNLS, (*coefficients[:2], alpha, coefficients[2], beta), strict=True))),
            )
    for name, value in VPNLS.items():
        assert best[1][name] == pytest.approx(value, abs=6e-5)


def test_our_fit_of_the_published_table_is_lower_and_agrees_within_its_intervals(ml_scalefit):
    law = fit(ml_scalefit, replicates=400)
    assert (len(law.table), law.optimum.objective.delta) == (124, 1e-3)
    n, d = ml_scalefit.num_params / 1e6, ml_scalefit.data_size / 1e9
    theirs = VPNLS["E"] + VPNLS["A"] * n ** -VPNLS["alpha"] + VPNLS["B"] * d ** -VPNLS["beta"]
    assert law.optimum.value < huber(np.log(theirs / ml_scalefit.loss)) * 0.998
    for name in ("E", "alpha", "beta"):
        low, high = law[name].ci95
        assert low < VPNLS[name] < high
    # The optimum of Huber's function of log residuals, as scipy's Nelder-Mead finds it too.
    assert law["alpha"].value == pytest.approx(0.3777, abs=2e-4)
    assert law["beta"].value == pytest.approx(0.3928, abs=2e-4)
    assert law["E"].value == pytest.approx(1.8722, abs=2e-4)
