"""Figures: what is drawn, what is written on the axes, what is refused."""

import numpy as np
import pytest

import analysis
from analysis.fitting.law import fit
from analysis.plots import Reference
from analysis.plots.style import nearest_round, round_numbers
from analysis.tables import load_runs
from analysis.texts import count_text, size_text
from scaling.errors import ConfigError


@pytest.mark.parametrize(("low", "high"), [(0.04, 2.0), (2.0, 3.5), (64, 16384), (1.01, 1.09), (1e-3, 1e9)])
def test_every_axis_has_a_readable_number_of_round_ticks(low, high):
    ticks = round_numbers(low, high)
    assert len(ticks) <= 7
    assert len(ticks) >= (2 if high / low > 1.2 else 0)
    assert (np.diff(ticks) > 0).all()


def test_levels_are_round_and_different():
    np.testing.assert_array_equal(nearest_round(np.array([0.0449, 0.0451, 0.098, 1.53])), [0.045, 0.1, 1.5])


def test_sizes_are_written_short():
    assert [size_text(size) for size in (373, 14625, 1e6, 2.5e9)] == ["373", "14.6k", "1M", "2.5B"]
    assert [count_text(size) for size in (64, 1024, 14625, 2.5e9)] == ["64", "1,024", "14,625", "2.5B"]


def test_curves_show_every_run_with_floor_and_baseline(make_study):
    law = fit(load_runs(make_study()), replicates=100)
    axes = analysis.plot(law, "loss_vs_params", baseline=Reference("baseline", 1.91)).axes[0]
    drawn = sum(len(line.get_xdata()) for line in axes.lines if line.get_linestyle() == "None")
    assert drawn == 25
    words = [text.get_text() for text in axes.texts]
    assert any(word.startswith("floor E") for word in words)
    assert "baseline 1.91" in words


def test_baseline_far_above_is_named_but_does_not_squeeze_the_runs(make_study):
    law = fit(load_runs(make_study()), replicates=0)
    axes = analysis.plot(law, "loss_vs_params", baseline=Reference("baseline", 500.0)).axes[0]
    assert axes.get_ylim()[1] < 3
    assert "↑ baseline 500, far above" in [text.get_text() for text in axes.texts]


def test_models_of_several_depths_get_a_panel_each(make_study):
    law = fit(load_runs(make_study(depths=(1, 2, 3))), replicates=0)
    figure = analysis.plot(law, "loss_vs_data")
    assert [axes.get_title() for axes in figure.axes] == ["depth 1", "depth 2", "depth 3"]
    assert len(analysis.plot(law, "loss_vs_params").axes) == 1


def test_figures_that_a_law_cannot_give_are_refused(make_study):
    table = load_runs(make_study())
    with pytest.raises(ConfigError, match="kind=pie"):
        analysis.plot(fit(table, replicates=0), "pie")
    with pytest.raises(ConfigError, match="has no axis D"):
        analysis.plot(fit(table, "power_floor", replicates=0), "loss_vs_data")
    with pytest.raises(ConfigError, match="without a bootstrap"):
        analysis.plot(fit(table, replicates=0), "corner")
