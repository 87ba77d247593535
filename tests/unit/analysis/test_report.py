"""A report says the same at a terminal and on its page: one list of findings, set in two ways."""

import html
import re

import numpy as np
import pandas as pd
import pytest

from analysis.__main__ import main
from analysis.fitting import FitChoice
from analysis.report.html import write_page
from analysis.report.parameters import parameters_section
from analysis.report.sections import Cell, Section, Sentence, Table, all_sentences, cautions_of, plain
from analysis.report.text import to_text
from analysis.study.results import Results
from analysis.tables import load_runs

LISTINGS = re.compile(r"Runs|Excluded|Rows without|Conventions|The exponents under other conventions")
"""Sections of a page that list what the findings rest on."""


def page_sentences(page: str) -> list[str]:
    """The sentences of the page's findings as plain text."""
    found = []
    for section in re.findall(r"<section.*?</section>", page, re.DOTALL):
        if not LISTINGS.match(re.search(r"<h2>(.*?)</h2>", section)[1]):
            found += re.findall(r"<p[^>]*>(.*?)</p>", section, re.DOTALL)
    plain_texts = [re.sub(r"<sup>(.*?)</sup>", r"^\1", text) for text in found]
    return [html.unescape(text).replace("α", "alpha").replace("β", "beta").strip() for text in plain_texts]


def missing(page: str, printed: str) -> list[str]:
    return [text for text in page_sentences(page) if text not in printed]


def bent(frame):
    """Losses with a product of the log sizes, which no sum of powers has, and runs of two tasks."""
    bend = np.log(frame["num_params"] / 4e3) * np.log(frame["train_structures"] / 1e3)
    task = np.where(np.arange(len(frame)) % 2, "a", "b")
    return frame.assign(test_loss=frame["test_loss"] * np.exp(0.05 * bend), Task=task)


def several(frame):
    """Two kinds with a law, of other data, and one with too few runs."""
    other = frame.assign(model="gemnet_t", test_loss=0.8 * frame["test_loss"], data_digest="other")
    parts = [frame, other, frame.head(3)]
    parts[1:] = [parts[1], parts[2].assign(model="dimenetpp")]
    return pd.concat([part.assign(run_id=part["run_id"] + part["model"]) for part in parts])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (bent, ["The form does not fit: the residuals follow a pattern in N and D"]),
        (several, ["No law of dimenetpp", "Losses are NOT comparable"]),
        (lambda frame: frame.head(3), ["No law could be fitted"]),
    ],
    ids=["misfit", "several architectures", "too few runs"],
)
def test_terminal_says_every_sentence_of_the_page(make_study, tmp_path, capsys, unpainted, change, words):
    path = tmp_path / "runs.csv"
    change(make_study()).to_csv(path, index=False)
    assert main(["report", str(path), "--bootstrap", "0"]) == 0
    printed, page = capsys.readouterr().out, (tmp_path / "runs_report" / "index.html").read_text()
    assert len(page_sentences(page)) >= 2
    assert missing(page, printed) == []
    for phrase in words:
        assert any(phrase in text for text in page_sentences(page))
        without = "\n".join(line for line in printed.splitlines() if phrase not in line)
        assert any(phrase in text for text in missing(page, without)), "the control: what is left out is seen"


def test_no_fit_is_shown_of_a_few_runs_along_one_axis(make_study):
    runs = make_study()
    largest = runs["train_structures"] == runs["train_structures"].max()
    sparse = runs[~largest | (runs["width"] <= 16)]
    for frame, shown in ((runs, True), (sparse, False)):
        section = parameters_section(Results(load_runs(frame), FitChoice(replicates=0)))
        titles = " ".join(part.title for part in section.parts)
        assert ("Power and floor in N at D" in titles) == shown
        assert "Power and floor in D at N" in titles


SECTION = Section(
    "How it went",
    [Sentence("Well, N^alpha.", "yes"), *cautions_of(["Mind <this>."])],
    [Table(["run", "loss", "why"], [["one", Cell("0.5", 0.5), ""], ["three", Cell("0.25", 0.25), "late"]])],
    [Section("In detail", plain("More."), link="there.html"), Section("And", parts=[Section("Deeper", plain("Yes."))])],
    terms={"loss": "what is lost"},
)


def test_text_has_headings_marks_and_columns():
    assert to_text([SECTION, Section("Nothing")]).splitlines() == [
        "# How it went",
        "  ✓ Well, N^alpha.",
        "  Caution. Mind <this>.",
        "  run    loss  why",
        "  one     0.5",
        "  three  0.25  late",
        "  loss: what is lost",
        "",
        "## In detail",
        "  More.",
        "",
        "## And",
        "",
        "### Deeper",
        "  Yes.",
    ]


def test_page_has_all_that_the_text_has(tmp_path):
    write_page(tmp_path, "A report", [SECTION, Section("Nothing")], [])
    page = (tmp_path / "index.html").read_text()
    assert '<p class="yes">Well, N<sup>α</sup>.</p>' in page
    assert "Mind &lt;this&gt;." in page
    assert '<td data-sort="0.25">0.25</td>' in page
    assert '<a href="there.html">In detail</a>' in page
    assert "<dt>loss</dt><dd>what is lost</dd>" in page
    assert "Nothing" not in page
    texts = [sentence.text for sentence in all_sentences([SECTION])]
    assert texts == ["Well, N^alpha.", "Mind <this>.", "More.", "Yes."]
    assert len(page_sentences(page)) == 4


def test_empty_last_column_is_left_out():
    table = Table(["a", "b"], [["1", ""], ["2", ""]])
    assert table.without_empty_end() == Table(["a"], [["1"], ["2"]])
    full = Table(["a", "b"], [["1", ""], ["2", "x"]])
    assert full.without_empty_end() is full
