"""Tables as they come: each gets an answer or one clear line, never a traceback."""

import json

import numpy as np
import pandas as pd
import pytest

from analysis.__main__ import main

SIZES = [1e4, 3e4, 1e5, 3e5, 1e6, 3e6, 1e7, 3e7, 1e8, 3e8]
COMMANDS = {
    "fit": ["fit", "--form", "power_floor", "--bootstrap", "100"],
    "compare": ["compare", "--forms", "power,power_floor,m3", "--axis", "N"],
    "backtest": ["backtest", "--form", "power_floor"],
    "report": ["report", "--form", "power_floor", "--bootstrap", "100"],
}


def lawful(**columns) -> pd.DataFrame:
    noise = np.random.default_rng(0).normal(size=len(SIZES))
    loss = (0.1 + 30 * np.array(SIZES) ** -0.5) * np.exp(0.02 * noise)
    return pd.DataFrame({"num_params": SIZES, "test_loss": loss, **columns})


def changed(column: str, row: int, value) -> pd.DataFrame:
    frame = lawful().astype({column: object})
    frame.loc[row, column] = value
    return frame


@pytest.fixture(params=COMMANDS)
def ask(request, tmp_path, capsys, unpainted):
    """Run a command on a table; its exit code and all it says."""

    def run(table: pd.DataFrame | str) -> tuple[str, int, str]:
        path = tmp_path / "runs.csv"
        path.write_text(table) if isinstance(table, str) else table.to_csv(path, index=False)
        command, *options = COMMANDS[request.param]
        code = main([command, str(path), *options])
        said = capsys.readouterr()
        text = said.out + said.err
        assert "Traceback" not in text
        if code:
            assert said.err.startswith("error: ")
            assert said.err.count("\n") == 1
            assert not said.out
        page = tmp_path / "runs_report" / "index.html"
        return request.param, code, text + (page.read_text() if page.exists() else "")

    return run


def test_a_lawful_table_is_answered(ask):
    # The control: what is refused below is refused for what is wrong with it.
    _, code, text = ask(lawful())
    assert code == 0
    assert "No law could be fitted" not in text


def test_one_size_only(ask):
    frame = lawful()
    frame["num_params"] = 1e6
    frame["test_loss"] += np.arange(len(frame)) * 1e-3
    _, _, text = ask(frame)
    assert "needs at least two sizes of num_params" in text or "sizes 1 of num_params" in text


@pytest.mark.parametrize(("loss", "words"), [(-1.0, "= -1 is not finite and positive"), (np.nan, "is missing or not")])
def test_negative_or_missing_loss_is_left_out_by_name(ask, loss, words):
    command, code, text = ask(changed("test_loss", 4, loss))
    assert code == 0
    if command != "report":
        assert "excluded row 5" in text
    assert words in text


def test_duplicated_runs_count_once(ask):
    _, code, text = ask(pd.concat([lawful(), lawful()]))
    assert code == 0
    assert "duplicate of row 1" in text


def test_mixed_studies_are_fitted_and_named(ask):
    _, code, text = ask(lawful(study=["one", "two"] * 5))
    assert code == 0
    assert "different studies (one, two)" in text


def test_model_families_are_fitted_apart_or_named(ask):
    command, code, text = ask(lawful(model=["egnn", "gemnet"] * 5))
    assert code == 0
    apart = command in ("fit", "report")
    assert ("A law for each model" if apart else "different model families (egnn, gemnet)") in text


def test_loss_that_rises_with_size_is_no_law(ask):
    frame = lawful()
    frame["test_loss"] = frame["test_loss"].to_numpy()[::-1]
    command, code, text = ask(frame)
    assert code == 0
    assert {
        "compare": "No power law here: the loss does not fall with N",
        "backtest": "the loss does not fall with N",
    }.get(command, "do not determine alpha") in text


def test_text_in_a_column_of_numbers_is_told_with_its_row(ask):
    _, code, text = ask(changed("num_params", 2, "100k"))
    assert code == 3
    assert "column 'num_params' must hold numbers; row 3 holds '100k'" in text


def test_one_loss_only_determines_nothing(ask):
    frame = lawful()
    frame["test_loss"] = 0.25
    command, _, text = ask(frame)
    if command in ("fit", "report", "backtest"):
        assert "all 10 runs have the same test_loss, 0.25" in text
    else:
        assert "no better than a constant" in text


def test_three_rows(ask):
    _, _, text = ask(lawful()[:3])
    assert "needs at least 4 runs" in text or "an origin needs 3 sizes, 6 runs" in text


@pytest.mark.parametrize(("content", "words"), [("", "cannot be read as csv"), ("num_params,test_loss\n", "no rows")])
def test_empty_file(ask, content, words):
    _, code, text = ask(content)
    assert code == 3
    assert words in text


@pytest.mark.parametrize(
    "ask", ["fit", *(pytest.param(name, marks=pytest.mark.long) for name in COMMANDS if name != "fit")], indirect=True
)
def test_a_million_rows_are_checkpoints_not_runs(ask):
    rows = "\n".join(f"{step},{1 / step}" for step in range(1, 1_000_001))
    _, code, text = ask(f"num_params,test_loss\n{rows}\n")
    assert code == 3
    assert "1,000,000 rows" in text
    assert "last checkpoint" in text


@pytest.mark.parametrize("command", ["compare", "backtest"])
def test_more_rows_than_forms_are_compared_on(tmp_path, capsys, command):
    path = tmp_path / "runs.csv"
    steps = np.arange(1, 3_001)
    pd.DataFrame({"num_params": steps, "test_loss": 1.0 / steps}).to_csv(path, index=False)
    assert main([command, str(path), *COMMANDS[command][1:]]) == 3
    assert "3,000 runs are more than 2,000" in capsys.readouterr().err


def test_compare_as_json_names_every_rejection(tmp_path, capsys):
    path = tmp_path / "runs.csv"
    lawful().to_csv(path, index=False)
    assert main(["compare", str(path), "--forms", "power,power_floor,bnsl2", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["chosen"]
    for one in found["contenders"]:
        assert bool(one["rejected_because"]) == (one["name"] != found["best"])
    (large,) = [one for one in found["contenders"] if one["form"] == "bnsl2"]
    assert "too few runs for its 9 parameters" in large["rejected_because"][0]


def test_backtest_that_could_test_nothing_is_refused(tmp_path, capsys):
    path = tmp_path / "runs.csv"
    path.write_text("N,D,loss\n100,1000,1.0\n200,1000,0.8\n100,2000,0.9\n200,2000,0.7\n")
    columns = ["--num-params", "N", "--data-size", "D", "--loss", "loss"]
    assert main(["backtest", str(path), *columns, "--form", "power"]) == 3
    said = capsys.readouterr()
    assert "no larger runs could be predicted: form power has 2 parameters and needs at least 3 runs" in said.err
    assert not said.out
