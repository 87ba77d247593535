"""One page on the laws of several kinds of runs, e.g. architectures, and a full report on each behind it."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from analysis.fitting.law import Law
from analysis.plots.overlay import plot_overlay
from analysis.plots.registry import OVERLAY_CAPTION
from analysis.plots.style import power_text, size_text
from analysis.report.page import PageTable, Remark, Section, number_cell
from analysis.report.report import Report, remove_stale, write_page, write_picture, write_report
from analysis.study.contrast import LOSS, Contrast, verdicts
from analysis.study.document import interval_sentence, write_document
from analysis.study.findings import best_run_sentence, headline, verdict_sentences
from analysis.study.groups import ASSUMPTIONS, Groups
from analysis.study.results import Results
from analysis.tables import distinct_sizes

SIDE_BY_SIDE = "Side by side"


def write_comparison(groups: Groups, folder: Path, *, title: str) -> Report:
    """Write index.html with the comparison, overlay.png and .svg, fit.json, and report-VALUE/ with a report on each.

    Raises:
        ConfigError: if the choice of the fit is wrong; too few runs of one kind are no error.
    """
    groups = groups.from_file_name()
    pages = page_names(list(groups.results))
    for name, results in groups.results.items():
        named = f"{title}, {groups.by} {name}"
        write_report(results, folder / pages[name], title=named, up=f"All values of {groups.by}, side by side")
    files: list[Path] = []
    pictures = []
    if groups.laws:
        unfitted = {name: groups.results[name].table for name in groups.unfitted if len(groups.results[name].table)}
        figure = plot_overlay(groups.laws, unfitted) if len(groups.laws) + len(unfitted) > 1 else None
        if figure:
            files, picture = write_picture(figure, folder, "overlay", OVERLAY_CAPTION, SIDE_BY_SIDE)
            pictures.append(picture)
    write_document(groups.document, folder / "fit.json")
    sections = [_verdict(groups), _limits(groups), _side_by_side(groups), _each(groups, pages), _excluded(groups)]
    write_page(folder, f"Scaling laws of {title} by {groups.by}", [*sections, _conventions(groups)], pictures)
    remove_stale(folder, files)
    no_law = (f"No law of {name}: {problem}." for name, problem in groups.unfitted.items())
    sentences = (*no_law, *(sentence for sentence, _ in verdicts(groups.differences)))
    return Report(_headline(groups), sentences, None, (folder / "index.html", folder / "fit.json", *files))


def page_names(values: list[str]) -> dict[str, str]:
    """A folder for each value, in letters that any file system and link allows; no two are one."""
    names: dict[str, str] = {}
    for value in values:
        name = f"report-{re.sub(r'[^A-Za-z0-9_.-]+', '_', value)}"
        taken = {other.lower() for other in names.values()}
        names[value] = name if name.lower() not in taken else f"{name}-{len(names)}"
    return names


def _headline(groups: Groups) -> str:
    why = f" By {groups.by} because the table holds several; --by none fits one law to all."
    fitted = f"{len(groups.laws)} of {len(groups.results)}" if groups.unfitted else f"all {len(groups.laws)}"
    return f"A law for each {groups.by}: {fitted} could be fitted.{'' if groups.asked else why}"


def _verdict(groups: Groups) -> Section:
    remarks = [Remark(_headline(groups), "law" if groups.laws else "law none")]
    remarks += [Remark(text, "caution") for text in groups.unlike_losses]
    remarks += [Remark(text, "yes" if differ else "no") for text, differ in verdicts(groups.differences)]
    remarks += [Remark(f"No law of {name}: {problem}.", "caution") for name, problem in groups.unfitted.items()]
    if groups.differences:
        one = groups.differences[0]
        count = len(groups.differences)
        text = f"Brackets are intervals of {100 * one.level:.3g} %, so that all {count} hold together with "
        text = f"{text}{100 * one.together:.3g} %. " if count > 1 else "Brackets are intervals of 95 %. "
        remarks.append(Remark(f"✓ is a difference beyond that, ✗ is none that these runs show. {text}{ASSUMPTIONS}"))
    return Section("Do the laws differ?", remarks)


def _limits(groups: Groups) -> Section:
    shown = set(groups.unlike_losses)
    return Section(
        "What limits the comparison", [Remark(text, "caution") for text in groups.cautions if text not in shown]
    )


def _side_by_side(groups: Groups) -> Section:
    rows = {name: _row(groups, name, results) for name, results in groups.results.items()}
    fullest_first = sorted(rows.values(), key=len, reverse=True)
    quantities = list(dict.fromkeys(quantity for row in fullest_first for quantity in row))
    cells = [[quantity, *[row.get(quantity, ("–", 0.0)) for row in rows.values()]] for quantity in quantities]
    remarks = []
    if groups.laws and isinstance(groups.at_common_compute, str):
        remarks.append(Remark(f"No loss at equal compute: {groups.at_common_compute}."))
    elif groups.laws:
        remarks.append(
            Remark("At equal compute each law takes its own best N and D; * marks sizes beyond the law's own runs.")
        )
    remarks.append(Remark(f"Equal N is not equal compute: a parameter does not cost alike in every {groups.by}."))
    tables = [PageTable([groups.by, *rows], cells, "Laws, with 95 % intervals of each alone", remarks)]
    if groups.differences:
        rows_of = [[one.name, one.first, one.second, *_contrast_cells(one)] for one in groups.differences]
        head = ["", "first", "second", "first less second (losses: first over second)", "interval", "verdict"]
        tables.append(PageTable(head, rows_of, "Differences"))
    return Section(SIDE_BY_SIDE, group=SIDE_BY_SIDE, tables=tables)


def _row(groups: Groups, name: str, results: Results) -> dict[str, Any]:
    """What is told of one law, by quantity."""
    table, law = results.table, groups.laws.get(name)
    cells: dict[str, Any] = {"runs": number_cell(len(table), ".0f")}
    axes = law.form.axes if law else [axis for axis in ("N", "D") if axis in table.sizes]
    for axis in axes:
        sizes = distinct_sizes(table.axis(axis))
        told = f"{size_text(sizes[0])} to {size_text(sizes[-1])} ({len(sizes)})" if len(sizes) else "–"
        cells[f"{axis}, and how many sizes"] = (told, float(sizes[-1]) if len(sizes) else 0.0)
    if law:
        cells |= _law_cells(law)
    if len(table):
        best = int(table.loss.argmin())
        where = ", ".join(f"{axis} = {size_text(table.axis(axis)[best])}" for axis in axes)
        cells["best loss"] = number_cell(table.loss[best], ".3g")
        cells["of the run"] = (where, 0.0)
    if law and not groups.unlike_losses:
        cells |= _loss_cells(groups, name, law)
    return cells


def _loss_cells(groups: Groups, name: str, law: Law) -> dict[str, Any]:
    """The losses predicted at the sizes, and at the compute, that all laws have reached."""
    cells: dict[str, Any] = {}
    if common := groups.common_sizes:
        where = ", ".join(f"{axis} = {size_text(size)}" for axis, size in common.items())
        value, mark = float(law.predict(**common)[0]), "" if law.judge_loss(**common).identified else ", not determined"
        cells[f"loss at {where}"] = (
            f"{value:.3g}{_brackets(law.band(level=0.95, of_runs=False, **common)[:, 0])}{mark}",
            value,
        )
    if not isinstance(groups.at_common_compute, str):
        budget, found = groups.at_common_compute
        best, beyond = found[name].loss, any(found[name].beyond[axis][0] > 1 for axis in ("N", "D"))
        value, ends = float(best.value[0]), None if best.ci95 is None else best.ci95[:, 0]
        text = f"{value:.3g}{_brackets(ends)}{'*' if beyond else ''}"
        cells[f"best loss at {power_text(float(f'{budget:.2g}'))} FLOPs"] = (text, value)
    return cells


def _brackets(ends: Sequence[float] | np.ndarray | None) -> str:
    return "" if ends is None else f" [{ends[0]:.3g}, {ends[1]:.3g}]"


def _law_cells(law: Law) -> dict[str, Any]:
    """Exponents, whether they are determined, and the floor."""
    cells: dict[str, Any] = {}
    verdicts = {verdict.exponent: verdict for verdict in law.verdicts}
    told = [p for kind in ("exponent", "floor") for p in law.form.parameters if p.kind == kind]
    for parameter in told:
        found = law[parameter.name]
        heading = f"{parameter.name}, irreducible loss" if parameter.kind == "floor" else parameter.name
        cells[heading] = (f"{found.value:.3g}{_brackets(found.ci95)}", found.value)
        if parameter.name in verdicts:
            cells[f"{parameter.name} determined"] = ("yes" if verdicts[parameter.name].identified else "no", 0.0)
        elif found.ci95:
            cells[f"{parameter.name} above zero"] = ("yes" if found.ci95[0] > 0 else "not told", 0.0)
    return cells


def _contrast_cells(one: Contrast) -> list[Any]:
    value, low, high = one.shown
    style = ".3g" if one.quantity == LOSS else "+.3g"
    verdict = {True: "differ", False: "not told apart", None: "not determined"}[one.differs]
    return [number_cell(value, style), f"{low:{style}} to {high:{style}}", verdict]


def _each(groups: Groups, pages: dict[str, str]) -> Section:
    tables = []
    for name, results in groups.results.items():
        remarks = []
        if name in groups.laws:
            law = groups.laws[name]
            remarks.append(Remark(headline(law)))
            told = zip(law.verdicts, verdict_sentences(law), strict=True)
            remarks += [Remark(text, "yes" if verdict.identified else "no") for verdict, text in told]
        else:
            remarks.append(Remark(f"No law could be fitted: {groups.unfitted[name]}", "caution"))
        if len(results.table):
            remarks.append(Remark(best_run_sentence(results.table)))
        excluded = len(results.table.excluded)
        if excluded:
            remarks.append(Remark(f"{excluded} rows were not fitted; its own page lists them with reasons."))
        tables.append(PageTable((), (), name, remarks, f"{pages[name]}/index.html"))
    intro = Remark("Each has a page of its own with its figures, tests of the law, runs and advice.")
    return Section("Each by itself", [intro], tables=tables)


def _excluded(groups: Groups) -> Section:
    rows = [[row.run, row.reason] for row in groups.excluded]
    tables = [PageTable(["run", "reason"], rows)] if rows else []
    return Section(f"Rows without a {groups.by} ({len(rows)})", tables=tables)


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
