"""What limits a law: said where it matters, in every output alike, and only there."""

import json

import numpy as np
import pandas as pd
import pytest

from analysis.__main__ import main
from analysis.fitting.cautions import find_cautions
from analysis.fitting.law import fit
from analysis.tables import load_runs, varied_settings

SWEPT = "One law was fitted across different values of "


def of_table(frame):
    """Those of runs that were not trained equally long, so that nothing is said of their training."""
    steps = np.arange(1, len(frame) + 1)
    return find_cautions(load_runs(frame.assign(steps=steps, epochs=steps)))


@pytest.mark.parametrize("column", ["Model", "DATASET", "task", "Domain", "condition", "experiment", "source"])
def test_runs_of_different_kinds_are_named_however_their_column_is_capitalised(make_study, column):
    frame = make_study().drop(columns="model")
    frame[column] = ["a", *["b"] * 24]
    (sentence,) = of_table(frame)
    assert "(a, b)" in sentence
    frame[column] = "a"
    assert not of_table(frame)
    frame[column] = np.arange(25)  # names of runs, not kinds
    assert not of_table(frame)


def swept(make_study, **columns):
    """Each run of the grid with each value of one key."""
    ((column, values),) = columns["settings"].items()
    parts = [make_study(seed=i).assign(**{column: value}) for i, value in enumerate(values)]
    for value, part in zip(values, parts, strict=True):
        part["run_id"] += f"-{value}"
    return pd.concat(parts, ignore_index=True)


@pytest.mark.parametrize(
    ("column", "values"),
    [("data.cutoff_ang", (4.0, 5.0)), ("train.batch_size", (8, 32, 128)), ("optim.schedule", ("cosine", "linear"))],
)
def test_swept_key_that_is_no_axis_is_named_with_its_values_and_the_way_out(make_study, column, values):
    frame = swept(make_study, settings={column: values})
    (sentence,) = of_table(frame)
    assert f"{SWEPT}{column} ({', '.join(map(str, values))})" in sentence
    assert f"--by {column} of fit and report fits a law for each" in sentence
    assert f"--only {column}={values[0]} of any command" in sentence
    assert not of_table(frame[frame[column] == values[0]])


def test_ways_out_of_a_swept_key_lead_out(make_study, tmp_path, capsys):
    path = tmp_path / "runs.csv"
    swept(make_study, settings={"data.cutoff_ang": (4.0, 5.0)}).to_csv(path, index=False)
    for options in (["--by", "data.cutoff_ang"], ["--only", "data.cutoff_ang=4.0"]):
        assert main(["fit", str(path), "--bootstrap", "0", *options]) == 0
        assert SWEPT not in capsys.readouterr().out
    assert main(["fit", str(path), "--bootstrap", "0"]) == 0
    assert SWEPT in capsys.readouterr().out


def test_keys_that_follow_a_size_are_no_sweep(make_study):
    frame = make_study(depths=(1, 2))
    derived = {
        "model.triplet_width": frame["width"] // 2,
        "model.num_params": frame["num_params"].round(-2),
        "optim.lr": 0.02 * (frame["width"] / 16) ** -0.25,
        "train.batch_size": frame["train_structures"] // 16,
    }
    assert not of_table(frame.assign(**derived, **{"data.cutoff_ang": 5.0}))
    for column, values in derived.items():
        shuffled = values.sample(frac=1.0, random_state=1).to_numpy()
        (sentence,) = of_table(frame.assign(**{column: shuffled}))
        assert f"{SWEPT}{column}" in sentence


def test_key_that_changed_once_between_small_and_large_models_is_a_sweep(make_study):
    frame = make_study()
    frame["train.batch_size"] = np.where(frame["width"] > 8, 64, 16)
    (sentence,) = of_table(frame)
    assert "train.batch_size (16, 64)" in sentence


def test_key_along_an_axis_of_the_form_is_no_sweep(make_study):
    frame = make_study()
    frame["train.budget.amount"] = frame["epochs"]
    table = load_runs(frame, axes=("N", "epochs"))
    assert varied_settings(table, ("N", "epochs")) == {}
    longer = pd.concat([frame, frame.assign(run_id=frame["run_id"] + "x", epochs=2 * frame["epochs"])])
    longer["train.budget.amount"] = longer["epochs"]
    assert list(varied_settings(load_runs(longer), ("N", "D"))) == ["train.budget.amount"]
    assert varied_settings(load_runs(longer, axes=("N", "epochs")), ("N", "epochs")) == {}


def test_key_that_repeats_a_column_or_belongs_to_an_architecture_is_not_named_twice(make_study):
    frame = make_study()
    other = frame["width"] <= 16
    frame["model"], frame["optim.lr"] = np.where(other, "egnn", "gemnet_t"), np.where(other, 0.02, 0.005)
    frame["precision"] = frame["train.precision"] = np.where(np.arange(25) % 2, "fp32", "bf16")
    cautions = of_table(frame)
    assert len(cautions) == 2
    assert not [text for text in cautions if "optim.lr" in text or "train.precision" in text]


def test_search_for_the_best_learning_rate_is_one_caution(make_study):
    frame = swept(make_study, settings={"optim.lr": (0.01, 0.02, 0.04)})
    assert "optim.lr" in of_table(frame)[0]
    (sentence,) = of_table(frame.assign(peak_lr=frame["optim.lr"]))
    assert "the mean tuning, not of the best" in sentence


def test_every_output_says_every_caution(make_study, tmp_path, capsys, unpainted):
    frame = swept(make_study, settings={"data.cutoff_ang": (4.0, 5.0)})
    bend = np.log(frame["num_params"] / 4e3) * np.log(frame["train_structures"] / 1e3)
    frame["test_loss"] *= np.exp(0.05 * bend)
    frame["Task"] = np.where(frame.index % 2, "a", "b")
    path = tmp_path / "runs.csv"
    frame.to_csv(path, index=False)
    cautions = fit(load_runs(frame), replicates=0).cautions
    assert len(cautions) >= 4
    for command in ("fit", "frontier", "next", "report", "backtest"):
        assert main([command, str(path), "--bootstrap", "0"]) == 0
        printed = capsys.readouterr().out
        for caution in cautions:
            assert caution.removesuffix(".") in printed, command
    assert json.loads((tmp_path / "runs_report" / "fit.json").read_text())["cautions"] == list(cautions)
    for command in ("fit", "frontier", "backtest"):
        assert main([command, str(path), "--bootstrap", "0", "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["cautions"] == list(cautions), command
    assert main(["compare", str(path), "--bootstrap", "0", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)["cautions"]
    assert set(said) < set(cautions)
    assert any(SWEPT in text for text in said)
