"""Laws of several architectures in one table: said to differ where they do, and only there."""

import math

import numpy as np
import pandas as pd
import pytest

from analysis.fitting.choice import FitChoice
from analysis.report.comparison import page_names
from analysis.report.pages import write_comparison
from analysis.study import results
from analysis.study.contrast import difference_interval, verdicts
from analysis.study.groups import group_runs
from analysis.tables import load_runs
from scaling.errors import ConfigError

SLOW = {"E": 0.05, "A": 8.0, "alpha": 0.5, "B": 12.0, "beta": 0.6}
STEEP = {**SLOW, "A": 150.0, "alpha": 0.9}
TABLES = 20


def two_models(make_study, second=STEEP, *, seed=0, **study):
    """egnn with SLOW and gemnet_t with another law."""
    parts = [make_study(law, scatter=0.03, seed=2 * seed + i, **study) for i, law in enumerate((SLOW, second))]
    parts[1] = parts[1].assign(model="gemnet_t", run_id=parts[1]["run_id"].str.replace("egnn", "gemnet_t"))
    return pd.concat(parts, ignore_index=True)


def groups_of(frame, by="model", form="chinchilla"):
    choice = FitChoice(form, replicates=0)
    return group_runs(frame, by, lambda only: load_runs(frame, only=only), choice, "the table")


def difference(groups, quantity):
    return next(one for one in groups.differences if one.quantity == quantity)


@pytest.mark.parametrize(("second", "truth"), [(STEEP, -0.4), (SLOW, 0.0)])
def test_difference_of_exponents_is_covered_and_found_only_where_there_is_one(make_study, second, truth):
    found = [groups_of(two_models(make_study, second, seed=seed)) for seed in range(TABLES)]
    alphas = [difference(groups, "alpha") for groups in found]
    covered = sum(one.interval[0] <= truth <= one.interval[1] for one in alphas)
    told_apart = sum(bool(one.differs) for one in alphas)
    assert covered >= TABLES - 2
    assert told_apart >= TABLES - 2 if truth else told_apart <= 1
    assert sum(bool(difference(groups, "beta").differs) for groups in found) <= 1


def test_law_of_a_group_is_that_of_its_rows_alone(make_study):
    frame = two_models(make_study)
    frame.loc[[3, 30], ["status", "failure"]] = ["failed", "out of memory"]
    groups = groups_of(frame)
    alone = FitChoice(replicates=0).apply(load_runs(frame[frame["model"] == "gemnet_t"]))
    law = groups.laws["gemnet_t"]
    assert [one.value for one in law.params] == [one.value for one in alone.params]
    assert law.table.excluded == alone.table.excluded
    assert [row.run for row in law.table.excluded] == [frame["run_id"][30]]


def test_intervals_of_all_differences_hold_together(make_study):
    groups = groups_of(two_models(make_study))
    assert [one.quantity for one in groups.differences] == ["alpha", "beta", "loss"]
    assert all(one.level == pytest.approx(1 - 0.05 / 3) for one in groups.differences)
    loss = difference(groups, "loss")
    assert loss.differs
    expected = np.log(groups.laws["egnn"].predict(**loss.at) / groups.laws["gemnet_t"].predict(**loss.at))
    assert loss.value == pytest.approx(expected[0])


def test_difference_of_normal_estimates_has_the_interval_of_the_root_of_the_sum_of_squares():
    assert difference_interval(1.0, (0.7, 1.3), 0.5, (0.1, 0.9)) == pytest.approx((0.0, 1.0))
    low, high = difference_interval(1.0, (0.7, 1.3), 0.5, (0.1, math.inf))
    assert (low, high) == (-math.inf, pytest.approx(1.0))


def test_architecture_with_too_few_runs_is_shown_with_the_reason_and_the_others_are_fitted(make_study):
    frame = two_models(make_study)
    few = frame.head(3).assign(model="dimenetpp", run_id=["a", "b", "c"])
    waiting = frame.head(2).assign(model="schnet", run_id=["d", "e"], status="waiting")
    groups = groups_of(pd.concat([frame, few, waiting], ignore_index=True))
    assert list(groups.laws) == ["egnn", "gemnet_t"]
    assert "needs at least 6 runs" in groups.unfitted["dimenetpp"]
    assert groups.document["laws"]["dimenetpp"]["problem"] == groups.unfitted["dimenetpp"]
    assert len(groups.document["laws"]["schnet"]["excluded"]) == 2
    assert len(groups.differences) == 3


def test_exponent_that_is_not_determined_is_not_said_to_differ(make_study):
    frame = two_models(make_study)
    frame = frame[(frame["model"] == "egnn") | (frame["train_structures"] >= 1024)]
    groups = groups_of(frame)
    beta = difference(groups, "beta")
    assert beta.differs is None
    assert beta.undetermined == ("gemnet_t",)
    assert ("beta of gemnet_t is not compared: its runs do not determine it.", False) in verdicts(groups.differences)
    assert difference(groups, "alpha").differs


