"""What a table of runs says, in sections: the one list that a terminal and a page show."""

from collections.abc import Callable

import numpy as np

from analysis.report.decisions import decision_sections
from analysis.report.parameters import parameters_section, verdicts_of
from analysis.report.sections import Cell, Section, Sentence, Table, cautions_of, number_cell, plain
from analysis.report.trust import trust_section
from analysis.study import DECISIONS, NEXT, Results, best_run_sentence, headline
from analysis.texts import count_text, size_text


def study_findings(results: Results) -> list[Section]:
    """From the law to what to do next, in the order in which a reader asks."""
    return [make(results) for make in FINDINGS]


def headline_of(results: Results) -> str:
    """The law in one sentence, or why there is none."""
    return f"No law could be fitted: {results.problem}" if results.problem else headline(results.law)


def law_section(results: Results) -> Section:
    """The law, what the runs determine of it, whether the form fits, and the best run."""
    sentences = [Sentence(headline_of(results), "law none" if results.problem else "law")]
    if not results.problem:
        sentences += verdicts_of(results.law)
        if not results.law.lack_of_fit.significant:  # else it is among the cautions
            sentences += plain(f"Test of the form: {results.law.lack_of_fit.sentence}.")
    if len(results.table):
        sentences += plain(best_run_sentence(results.table))
    return Section("The law, and how sure it is", sentences)


def limits_section(results: Results) -> Section:
    """Every caution, and how many rows were not fitted."""
    sentences = cautions_of(results.cautions)
    excluded = len(results.table.excluded)
    if excluded:
        sentences += plain(f"{excluded} rows of the table were not fitted; they are listed with reasons.")
    return Section("What limits it", sentences)


def decisions_section(results: Results) -> Section:
    """What `analysis.report.decisions` says of the law."""
    if results.problem:
        return Section(DECISIONS)
    intro = plain("Intervals are of the law alone: they hold for this form, these runs and their training.")
    return Section(DECISIONS, intro, parts=decision_sections(results.decisions), figures=DECISIONS)


def next_section(results: Results) -> Section:
    """The runs that narrow the loss at ten times the largest sizes most, and what else the same budget would buy."""
    if results.problem:
        return Section(NEXT)
    advice = results.advice
    if isinstance(advice, str):
        return Section(NEXT, plain(advice))
    where = ", ".join(f"{axis} = {size_text(size)}" for axis, size in advice.target.sizes.items())
    wanted = f"loss at {where}" if where else advice.target.name
    low, high = np.exp(advice.ci95)
    sentences = plain(
        f"To narrow the interval of the {wanted} (now {low:.4g} to {high:.4g}, a width of {advice.width:.3g} in "
        f"log loss) for at most {advice.budget:.3g} {advice.cost.unit}, in this order. For another target or "
        "budget: python -m analysis next.",
        f"Cost: {advice.cost.sentence}. Widths are expected ones, to first order and if the form holds.",
    )
    known = results.law.cautions  # what limits the law is said above
    sentences += cautions_of(f"{text}." for text in advice.warnings if f"{text}." not in known)
    unit, rows = advice.cost.unit, []
    for place, run in enumerate(advice.recommended.runs, start=1):
        sizes = [Cell(count_text(size), size) for size in run.sizes.values()]
        rows.append([str(place), *sizes, number_cell(run.cost, ".3g"), number_cell(run.width, ".3f"), run.words])
    plans = [
        [
            plan.name,
            number_cell(len(plan.runs), ".0f"),
            number_cell(plan.cost, ".3g"),
            number_cell(plan.runs[-1].width, ".3f"),
        ]
        for plan in (advice.recommended, *advice.alternatives)
    ]
    tables = [
        Table(["run", *results.law.form.axes, unit, "width after", "in this study"], rows),
        Table(["for the same budget", "runs", unit, "width after"], plans),
    ]
    return Section(NEXT, sentences, tables, figures=NEXT)


FINDINGS: tuple[Callable[[Results], Section], ...] = (
    law_section,
    limits_section,
    parameters_section,
    trust_section,
    decisions_section,
    next_section,
)
