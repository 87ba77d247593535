"""What is fitted, what is left out and why, and which mistakes are refused."""

import numpy as np
import pandas as pd
import pytest

from analysis.fitting.law import fit
from analysis.tables import distinct_sizes, load_runs
from scaling.errors import ConfigError, DataError


def reasons(table):
    return {row.run: row.reason for row in table.excluded}


@pytest.mark.parametrize("ending", ["csv", "jsonl", "parquet"])
def test_every_format_reads_to_the_same_runs(make_study, tmp_path, ending):
    frame = make_study()
    path = tmp_path / f"runs.{ending}"
    write = {
        "csv": lambda: frame.to_csv(path, index=False),
        "jsonl": lambda: frame.to_json(path, orient="records", lines=True, double_precision=15),
        "parquet": lambda: frame.to_parquet(path),
    }
    write[ending]()
    table = load_runs(path)
    np.testing.assert_allclose(table.loss, frame["test_loss"], rtol=1e-13)  # text keeps 15 digits
    assert table.run == tuple(frame["run_id"])
    assert not table.excluded


def test_study_directory_stands_for_its_runs_parquet(make_study, tmp_path):
    make_study().to_parquet(tmp_path / "runs.parquet")
    assert len(load_runs(tmp_path)) == 25


def test_study_without_table_names_the_command_that_writes_it(tmp_path):
    with pytest.raises(DataError, match=r"experiments\.collect"):
        load_runs(tmp_path)


def test_every_unusable_row_is_listed_with_its_reason(make_study):
    frame = make_study()
    frame.loc[0, ["status", "failure"]] = ["failed", "loss is not finite at step 311"]
    frame.loc[1, "status"] = "running"
    frame.loc[2, "test_loss"] = np.nan
    frame.loc[3, "test_loss"] = np.inf
    frame.loc[4, "test_loss"] = -0.5
    frame["num_params"] = frame["num_params"].astype(float)
    frame.loc[5, "num_params"] = np.nan
    frame.loc[6, "train_structures"] = 0
    frame.loc[8, "run_id"] = frame.loc[7, "run_id"]
    table = load_runs(frame)
    found = list(reasons(table).values())
    assert len(table) == 25 - len(found)
    wanted = [
        "failed: loss is not finite at step 311",
        "status is running",
        "test_loss is missing",
        "test_loss = inf",
        "test_loss = -0.5",
        "num_params is missing",
        "train_structures = 0",
        "duplicate of row 8",
    ]
    for reason, part in zip(found, wanted, strict=True):
        assert part in reason


def test_text_in_a_number_column_is_an_error_naming_column_and_value(make_study):
    frame = make_study().astype({"test_loss": object})
    frame.loc[4, "test_loss"] = "0.3?"
    with pytest.raises(DataError, match=r"'test_loss'.*row 5.*'0\.3\?'"):
        load_runs(frame)


def test_text_in_a_row_that_is_not_done_does_no_harm(make_study):
    frame = make_study().astype({"test_loss": object})
    frame.loc[4, ["test_loss", "status"]] = ["n/a", "failed"]
    assert len(load_runs(frame)) == 24


def test_missing_column_names_those_present(make_study):
    with pytest.raises(ConfigError, match=r"'params'.*--num-params.*num_params"):
        load_runs(make_study(), num_params="params")


def test_missing_column_of_a_loss_names_those_that_may_be_meant(make_study):
    frame = make_study().rename(columns={"test_loss": "loss", "val_loss": "Val Loss"})
    with pytest.raises(ConfigError, match=r"'test_loss'; name it with --loss \(perhaps .*--loss 'loss'.*'Val Loss'"):
        load_runs(frame)


def test_table_of_one_axis_names_the_form_for_it(make_study):
    with pytest.raises(ConfigError, match="or fit along N alone: --form power_floor --axis N"):
        load_runs(make_study().drop(columns="train_structures"))
    with pytest.raises(ConfigError) as both:
        load_runs(make_study().drop(columns=["train_structures", "num_params"]))
    assert "alone" not in str(both.value)
    with pytest.raises(ConfigError, match="'nowhere'; name it with --flops"):
        load_runs(make_study(), flops="nowhere")
    with pytest.raises(DataError, match="Fit along D alone: --form power_floor --axis D"):
        fit(load_runs(make_study(widths={4: 373}, seeds=(0, 1))), replicates=0)


