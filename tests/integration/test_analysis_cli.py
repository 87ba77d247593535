"""The analysis commands as a user types them."""

import json
import os
import re
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from analysis.__main__ import main
from analysis.example import example_runs

ROOT = Path(__file__).parents[2]
CHINCHILLA = ROOT.parent / "shared" / "data" / "fits" / "epoch_chinchilla" / "svg_extracted_data.csv"
FIT_KEYS = {
    "form",
    "params",
    "objective",
    "delta",
    "n",
    "converged",
    "starts",
    "excluded",
    "at_bound",
    "condition_number",
    "identified",
    "backtest",
    "conventions",
}


@pytest.fixture
def study(tmp_path):
    folder = tmp_path / "studies" / "grid"
    folder.mkdir(parents=True)
    write_study(folder, num_widths=5)
    return folder


def write_study(folder, *, num_widths, status="done"):
    generator = np.random.default_rng(0)
    rows = []
    for width in range(num_widths):
        for size in (64, 256, 1024, 4096, 16384):
            params = 373 * 3.6**width
            loss = (0.05 + 2 * params**-0.35 + 3 * size**-0.5) * np.exp(0.05 * generator.normal())
            rows.append(
                {
                    "run_id": f"w{width}-n{size}",
                    "status": status,
                    "failure": None,
                    "width": 2 ** (width + 2),
                    "num_params": int(params),
                    "train_structures": size,
                    "steps": 4000,
                    "test_loss": loss,
                    "baseline_test_loss": 1.91,
                }
            )
    pd.DataFrame(rows).to_parquet(folder / "runs.parquet")


def test_report_writes_figures_fit_and_a_page_in_sections_that_needs_no_network(study, capsys):
    assert main(["report", str(study), "--bootstrap", "100"]) == 0
    report = study / "report"
    fitted = json.loads((report / "fit.json").read_text())
    assert fitted.keys() >= FIT_KEYS
    assert fitted["params"]["alpha"].keys() == {"value", "se", "ci95"}
    assert [test["held_out_axis"] for test in fitted["backtest"]] == ["N", "D"]
    for name in ("loss_vs_params", "loss_vs_data", "surface", "residuals", "backtest", "profile", "corner"):
        assert (report / f"{name}.png").read_bytes()[:4] == b"\x89PNG"
        assert b"<svg" in (report / f"{name}.svg").read_bytes()
    page = (report / "index.html").read_text()
    assert "same 4,000 steps" in page
    assert "composition-only baseline" in page
    assert not [file for file in report.iterdir() if file.name.startswith(".")]
    assert "L = E + A / N^alpha + B / D^beta" in capsys.readouterr().out

    for outside in ('src="http', "src='http", "@import", "<link", "url(http"):
        assert outside not in page
    headings = re.findall(r"<h2>(.*?)</h2>", page)
    order = ["The law, and how sure it is", "What limits it", "The law", "Parameters", "How far to trust it"]
    assert headings[: len(order)] == order
    assert headings[-1] == "Conventions"
    assert "Compute-optimal sizes" in page
    assert page.count('src="data:image/svg+xml;base64,') == len(list(report.glob("*.svg"))) >= 7
    assert "Figures that this table does not allow" in page
    for convention in ("objective", "delta", "exclusions", "intervals", "condition number"):
        assert f"<dt>{convention}</dt>" in page


def test_text_from_the_table_cannot_become_markup(study, unpainted):
    write_study(study, num_widths=1)
    frame = pd.read_parquet(study / "runs.parquet")
    frame.loc[0, ["status", "failure"]] = ["failed", "<script>alert(1)</script>"]
    frame.to_parquet(study / "runs.parquet")
    main(["report", str(study), "--bootstrap", "100"])
    page = (study / "report" / "index.html").read_text()
    assert "<script>alert" not in page
    assert "&lt;script&gt;alert" in page


def test_same_table_gives_the_same_bytes(study):
    contents = []
    for _ in range(2):
        main(["report", str(study), "--bootstrap", "100", "--form", "power_floor"])
        contents.append({file.name: file.read_bytes() for file in (study / "report").iterdir()})
    assert contents[0] == contents[1]


def test_report_of_too_few_runs_says_so_plainly(study, unpainted):
    write_study(study, num_widths=1)
    assert main(["report", str(study), "--bootstrap", "100"]) == 0
    assert "No law could be fitted: form chinchilla has 5 parameters" in (study / "report" / "index.html").read_text()
    assert json.loads((study / "report" / "fit.json").read_text())["converged"] is False


