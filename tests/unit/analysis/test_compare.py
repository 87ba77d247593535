"""Forms are ranked by what they predict of larger runs; the rule that chooses among them, and the answer `none`."""

import numpy as np
import pandas as pd
import pytest

from analysis.fitting.objective import Objective, make_problem
from analysis.fitting.resampling import resampling_unit
from analysis.forms.registry import find_form
from analysis.selection.choice import MOST_CORRELATION
from analysis.selection.comparison import compare
from analysis.selection.origins import rolling_origins
from analysis.selection.trials import try_form
from analysis.tables import load_runs
from scaling.errors import ConfigError, DataError

SIMPLE = ["power", "power_floor", "m3"]
SIZES = np.geomspace(1e4, 1e8, 16)


def one_axis(loss, sizes=SIZES, *, scatter=0.02, seed=0):
    noise = np.random.default_rng(seed).normal(size=len(sizes))
    frame = pd.DataFrame({"num_params": sizes, "test_loss": loss(sizes) * np.exp(scatter * noise)})
    return load_runs(frame, axes=("N",))


def lawful(sizes):
    return 0.1 + 30 * sizes**-0.5


def test_the_form_that_made_the_runs_beats_one_without_its_floor():
    found = compare(one_axis(lawful), ["power", "power_floor"], windows=(None,), replicates=0)
    assert found.chosen is not None
    assert found.chosen.form.name == "power_floor"
    (rejected,) = [one for one in found.contenders if one.form.name == "power"]
    assert any("worse out of sample" in reason for reason in rejected.reasons)


def test_simpler_form_wins_a_tie():
    # Runs of a power with a floor: a broken power law contains it, and can be better by chance alone.
    found = compare(one_axis(lawful), ["power_floor", "bnsl1"], windows=(None,), replicates=0)
    assert found.best.form.name == "power_floor"
    (rejected,) = [one for one in found.contenders if one.form.name == "bnsl1"]
    assert rejected.reasons


def test_last_decade_alone_is_fitted_where_the_law_begins_late():
    late = compare(
        one_axis(lambda n: 2.0 / (1 + (n / 1e6) ** 2) ** 0.25, np.geomspace(1e4, 1e8, 60), scatter=0.005),
        ["power_floor"],
        replicates=0,
    )
    assert late.best.window == 10.0
    assert len(late.fit(replicates=0).table) < 60
    (whole,) = [one for one in late.contenders if one.window is None]
    assert any("residuals are not random" in reason for reason in whole.reasons)


@pytest.mark.parametrize(
    ("loss", "words"),
    [(np.ones_like, "no better than a constant"), (lambda n: n**0.1, "the loss does not fall with N")],
)
def test_no_power_law_is_an_answer(loss, words):
    found = compare(one_axis(loss, scatter=0.05), SIMPLE, replicates=0)
    assert found.chosen is None
    assert words in found.verdict


def test_flat_tables_are_hardly_ever_called_a_law_and_lawful_ones_hardly_ever_rejected():
    def laws(loss):
        tables = [one_axis(loss, scatter=0.05, seed=seed) for seed in range(20)]
        return sum(compare(table, SIMPLE[:2], replicates=0).chosen is not None for table in tables)

    assert laws(np.ones_like) <= 1
    assert laws(lambda n: 0.1 + 2 * n**-0.3) >= 18


def test_held_out_runs_change_no_fit():
    # The negative control is the score: it must change.
    table = one_axis(lawful)
    frame = table.frame.copy()
    frame.loc[15, "test_loss"] *= 3
    changed = load_runs(frame, axes=("N",))
    options = {"windows": (None,), "replicates": 0, "delta": 0.02}
    before, after = (compare(runs, ["power_floor"], **options).best.scores for runs in (table, changed))
    # The scale of the loss is that of all runs, so that the fits agree to rounding alone.
    assert [score.rmse for score in before[1:]] == pytest.approx([score.rmse for score in after[1:]], rel=1e-4)
    assert after[0].rmse > before[0].rmse + 0.1