@pytest.mark.parametrize(
    ("column", "value", "words"),
    [
        ("data_digest", "ff00", "data_digest (egnn ab12cd34; gemnet_t ff00)"),
        ("test_structures", 500.0, "test_structures (egnn 863; gemnet_t 500)"),
        ("loss_force_scale_ev_per_ang", 0.4, "loss_force_scale_ev_per_ang (egnn 0.9; gemnet_t 0.4)"),
        ("train.force_weight", 10.0, "train.force_weight (egnn 1; gemnet_t 10)"),
    ],
)
def test_losses_of_different_kinds_are_noticed_and_not_compared(make_study, column, value, words):
    same = {"test_structures": 863.0, "loss_force_scale_ev_per_ang": 0.9, "train.force_weight": 1.0}
    frame = two_models(make_study).assign(**same)
    assert not groups_of(frame).cautions
    frame.loc[frame["model"] == "gemnet_t", column] = value
    groups = groups_of(frame)
    assert "NOT comparable" in groups.cautions[0]
    assert words in groups.cautions[0]
    assert [one.quantity for one in groups.differences] == ["alpha", "beta"]


def test_losses_of_other_weights_are_not_compared_where_the_weight_parts_the_table(make_study):
    frame = two_models(make_study)
    frame["train.force_weight"] = np.where(frame["model"] == "egnn", 1.0, 10.0)
    groups = groups_of(frame, by="train.force_weight")
    assert any("NOT comparable" in caution for caution in groups.cautions)
    assert [one.quantity for one in groups.differences] == ["alpha", "beta"]


def test_training_of_different_length_is_noticed_on_the_same_data_only(make_study):
    frame = two_models(make_study)
    frame["steps"] = frame["train_structures"] // 4
    frame = frame[(frame["model"] == "egnn") | (frame["train_structures"] > 64)]
    frame["samples_seen"] = 32 * frame["steps"]
    assert not groups_of(frame).cautions
    frame.loc[(frame["model"] == "gemnet_t") & (frame["train_structures"] == 1024), "steps"] = 100
    (caution,) = groups_of(frame).cautions
    assert "steps differ (egnn 64 to 4,096; gemnet_t 64 to 4,096)" in caution


def test_what_differs_besides_the_architecture_is_named(make_study):
    frame = two_models(make_study)
    frame.loc[frame["model"] == "gemnet_t", "forces"] = "direct"
    (caution,) = groups_of(frame).cautions
    assert "ways of making forces (egnn conservative; gemnet_t direct)" in caution


def test_sizes_that_do_not_overlap_have_no_common_size(make_study):
    frame = two_models(make_study)
    frame.loc[frame["model"] == "gemnet_t", "num_params"] *= 1000
    groups = groups_of(frame)
    assert groups.common_sizes is None
    assert any("do not overlap" in caution for caution in groups.cautions)


def test_model_column_is_taken_unasked_only_where_it_holds_kinds(make_study):
    frame = two_models(make_study)
    assert groups_of(frame, by=None).by == "model"
    assert not groups_of(frame, by=None).asked
    assert groups_of(frame.assign(model="egnn"), by=None) is None
    assert groups_of(frame.drop(columns="model"), by=None) is None
    assert groups_of(make_study().assign(model=lambda runs: "w" + runs["width"].astype(str)), by=None) is None


@pytest.mark.parametrize(
    ("by", "words"), [("modell", "no column 'modell'"), ("study", "one value, synthetic"), ("test_loss", "50 values")]
)
def test_column_that_cannot_part_the_runs_is_refused(make_study, by, words):
    with pytest.raises(ConfigError, match=words):
        groups_of(two_models(make_study), by=by)


def test_rows_without_a_value_are_listed(make_study):
    frame = two_models(make_study)
    frame.loc[7, "model"] = None
    groups = groups_of(frame)
    assert [(row.run, row.reason) for row in groups.excluded] == [(frame["run_id"][7], "model is missing")]
    assert sum(len(law.table) for law in groups.laws.values()) == len(frame) - 1


def test_law_of_each_kind_is_fitted_once_for_the_comparison_and_its_own_page(
    make_study, tmp_path, monkeypatch, unpainted
):
    apply, fitted = FitChoice.apply, []

    def counted(choice, table, **options):
        fitted.append((table.run, choice.form, table.columns.get("N")))
        return apply(choice, table, **options)

    monkeypatch.setattr(FitChoice, "apply", counted)
    groups = groups_of(two_models(make_study))
    write_comparison(groups, tmp_path, title="two")
    for table in groups.tables.values():
        assert fitted.count((table.run, "chinchilla", "num_params")) == 1


def test_families_of_a_pooled_table_are_those_of_its_groups(make_study):
    frame = two_models(make_study)
    pooled = results.Results(load_runs(frame), FitChoice(replicates=0))
    assert list(pooled.families) == ["egnn", "gemnet_t"]
    for name, law in groups_of(frame).laws.items():
        own = results.laws_of(pooled.families)[name]
        assert [one.value for one in own.params] == [one.value for one in law.params]
    assert results.Results(load_runs(make_study()), FitChoice(replicates=0)).families == {}


def test_pages_of_odd_values_are_plain_folders_and_no_two_are_one():
    names = page_names(["a/b", "a b", "A_B", "../up", "egnn"])
    assert names["egnn"] == "report-egnn"
    assert len({name.lower() for name in names.values()}) == 5
    assert not any("/" in name for name in names.values())
