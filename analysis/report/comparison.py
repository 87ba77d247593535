"""The laws of several kinds of runs, e.g. architectures, side by side, in sections."""

import re

from analysis.fitting import Law
from analysis.report.listings import excluded_section
from analysis.report.parameters import verdicts_of
from analysis.report.sections import Cell, Section, Sentence, Table, cautions_of, number_cell, plain
from analysis.study import (
    ASSUMPTIONS,
    LOSS,
    Contrast,
    Groups,
    Results,
    best_run_sentence,
    headline,
    interval_sentence,
    verdicts,
)
from analysis.tables import distinct_sizes
from analysis.texts import interval_text, power_text, size_text

SIDE_BY_SIDE = "Side by side"
Row = dict[str, str | Cell]


def comparison_findings(groups: Groups) -> list[Section]:
    """Whether the laws differ, what limits the comparison, the laws side by side, and each by itself."""
    return [_verdict(groups), _limits(groups), _side_by_side(groups), _each(groups)]


def comparison_sections(groups: Groups) -> list[Section]:
    """The page from top to bottom."""
    excluded = excluded_section(groups.excluded, f"Rows without a {groups.by}") if groups.excluded else None
    return [*comparison_findings(groups), *filter(None, [excluded]), _conventions(groups)]


def page_names(values: list[str]) -> dict[str, str]:
    """A folder for each value, in letters that any file system and link allows; no two are one."""
    names: dict[str, str] = {}
    for value in values:
        name = f"report-{re.sub(r'[^A-Za-z0-9_.-]+', '_', value)}"
        taken = {other.lower() for other in names.values()}
        names[value] = name if name.lower() not in taken else f"{name}-{len(names)}"
    return names


def _headline(groups: Groups) -> str:
    """How many laws there are, of what, and why."""
    why = f" By {groups.by} because the table holds several; --by none fits one law to all."
    fitted = f"{len(groups.laws)} of {len(groups.results)}" if groups.unfitted else f"all {len(groups.laws)}"
    return f"A law for each {groups.by}: {fitted} could be fitted.{'' if groups.asked else why}"


def _verdict(groups: Groups) -> Section:
    sentences = [Sentence(_headline(groups), "law" if groups.laws else "law none")]
    sentences += cautions_of(groups.unlike_losses)
    sentences += [Sentence(text, "yes" if differ else "no") for text, differ in verdicts(groups.differences)]
    sentences += cautions_of(f"No law of {name}: {problem}." for name, problem in groups.unfitted.items())
    if groups.differences:
        one = groups.differences[0]
        count = len(groups.differences)
        text = f"Brackets are intervals of {100 * one.level:.3g} %, so that all {count} hold together with "
        text = f"{text}{100 * one.together:.3g} %. " if count > 1 else "Brackets are intervals of 95 %. "
        sentences += plain(f"✓ is a difference beyond that, ✗ is none that these runs show. {text}{ASSUMPTIONS}")
    return Section("Do the laws differ?", sentences)


def _limits(groups: Groups) -> Section:
    shown = set(groups.unlike_losses)
    return Section("What limits the comparison", cautions_of(text for text in groups.cautions if text not in shown))


def _side_by_side(groups: Groups) -> Section:
    rows = {name: _row(groups, name, results) for name, results in groups.results.items()}
    fullest_first = sorted(rows.values(), key=len, reverse=True)
    quantities = list(dict.fromkeys(quantity for row in fullest_first for quantity in row))
    cells = [[quantity, *[row.get(quantity, Cell("–", 0.0)) for row in rows.values()]] for quantity in quantities]
    sentences = []
    if groups.laws and isinstance(groups.at_common_compute, str):
        sentences += plain(f"No loss at equal compute: {groups.at_common_compute}.")
    elif groups.laws:
        text = "At equal compute each law takes its own best N and D; * marks sizes beyond the law's own runs."
        sentences += plain(text)
    sentences += plain(f"Equal N is not equal compute: a parameter does not cost alike in every {groups.by}.")
    title = "Laws, with 95 % intervals of each alone"
    parts = [Section(title, sentences, [Table([groups.by, *rows], cells)])]
    if groups.differences:
        head = ["", "first", "second", "first less second (losses: first over second)", "interval", "verdict"]
        parts.append(Section("Differences", tables=[Table(head, [_difference(one) for one in groups.differences])]))
    return Section(SIDE_BY_SIDE, parts=parts, figures=SIDE_BY_SIDE)