def test_data_size_is_derived_from_flops():
    frame = pd.DataFrame({"n": [10.0, 20.0], "c": [600.0, 600.0], "y": [1.0, 2.0]})
    table = load_runs(frame, num_params="n", flops="c", loss="y")
    np.testing.assert_allclose(table.data_size, [10.0, 5.0])


def test_data_size_is_derived_from_flops_only_where_it_is_not_given(make_study):
    frame = make_study()
    both = load_runs(frame, data_size="train_atoms", flops="train_flops")
    np.testing.assert_array_equal(both.data_size, frame["train_atoms"])
    np.testing.assert_array_equal(both.axis("C"), frame["train_flops"])
    derived = load_runs(frame, flops="train_flops")
    np.testing.assert_allclose(derived.data_size, frame["train_flops"] / (6 * frame["num_params"]))


def test_rows_of_steps_instead_of_runs_are_refused():
    frame = pd.DataFrame({"num_params": np.arange(1.0, 20_002.0), "train_structures": 3.0, "test_loss": 5.0})
    with pytest.raises(DataError, match="20,001 rows, more than 20,000: a table of runs has one row a run"):
        load_runs(frame)
    assert len(load_runs(frame[1:])) == 20_000


def test_axis_that_is_not_needed_may_be_absent(make_study):
    table = load_runs(make_study().drop(columns="train_structures"), axes=("N",))
    assert len(table) == 25
    assert np.isnan(table.data_size).all()


def test_rows_equal_in_all_columns_are_duplicates_without_run_id():
    frame = pd.DataFrame({"num_params": [1.0, 1.0, 2.0], "train_structures": [3.0] * 3, "test_loss": [5.0, 5.0, 4.0]})
    assert reasons(load_runs(frame)) == {"row 2": "duplicate of row 1"}


def test_empty_file_is_told(tmp_path):
    path = tmp_path / "runs.csv"
    path.write_text("")
    with pytest.raises(DataError, match="cannot be read"):
        load_runs(path)
    path.write_text("num_params,train_structures,test_loss\n")
    with pytest.raises(DataError, match="no rows"):
        load_runs(path)


def test_highest_losses_are_dropped_and_listed(make_study):
    table = load_runs(make_study())
    kept = table.drop_highest(5)
    assert kept.loss.max() == np.sort(table.loss)[-6]
    assert len(kept.excluded) == 5
    with pytest.raises(ConfigError, match="drop_highest=25"):
        table.drop_highest(25)


def test_sizes_that_differ_by_rounding_are_one():
    np.testing.assert_array_equal(distinct_sizes(np.array([100.0, 100.00001, 250.0, np.nan])), [100.0, 250.0])


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        ("N,D,loss\n1000,10,0.5,1\n2000,10,0.4,1\n", DataError, "more fields than its first line"),
        ("N,D,loss\n1000,10,0.5\n2000,10,0.4,1\n", DataError, "cannot be read as csv|more fields"),
        ("N;D;loss\n1000;10;0.5\n2000;10;0.4\n", DataError, "semicolons between the fields"),
        (
            "1000,10,0.5\n2000,10,0.4\n",
            DataError,
            r"holds numbers \(1000, 10, 0.5\); put a line with the columns' names",
        ),
        ("status,width\nfailed,8\nwaiting,16\n", DataError, "none of its 2 runs is done"),
    ],
)
def test_table_that_would_be_misread_is_refused(text, error, message, tmp_path):
    path = tmp_path / "runs.csv"
    path.write_text(text)
    with pytest.raises(error, match=message):
        load_runs(path, num_params="N", data_size="D", loss="loss")


def test_blanks_after_commas_do_not_matter(tmp_path):
    path = tmp_path / "runs.csv"
    path.write_text("N, D, loss\n1000, 10, 0.5\n2000, 10, 0.4\n")
    assert load_runs(path, num_params="N", data_size="D", loss="loss").loss.tolist() == [0.5, 0.4]


def test_one_column_cannot_stand_for_two_things(tmp_path):
    path = tmp_path / "runs.csv"
    path.write_text("N,loss\n1000,0.5\n2000,0.4\n")
    with pytest.raises(ConfigError, match="stands for two things"):
        load_runs(path, num_params="N", data_size="loss", loss="loss")