def test_report_of_a_study_that_has_not_begun_is_written(study, unpainted):
    write_study(study, num_widths=2, status="waiting")
    assert main(["report", str(study)]) == 0
    assert "not done: status is waiting" in (study / "report" / "index.html").read_text()


def test_report_of_another_form_draws_its_axis_alone(study, unpainted):
    assert main(["report", str(study), "--form", "power_floor", "--axis", "D", "--bootstrap", "100"]) == 0
    assert (study / "report" / "loss_vs_data.png").exists()
    assert not (study / "report" / "surface.png").exists()


def test_report_of_every_form_and_axis_is_written(study, tmp_path, unpainted):
    frame = pd.read_parquet(study / "runs.parquet")
    frame["train_flops"] = 6.0 * frame["num_params"] * frame["train_structures"]
    frame.to_csv(tmp_path / "runs.csv", index=False)
    out = tmp_path / "out"
    assert (
        main(["report", str(tmp_path / "runs.csv"), "--form", "compute", "--bootstrap", "100", "--out", str(out)]) == 0
    )
    assert (out / "loss_vs_flops.png").exists()
    assert (out / "cost_compute.png").exists()
    assert not (out / "loss_vs_params.png").exists()


@pytest.mark.parametrize(
    "spoil",
    [
        *["text in device_hours, widths missing", "one loss, no bootstrap"],
        *(
            pytest.param(spoil, marks=pytest.mark.long)
            for spoil in ("text in device_hours", "widths missing", "no bootstrap", "loss rises with N")
        ),
    ],
)
def test_report_of_an_odd_table_is_written_without_a_warning(spoil, tmp_path, painted_once):
    runs = example_runs()
    if "text in device_hours" in spoil:
        runs["device_hours"] = "an hour"
    if "widths missing" in spoil:
        runs.loc[:30, "width"] = np.nan
    if "one loss" in spoil:
        runs["test_loss"] = 0.2
    if spoil == "loss rises with N":
        runs["test_loss"] = 0.1 * runs["num_params"] ** 0.2
    runs.to_csv(tmp_path / "runs.csv", index=False)
    replicates = "0" if "no bootstrap" in spoil else "100"
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        assert main(["report", str(tmp_path / "runs.csv"), "--bootstrap", replicates]) == 0
    assert (tmp_path / "runs_report" / "index.html").exists()


def test_report_names_the_file_alone_and_writes_sizes_as_text_does(study, tmp_path, unpainted):
    frame = pd.read_parquet(study / "runs.parquet")
    frame["num_params"] = frame["num_params"].replace(frame["num_params"].max(), 1_730_000_000)
    frame.to_csv(tmp_path / "runs.csv", index=False)
    assert main(["report", str(tmp_path / "runs.csv"), "--bootstrap", "0"]) == 0
    page = (tmp_path / "runs_report" / "index.html").read_text()
    assert "runs.csv." in page
    assert str(tmp_path) not in page
    assert ">1.73B<" in page
    assert "1.73e+09" not in page


def test_plot_draws_one_figure_and_lists_them_all(study, tmp_path, capsys):
    out = tmp_path / "influence.svg"
    assert main(["plot", str(study), "--kind", "influence", "--out", str(out), "--bootstrap", "100", "--json"]) == 0
    assert b"<svg" in out.read_bytes()
    assert json.loads(capsys.readouterr().out)["file"] == str(out)
    assert main(["plot", str(study), "--bootstrap", "100", "--json"]) == 0
    lacks = {row["kind"]: row["lacks"] for row in json.loads(capsys.readouterr().out)}
    assert lacks["influence"] is None
    assert "train_flops" in lacks["cost_compute"]


def test_plot_lays_the_law_of_another_table_beside(study, tmp_path, capsys):
    other = tmp_path / "other"
    other.mkdir()
    write_study(other, num_widths=4)
    out = tmp_path / "overlay.png"
    assert main(["plot", str(study), "--beside", str(other), "--kind", "overlay", "--out", str(out)]) == 0
    assert main(["plot", str(study), "--kind", "overlay", "--out", str(out)]) == 2
    assert "--beside" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--kind", "pie", "--out", "x.png"], "--kind=pie is not a figure"),
        (["--kind", "surface"], "--out is missing"),
        (["--kind", "surface", "--out", "x.gif"], "must be one of"),
        (["--kind", "cost_compute", "--out", "x.png"], "cannot be drawn: it needs two runs"),
    ],
)
def test_mistakes_of_plotting_are_one_line(study, capsys, arguments, words):
    assert main(["plot", str(study), "--bootstrap", "100", *arguments]) == 2
    assert words in capsys.readouterr().err