def test_origins_never_mix_fitted_and_held_out_runs(make_study):
    table = load_runs(make_study())
    origins = rolling_origins(table, ("N", "D"), 2.0)
    assert {origin.axis for origin in origins} == {"N", "D"}
    for origin in origins:
        sizes = table.axis(origin.axis)
        assert sizes[origin.fitted].max() <= origin.size * 1.001 < sizes[origin.held_out].min()


def test_two_axes_are_compared_and_covered(make_study):
    found = compare(load_runs(make_study(scatter=0.02)), ["chinchilla", "shared_exponent"])
    assert found.chosen is not None
    assert all(0 <= (one.coverage or 0) <= 1 for one in found.contenders)
    assert found.best.rmse < min(one.rmse for one in found.plain)


def shared_misfit(seed, *, with_seeds):
    """Sixteen sizes of a true law, five runs each, which err alike."""
    generator = np.random.default_rng(seed)
    sizes = np.repeat(SIZES, 5)
    misfit = np.repeat(0.05 * generator.normal(size=len(SIZES)), 5) + 0.005 * generator.normal(size=len(sizes))
    runs = pd.DataFrame({"num_params": sizes, "test_loss": lawful(sizes) * np.exp(misfit)})
    return load_runs(runs.assign(seed=np.tile(np.arange(5), len(SIZES)) if with_seeds else 0), axes=("N",))


def test_seeds_that_share_the_misfit_of_their_size_do_not_reject_the_true_form():
    def rejected(with_seeds):
        count = 0
        for seed in range(10):
            table = shared_misfit(seed, with_seeds=with_seeds)
            problem, everything = make_problem(table, find_form("power_floor"))[0], (np.ones(len(table), dtype=bool),)
            trial = try_form(problem, None, everything, resampling_unit(table)[1], Objective("huber", 0.05))
            count += trial.correlation > MOST_CORRELATION
        return count

    assert rejected(with_seeds=True) == 0
    assert rejected(with_seeds=False) == 10, "the control: as runs of their own they are not random"


def test_intervals_of_held_out_runs_draw_configurations():
    def coverage(with_seeds):
        tables = [shared_misfit(seed, with_seeds=with_seeds) for seed in range(10)]
        return np.mean([compare(table, ["power_floor"], windows=(None,)).best.coverage for table in tables])

    assert coverage(with_seeds=False) + 0.02 < coverage(with_seeds=True) <= 1


def test_mistakes_are_told():
    with pytest.raises(ConfigError, match="reach=1"):
        compare(one_axis(lawful), reach=1.0)
    with pytest.raises(ConfigError, match="form=kepler"):
        compare(one_axis(lawful), ["kepler"])
    with pytest.raises(DataError, match="too few runs or sizes"):
        compare(one_axis(lawful, SIZES[:4]), SIMPLE)


def test_intervals_are_scored_for_the_window_that_is_chosen():
    # A late law: the last decade is chosen, and the coverage shown is that of its fits.
    late = one_axis(lambda n: 2.0 / (1 + (n / 1e6) ** 2) ** 0.25, np.geomspace(1e4, 1e8, 60), scatter=0.005)
    found = compare(late, ["power_floor", "power"])
    assert found.best.window == 10.0
    assert found.best.coverage is not None
    assert sum(one.coverage is not None for one in found.contenders) == 2


def test_a_comparison_is_drawn():
    from analysis.plots import plot_comparison

    found = compare(one_axis(lawful), SIMPLE)
    left, right = plot_comparison(found).axes
    assert len(left.get_yticklabels()) == len(SIMPLE) + len(found.plain)
    shown = [line.get_xdata()[0] for line in right.lines[1:]]
    expected = [100 * one.coverage for one in found.contenders if one.coverage is not None]
    assert sorted(shown) == pytest.approx(sorted(expected))


@pytest.mark.parametrize("loss", [lawful, np.ones_like, lambda n: n**0.1])
def test_errors_of_zero_are_drawn(loss):
    from analysis.plots import plot_comparison

    figure = plot_comparison(compare(one_axis(loss, scatter=0.0), SIMPLE, replicates=0))
    low, high = figure.axes[0].get_xlim()
    drawn = np.concatenate([line.get_xdata() for line in figure.axes[0].lines if len(line.get_xdata())])
    assert 0 < low < drawn.min() <= drawn.max() < high
