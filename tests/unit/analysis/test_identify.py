"""When an exponent counts as identified: calibrated on simulated studies."""

import numpy as np
import pytest

from analysis.fitting.law import fit
from analysis.tables import load_runs

STUDIES = 12
MATTERS = {"E": 0.05, "A": 2.0, "alpha": 0.35, "B": 3.0, "beta": 0.5}


def share_identified(make_study, law, scatter, exponent, **grid):
    verdicts = []
    for seed in range(STUDIES):
        found = fit(load_runs(make_study(law, scatter=scatter, seed=seed, **grid)), replicates=200)
        verdicts.append(next(v.identified for v in found.verdicts if v.exponent == exponent))
    return np.mean(verdicts)


@pytest.mark.parametrize("scatter", [0.05, 0.10])
def test_axis_that_does_not_matter_is_not_identified(make_study, scatter):
    assert share_identified(make_study, {**MATTERS, "B": 0.0}, scatter, "beta") <= 1 / STUDIES


@pytest.mark.parametrize("scatter", [0.05, 0.10])
def test_axis_that_matters_is_identified(make_study, scatter):
    assert share_identified(make_study, MATTERS, scatter, "beta") >= 0.9


def test_three_sizes_never_suffice(make_study):
    assert share_identified(make_study, MATTERS, 0.01, "beta", structures=(64, 1024, 16384)) == 0


def test_reasons_are_words_a_reader_understands(make_study):
    law = fit(load_runs(make_study({**MATTERS, "B": 0.0})), replicates=200)
    sentence = law.verdicts[1].sentence
    assert sentence.startswith("the data do not determine beta: ")
    assert "over the sampled D the loss changes by" in sentence


def test_without_a_bootstrap_nothing_is_identified_whose_interval_would_be_the_bootstraps(make_study):
    law = fit(load_runs(make_study(MATTERS, depths=(1, 2, 3, 4))), replicates=0)
    assert len(law.table) == 100
    assert all("no bootstrap" in verdict.sentence for verdict in law.verdicts)
    assert law["alpha"].ci95 is None


def test_few_runs_need_no_bootstrap_to_be_judged_by_their_profile(make_study):
    for truth in (MATTERS, {**MATTERS, "B": 0.0}):
        table = load_runs(make_study(truth))
        without, with_one = (fit(table, replicates=replicates) for replicates in (0, 100))
        assert without.verdicts == with_one.verdicts
        assert [one.ci95 for one in without.params] == [one.ci95 for one in with_one.params]
        assert without["alpha"].se is None
