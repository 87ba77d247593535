"""Figures of decisions: drawn where they may be, refused where they would look surer than they are."""

import numpy as np
import pytest

from analysis.compute.optimal import frontier
from analysis.compute.parabolas import isoflop
from analysis.fitting.law import fit
from analysis.plots import plot_compute, plot_frontier, plot_isoflop, plot_saturation, plot_shape
from analysis.plots.style import save_bytes
from analysis.tables import load_runs
from scaling.errors import ConfigError

LAW = {"E": 0.05, "A": 2.0, "alpha": 0.35, "B": 3.0, "beta": 0.5}


def followed(frame):
    return frame.assign(epochs=20.0, train_flops=400 * frame["num_params"] * 20 * frame["train_structures"])


def test_frontier_is_drawn_through_the_optimal_sizes_and_dashed_beyond(make_study):
    law = fit(load_runs(followed(make_study(LAW, scatter=0.02))), replicates=100)
    found = frontier(law)
    axes = plot_frontier(found).axes[0]
    named = {line.get_label(): line for line in axes.lines}
    solid, dashed = named["compute-optimal"], named["beyond the runs' compute"]
    spent = found.cost.flops_per_nd * solid.get_xdata() * solid.get_ydata()
    assert spent[-1] == pytest.approx(law.table.axis("C").max())
    assert dashed.get_xdata()[0] == solid.get_xdata()[-1]
    assert len(named["runs"].get_xdata()) == 25
    assert [axes.get_title() for axes in plot_compute(found).axes] == ["N*", "D*", "D* / N*"]


def test_frontier_with_problems_is_refused(make_study):
    law = fit(load_runs(make_study(LAW)), replicates=100)
    for draw in (plot_frontier, plot_compute):
        with pytest.raises(ConfigError, match="saw the same 128k samples"):
            draw(frontier(law))
    with pytest.raises(ConfigError, match="no budget of these runs"):
        plot_isoflop(isoflop(law))
    with pytest.raises(ConfigError, match="width_depth_data"):
        plot_shape(law)


def test_saturation_curve_rises_with_the_data(make_study):
    law = fit(load_runs(make_study(LAW, scatter=0.01)), replicates=100)
    (curve,) = [line for line in plot_saturation(law).axes[0].lines if "left to gain" in str(line.get_label())]
    assert (np.diff(curve.get_ydata()) > 0).all()
    assert save_bytes(plot_saturation(law), "png", "saturation")[:4] == b"\x89PNG"