def test_fit_writes_the_file_it_is_told(study, tmp_path, capsys):
    out = tmp_path / "deep" / "law.json"
    assert main(["fit", str(study), "--bootstrap", "100", "--json", "--out", str(out)]) == 0
    assert json.loads(out.read_text()) == json.loads(capsys.readouterr().out)


@pytest.mark.parametrize(
    "arguments",
    [
        ["fit", "--out", "one/two/law.json"],
        ["report", "--out", "one/two"],
        ["plot", "--kind", "surface", "--out", "one/two/surface.png"],
        ["next", "--figures", "one/two"],
    ],
)
def test_folder_in_a_folder_that_does_not_exist_is_not_made(study, tmp_path, capsys, monkeypatch, arguments):
    monkeypatch.chdir(tmp_path)
    command, *options = arguments
    assert main([command, str(study), "--bootstrap", "0", *options]) == 2
    assert f"{options[-2]}: one/two cannot be made, since one does not exist" in capsys.readouterr().err
    assert not (tmp_path / "one").exists()


def test_a_reader_that_leaves_early_is_no_error(study):
    read, write = os.pipe()
    os.close(read)
    command = [sys.executable, "-m", "analysis", "fit", str(study), "--bootstrap", "0"]
    done = subprocess.run(command, cwd=ROOT, stdout=write, stderr=subprocess.PIPE, text=True, check=False)
    os.close(write)
    assert (done.returncode, done.stderr) == (0, "")


def test_fit_prints_the_verdict_on_the_form(study, capsys):
    assert main(["fit", str(study), "--bootstrap", "0"]) == 0
    assert "no lack of fit is seen" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["--form", "kepler"], 2, "form=kepler is not supported"),
        (["--loss", "accuracy"], 2, "no column 'accuracy'"),
        (["--delta", "0"], 2, "delta=0.0 must be"),
        (["--objective", "l1"], 2, "objective=l1"),
        (["--drop-highest", "24"], 3, "needs at least 6 runs"),
    ],
)
def test_a_mistake_is_one_line_and_the_errors_exit_code(study, capsys, arguments, code, words):
    assert main(["fit", str(study), *arguments]) == code
    captured = capsys.readouterr()
    assert captured.err.startswith("error: ")
    assert captured.err.count("\n") == 1
    assert words in captured.err
    assert not captured.out


def test_missing_table_is_told(capsys):
    assert main(["fit", "nowhere.csv"]) == 3
    assert capsys.readouterr().err == "error: nowhere.csv does not exist\n"


def test_command_starts_quickly_and_without_torch():
    code = (
        "import sys, analysis.__main__; "
        "sys.exit(any(name in sys.modules for name in ('torch', 'deepspeed', 'hydra', 'matplotlib')))"
    )
    before = os.times()
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0
    after = os.times()
    # What it computes, whatever else the machine does: half a second.
    assert after.children_user + after.children_system - before.children_user - before.children_system < 2


@pytest.mark.skipif(not CHINCHILLA.exists(), reason="../shared is not on this machine")
@pytest.mark.parametrize(("objective", "big_b"), [("huber", 2143.4), ("lad", 2085.434)])
def test_published_table_through_the_command(capsys, objective, big_b):
    columns = ["--num-params", "Model Size", "--flops", "Training FLOP", "--loss", "loss"]
    choice = ["--drop-highest", "5", "--objective", objective, "--bootstrap", "0", "--json"]
    assert main(["fit", str(CHINCHILLA), "--form", "chinchilla", *columns, *choice]) == 0
    fitted = json.loads(capsys.readouterr().out)
    assert fitted["n"] == 240
    assert len(fitted["excluded"]) == 5
    assert fitted["params"]["B"]["value"] == pytest.approx(big_b, rel=1e-3)


def test_next_prints_runs_within_the_budget_and_says_what_else_it_would_buy(study, tmp_path, capsys):
    arguments = ["next", str(study), "--bootstrap", "100", "--count", "3", "--budget", "1e11"]
    assert main([*arguments, "--json", "--figures", str(tmp_path / "figures")]) == 0
    found = json.loads(capsys.readouterr().out)
    runs = found["recommended"]["runs"]
    assert 1 <= len(runs) <= 3
    assert sum(run["cost"] for run in runs) <= found["budget"] == 1e11
    assert runs[-1]["width_after"] < found["width"]
    assert {plan["name"] for plan in found["alternatives"]} <= {"next larger model", "more data", "more seeds"}
    assert {file.name for file in (tmp_path / "figures").iterdir()} >= {"next_map.png", "next_width.svg"}
    assert main(arguments) == 0
    printed = capsys.readouterr().out
    assert "for the same budget" in printed
    assert main([*arguments, "--target", "N*", "--at-flops", "1e12"]) == 0
    assert "N* at C = 1e+12" in capsys.readouterr().out


