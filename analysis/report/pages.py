"""A study's report on disk: index.html, which needs nothing else, its figures as files, and fit.json."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from analysis.plots import FIGURES, OVERLAY_CAPTION, plot_overlay
from analysis.report.comparison import SIDE_BY_SIDE, comparison_findings, comparison_sections, page_names
from analysis.report.findings import study_findings
from analysis.report.html import PageFigure, write_page, write_picture
from analysis.report.listings import conventions_section, excluded_section, runs_section
from analysis.report.parameters import other_conventions_section
from analysis.report.sections import Section
from analysis.study import COST, LAW, TUNING, Groups, Results, document_without_law, law_document, write_document


@dataclass(frozen=True)
class Report:
    """What was written, and what it says: the findings that the page shows, for a terminal."""

    findings: tuple[Section, ...]
    files: tuple[Path, ...]


def write_report(results: Results, folder: Path, *, title: str, up: str = "") -> Report:
    """Write index.html, every figure that can be drawn as PNG and SVG, and fit.json, each whole or not at all.

    Where the runs cannot determine the form the page says so, with the runs it has. `up` names the page above this one,
    ../index.html, where there is one.

    Raises:
        ConfigError: if the choice itself is wrong; too few runs are no error here.
    """
    results = results.from_file_name()
    folder.mkdir(parents=True, exist_ok=True)
    files, figures, lacking = _draw(results, folder)
    if results.problem:
        document = document_without_law(results.table, results.choice.form, results.problem)
    else:
        document = law_document(results.law, results.backtests)
    write_document(document, folder / "fit.json")
    found = study_findings(results)
    sections = _with_listings(found, results)
    write_page(folder, f"Scaling law of {title}", sections, figures, lacking=lacking, up=up)
    _remove_stale(folder, files)
    if results.table.excluded:
        found.append(excluded_section(results.table.excluded))
    return Report(tuple(found), (folder / "index.html", folder / "fit.json", *files))


def write_comparison(groups: Groups, folder: Path, *, title: str) -> Report:
    """Write index.html with the comparison, overlay.png and .svg, fit.json, and report-VALUE/ with a report on each.

    Raises:
        ConfigError: if the choice of the fit is wrong; too few runs of one kind are no error.
    """
    groups = groups.from_file_name()
    for name, page in page_names(list(groups.results)).items():
        up = f"All values of {groups.by}, side by side"
        write_report(groups.results[name], folder / page, title=f"{title}, {groups.by} {name}", up=up)
    files: list[Path] = []
    figures: list[PageFigure] = []
    unfitted = {name: groups.tables[name] for name in groups.unfitted if len(groups.tables[name])}
    if groups.laws and len(groups.laws) + len(unfitted) > 1:
        drawn = plot_overlay(groups.laws, unfitted)
        written, figure = write_picture(drawn, folder, "overlay", OVERLAY_CAPTION, SIDE_BY_SIDE)
        files += written
        figures.append(figure)
    write_document(groups.document, folder / "fit.json")
    write_page(folder, f"Scaling laws of {title} by {groups.by}", comparison_sections(groups), figures)
    _remove_stale(folder, files)
    return Report(tuple(comparison_findings(groups)), (folder / "index.html", folder / "fit.json", *files))


def _with_listings(found: list[Section], results: Results) -> list[Section]:
    """The page from top to bottom: the findings, with figures and listings where a reader looks for them."""
    law, limits, parameters, trust, decisions, advice = found
    return [
        law,
        limits,
        Section(LAW, figures=LAW),
        parameters,
        other_conventions_section(results),
        trust,
        Section(COST, figures=COST),
        decisions,
        advice,
        Section(TUNING, figures=TUNING),
        runs_section(results),
        excluded_section(results.table.excluded),
        conventions_section(results),
    ]


def _draw(results: Results, folder: Path) -> tuple[list[Path], list[PageFigure], list[tuple[str, str]]]:
    """Every figure that can be drawn, as files and for the page; the others with the reason."""
    files: list[Path] = []
    figures: list[PageFigure] = []
    lacking: list[tuple[str, str]] = []
    for name, kind in FIGURES.items() if len(results.table) else ():
        if reason := kind.lacks(results):
            lacking.append((name, reason))
        else:
            written, figure = write_picture(kind.draw(results), folder, name, kind.caption, kind.group)
            files += written
            figures.append(figure)
    return files, figures, [] if results.problem else lacking


def _remove_stale(folder: Path, files: Iterable[Path]) -> None:
    """Remove the figures of an earlier report on other runs: all but `files`."""
    for ending in ("png", "svg"):
        for stale in {folder / f"{name}.{ending}" for name in FIGURES} - set(files):
            stale.unlink(missing_ok=True)