def _row(groups: Groups, name: str, results: Results) -> Row:
    """One law's cells, by quantity."""
    table, law = results.table, groups.laws.get(name)
    cells: Row = {"runs": number_cell(len(table), ".0f")}
    axes = law.form.axes if law else tuple(axis for axis in ("N", "D") if axis in table.sizes)
    for axis in axes:
        sizes = distinct_sizes(table.axis(axis))
        span = f"{size_text(sizes[0])} to {size_text(sizes[-1])} ({len(sizes)})" if len(sizes) else "–"
        cells[f"{axis}, and how many sizes"] = Cell(span, float(sizes[-1]) if len(sizes) else 0.0)
    if law:
        cells |= _law_cells(law)
    if len(table):
        best = int(table.loss.argmin())
        where = ", ".join(f"{axis} = {size_text(table.axis(axis)[best])}" for axis in axes)
        cells |= {"best loss": number_cell(table.loss[best], ".3g"), "of the run": Cell(where, 0.0)}
    if law and not groups.unlike_losses:
        cells |= _loss_cells(groups, name, law)
    return cells


def _loss_cells(groups: Groups, name: str, law: Law) -> Row:
    """The losses predicted at the sizes, and at the compute, that all laws have reached."""
    cells: Row = {}
    if common := groups.common_sizes:
        where = ", ".join(f"{axis} = {size_text(size)}" for axis, size in common.items())
        value, mark = float(law.predict(**common)[0]), "" if law.judge_loss(**common).identified else ", not determined"
        band = law.band(level=0.95, of_runs=False, **common)[:, 0]
        cells[f"loss at {where}"] = Cell(f"{interval_text(value, band)}{mark}", value)
    if not isinstance(groups.at_common_compute, str):
        budget, found = groups.at_common_compute
        best, beyond = found[name].loss, any(found[name].beyond[axis][0] > 1 for axis in ("N", "D"))
        value, ends = float(best.value[0]), None if best.ci95 is None else best.ci95[:, 0]
        text = f"{interval_text(value, ends)}{'*' if beyond else ''}"
        cells[f"best loss at {power_text(float(f'{budget:.2g}'))} FLOPs"] = Cell(text, value)
    return cells


def _law_cells(law: Law) -> Row:
    """Exponents, whether they are determined, and the floor."""
    cells: Row = {}
    identified = {verdict.exponent: verdict.identified for verdict in law.verdicts}
    for parameter in [p for kind in ("exponent", "floor") for p in law.form.parameters if p.kind == kind]:
        found, name = law[parameter.name], parameter.name
        heading = f"{name}, irreducible loss" if parameter.kind == "floor" else name
        cells[heading] = Cell(interval_text(found.value, found.ci95), found.value)
        if name in identified:
            cells[f"{name} determined"] = Cell("yes" if identified[name] else "no", 0.0)
        elif found.ci95:
            cells[f"{name} above zero"] = Cell("yes" if found.ci95[0] > 0 else "not known", 0.0)
    return cells


def _difference(one: Contrast) -> list[str | Cell]:
    value, low, high = one.shown
    style = ".3g" if one.quantity == LOSS else "+.3g"
    verdict = {True: "differ", False: "no difference seen", None: "not determined"}[one.differs]
    ends = f"{low:{style}} to {high:{style}}"
    return [one.name, one.first, one.second, number_cell(value, style), ends, verdict]


def _each(groups: Groups) -> Section:
    pages = page_names(list(groups.results))
    intro = plain("Each has a page of its own with its figures, tests of the law, runs and advice.")
    parts = [_one(groups, name, f"{pages[name]}/index.html") for name in groups.results]
    return Section("Each by itself", intro, parts=parts)


def _one(groups: Groups, name: str, link: str) -> Section:
    results = groups.results[name]
    if results.problem:
        sentences = [Sentence(f"No law could be fitted: {results.problem}", "caution")]
    else:
        sentences = [*plain(headline(results.law)), *verdicts_of(results.law)]
    if len(results.table):
        sentences += plain(best_run_sentence(results.table))
    sentences += cautions_of(results.cautions)
    excluded = len(results.table.excluded)
    if excluded:
        sentences += plain(f"{excluded} rows were not fitted; its own page lists them with reasons.")
    return Section(name, sentences, link=link)


def _conventions(groups: Groups) -> Section:
    if not groups.laws:
        return Section("Conventions")
    law = next(iter(groups.laws.values()))
    terms = {
        "differences": ASSUMPTIONS,
        "common sizes": "The largest along each axis that every law has reached: each is read within its own runs.",
    }
    known = {name: law for name, law in groups.laws.items() if law.uncertainty.is_known}
    terms |= {f"intervals of {name}": interval_sentence(law) for name, law in known.items()}
    terms["form"] = f"{law.form.formula}. {law.form.source}."
    return Section("Conventions", terms=terms)