def test_next_tells_a_target_that_cannot_be(study, capsys):
    assert main(["next", str(study), "--bootstrap", "100", "--target", "kappa"]) == 2
    assert "choose loss, alpha, beta, N*" in capsys.readouterr().err


@pytest.fixture
def architectures(study):
    """Two architectures with a law, one with too few runs."""
    write_study(study, num_widths=5)
    one = pd.read_parquet(study / "runs.parquet")
    parts = []
    for model, factor, part in (("egnn", 1.0, one), ("gemnet_t", 0.8, one), ("dimenetpp", 1.2, one.head(3))):
        loss, names = factor * part["test_loss"], f"{model}-" + part["run_id"]
        parts.append(part.assign(model=model, test_loss=loss, run_id=names, data_digest="ab12"))
    pd.concat(parts, ignore_index=True).to_parquet(study / "runs.parquet")
    return study


def test_report_of_several_architectures_compares_their_laws_unasked(architectures, capsys, unpainted):
    assert main(["report", str(architectures), "--bootstrap", "0"]) == 0
    printed = capsys.readouterr().out
    assert "A law for each model: 2 of 3 could be fitted." in printed
    assert "alpha of egnn and gemnet_t show no difference" in printed
    report = architectures / "report"
    document = json.loads((report / "fit.json").read_text())
    assert document["by"] == "model"
    assert list(document["laws"]) == ["dimenetpp", "egnn", "gemnet_t"]
    for name, law in document["laws"].items():
        assert law == json.loads((report / f"report-{name}" / "fit.json").read_text())
    assert document["laws"]["egnn"].keys() >= FIT_KEYS
    assert "needs at least 6 runs" in document["laws"]["dimenetpp"]["problem"]
    assert (report / "overlay.png").exists()
    page = (report / "index.html").read_text()
    for words in (
        "Do the laws differ?",
        "irreducible loss",
        'href="report-gemnet_t/index.html"',
        "No law of dimenetpp",
    ):
        assert words in page
    own = (report / "report-egnn" / "index.html").read_text()
    assert 'href="../index.html"' in own
    assert "How far to trust it" in own
    assert "One law was fitted across" not in own
    assert "NOT comparable" not in page


def test_pooled_report_warns_and_leaves_no_figure_of_the_compared_one(architectures, capsys, unpainted):
    assert main(["fit", str(architectures), "--bootstrap", "0", "--by", "none"]) == 0
    assert "One law was fitted across different model families" in capsys.readouterr().out
    assert main(["report", str(architectures), "--bootstrap", "0", "--by", "none"]) == 0
    assert "One law was fitted across different model families" in (architectures / "report/index.html").read_text()
    assert json.loads((architectures / "report" / "fit.json").read_text())["n"] == 53


def test_fit_of_several_architectures_fits_each(architectures, tmp_path, capsys):
    out = tmp_path / "laws.json"
    assert main(["fit", str(architectures), "--bootstrap", "0", "--json", "--out", str(out)]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document == json.loads(out.read_text())
    assert main(["fit", str(architectures), "--bootstrap", "0", "--json", "--only", "model=egnn"]) == 0
    assert document["laws"]["egnn"] == json.loads(capsys.readouterr().out)
    assert main(["fit", str(architectures), "--bootstrap", "0"]) == 0
    printed = capsys.readouterr().out
    assert "A law for each model (--by none fits one law to all)" in printed
    assert "no law: form chinchilla" in printed


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["report", "--by", "models"], "no column 'models'"),
        (["report", "--by", "test_loss"], "53 values; laws of 2 to 7 kinds"),
        (["report", "--by", "model", "--beside", "other.csv"], "give one of them"),
        (["next", "--only", "model=schnet"], "holds no 'schnet'; choose one of dimenetpp, egnn, gemnet_t"),
    ],
)
def test_mistakes_of_parting_a_table_are_one_line(architectures, capsys, arguments, words):
    command, *options = arguments
    assert main([command, str(architectures), *options]) == 2
    assert words in capsys.readouterr().err
