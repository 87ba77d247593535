"""A study's report: one HTML page that needs nothing else, its figures as files, and fit.json."""

import base64
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
from markupsafe import Markup, escape
from matplotlib.figure import Figure

from analysis.compute.decisions import TextTable, decisions_lines
from analysis.fitting.law import Estimate, Law
from analysis.plots.registry import COST, DECISIONS, FIGURES, LAW, NEXT, TRUST, TUNING
from analysis.plots.style import count_text, save_bytes, size_text
from analysis.report.page import PageTable, Remark, Section, number_cell, without_empty_column
from analysis.study.document import conventions, document_without_law, law_document, write_document
from analysis.study.findings import best_run_sentence, cautions, headline, verdict_sentences
from analysis.study.results import Results, SingleAxisFit
from scaling.runs.files import write_atomic

RUN_COLUMNS = {
    "model": "model",
    "width": "width",
    "depth": "depth",
    "seed": "seed",
    "steps": "steps",
    "test_energy_mae_ev_per_atom": "energy MAE (meV/atom)",
    "test_force_mae_ev_per_ang": "force MAE (meV/Å)",
    "wall_s": "wall (s)",
}
FURTHER_TESTS = re.compile(r"test_\w+_mae_\w+")
IN_THOUSANDTHS = ("test_energy_mae_ev_per_atom", "test_force_mae_ev_per_ang")


@dataclass(frozen=True)
class Report:
    """What was written."""

    headline: str
    verdicts: tuple[str, ...]
    law: Law | None
    files: tuple[Path, ...]


def write_report(results: Results, folder: Path, *, title: str, up: str = "") -> Report:
    """Write index.html, every figure that can be drawn as PNG and SVG, and fit.json, each whole or not at all.

    Where the runs cannot determine the form the page says so, with the runs it has. `up` names the page above this one,
    ../index.html, where there is one.

    Raises:
        ConfigError: if the choice itself is wrong; too few runs are no error here.
    """
    results = results.from_file_name()
    law = None if results.problem else results.law
    folder.mkdir(parents=True, exist_ok=True)
    files, pictures, lacking = [], [], []
    for name, kind in FIGURES.items():
        if len(results.table) and not (reason := kind.lacks(results)):
            written, picture = write_picture(kind.draw(results), folder, name, kind.caption, kind.group)
            files += written
            pictures.append(picture)
        elif len(results.table) and law:
            lacking.append((name, str(reason)))
    if law:
        document = law_document(law, results.backtests)
    else:
        document = document_without_law(results.table, results.choice.form, results.problem)
    write_document(document, folder / "fit.json")
    sections = [section for make in SECTIONS if (section := make(results))]
    write_page(folder, f"Scaling law of {title}", sections, pictures, lacking=lacking, up=up)
    remove_stale(folder, files)
    verdicts = tuple(verdict_sentences(law)) if law else ()
    return Report(_headline(results), verdicts, law, (folder / "index.html", folder / "fit.json", *files))


def write_picture(
    figure: Figure, folder: Path, name: str, caption: str, group: str
) -> tuple[list[Path], dict[str, str]]:
    """Write a figure as PNG and SVG; the files, and what the page needs of it."""
    files = [folder / f"{name}.png", folder / f"{name}.svg"]
    png, svg = (save_bytes(figure, ending, name) for ending in ("png", "svg"))
    write_atomic(files[0], png)
    write_atomic(files[1], svg)
    return files, {"name": name, "caption": caption, "data": base64.b64encode(svg).decode(), "group": group}


def write_page(
    folder: Path,
    heading: str,
    sections: Sequence[Section],
    pictures: Sequence[dict[str, str]],
    *,
    lacking: Sequence[tuple[str, str]] = (),
    up: str = "",
) -> None:
    """Write index.html."""
    page = _template().render(heading=heading, sections=sections, pictures=pictures, lacking=lacking, up=up)
    write_atomic(folder / "index.html", page)


def remove_stale(folder: Path, files: Sequence[Path]) -> None:
    """Remove the figures of an earlier report on other runs: all but `files`."""
    for ending in ("png", "svg"):
        for stale in {folder / f"{name}.{ending}" for name in FIGURES} - set(files):
            stale.unlink(missing_ok=True)


def _summary(results: Results) -> Section:
    remarks = [Remark(_headline(results), "law none" if results.problem else "law")]
    if not results.problem:
        remarks += _verdicts(results.law)
    if len(results.table):
        remarks.append(Remark(best_run_sentence(results.table)))
    return Section("The law, and how sure it is", remarks)


def _limits(results: Results) -> Section:
    if not len(results.table):
        return Section("What limits it")
    law = None if results.problem else results.law
    remarks = [Remark(text, "caution") for text in cautions(results.table, law)]
    excluded = len(results.table.excluded)
    if excluded:
        remarks.append(Remark(f"{excluded} rows of the table were not fitted; they are listed with reasons below."))
    return Section("What limits it", remarks)


def _parameters(results: Results) -> Section:
    if results.problem:
        return Section("Parameters")
    law, optimum = results.law, results.law.optimum
    state = "Converged" if optimum.converged else "Not converged"
    remark = (
        f"{state}: {optimum.starts_agreeing} of {optimum.starts} starts ended in the same minimum, objective "
        f"{optimum.value:.6g}; residual standard deviation of log loss {100 * law.residual_sd:.1f} % (n = "
        f"{len(law.table)}); condition number {optimum.condition_number:.3g}."
    )
    tables = [_estimate_table(law, f"L = {law.form.formula}", (Remark(remark),))]
    return Section("Parameters", tables=[*tables, *map(_single_table, results.single_axis_fits)])


def _other_conventions(results: Results) -> Section:
    title = "The exponents under other conventions"
    if results.problem or not results.variants:
        return Section(title)
    columns = results.law.table.columns
    names = [estimate.name for estimate in results.variants[0].estimates]
    rows = []
    for variant in results.variants:
        counted = {axis: columns[axis] for axis in results.law.form.axes}
        counted |= {variant.axis: variant.column} if variant.axis and variant.column else {}
        found = {estimate.name: estimate for estimate in variant.estimates}
        told = [_estimate_cell(found.get(name)) for name in names]
        rows.append([*counted.values(), *told, variant.problem or ""])
    counted_as = [f"{axis} counted as" for axis in results.law.form.axes]
    header, rows = without_empty_column([*counted_as, *names, "no fit because"], rows)
    text = (
        "What N and D count moves the exponents (Porian et al. 2024, arXiv:2406.19146); compare a law only with one "
        "of the same convention. The first line is the law above. Counts in proportion to its own, which change no "
        "exponent, and counts that do not vary are left out."
    )
    return Section(title, [Remark(text)], tables=[PageTable(header, rows)])


def _trust(results: Results) -> Section:
    if results.problem or not results.backtests:
        return Section(TRUST, group=TRUST)
    header = [
        "held out",
        "runs",
        "fitted to",
        "error of held-out runs",
        "scatter of fitted runs",
        "in 95 % interval",
        "",
    ]
    rows = []
    for test in results.backtests:
        name = f"{test.axis} ≥ {size_text(test.size)}"
        if test.law is None or test.rmse is None or test.rmse_fitted is None or test.coverage is None:
            rows.append([name, *["–"] * 5, f"no fit: {test.problem}"])
            continue
        counts = [number_cell(len(test.runs), ".0f"), number_cell(len(test.law.table), ".0f")]
        shares = [number_cell(100 * share, style) for share, style in ((test.rmse, ".1f"), (test.rmse_fitted, ".1f"))]
        shares = [(f"{text} %", number) for text, number in (*shares, number_cell(100 * test.coverage, ".0f"))]
        rows.append([name, *counts, *shares, ""])
    table = PageTable(
        *without_empty_column(header, rows),
        "Backtest: would it have predicted the largest runs?",
        (Remark("Errors are root mean squares of log loss."),),
    )
    return Section(TRUST, group=TRUST, tables=[table, *_comparison_table(results)])


def _comparison_table(results: Results) -> list[PageTable]:
    found = results.comparison
    if isinstance(found, str):
        return [PageTable((), (), "Other forms", [Remark(f"Not compared: {found}")])]
    rows = [
        [
            one.name,
            number_cell(one.rmse if one.scores else None, ".3f"),
            number_cell(None if one.coverage is None else 100 * one.coverage, ".0f"),
            "; ".join(one.reasons),
        ]
        for one in found.contenders
    ]
    rows += [[one.name, number_cell(one.rmse, ".3f"), "–", "needs no law"] for one in found.plain]
    header = ["form", "error on larger runs", "inside 95 % interval (%)", "why it is not the chosen one"]
    note = "Errors are root mean squares of log loss, the mean over the places where the table was cut."
    return [
        PageTable(
            header, rows, "Other forms, by their predictions of larger runs", [Remark(found.verdict), Remark(note)]
        )
    ]


def _decisions(results: Results) -> Section:
    """The blocks of `decisions_lines`: a heading, then tables and sentences."""
    if results.problem:
        return Section(DECISIONS)
    tables = []
    lines = decisions_lines(results.decisions)
    breaks = [i for i, line in enumerate(lines) if line == ""]
    for start, end in zip(breaks, [*breaks[1:], len(lines)], strict=True):
        title, *rest = lines[start + 1 : end]
        found = [line for line in rest if isinstance(line, TextTable)]
        remarks = [Remark(line.strip()) for line in rest if isinstance(line, str)]
        head, rows = (found[0].head, found[0].rows) if found else ((), ())
        if rest:
            tables.append(PageTable(head, rows, str(title), remarks))
        else:
            tables.append(PageTable((), (), "", [Remark(str(title))]))
    intro = Remark("Intervals are of the law alone: they hold for this form, these runs and their training.")
    return Section(DECISIONS, [intro], group=DECISIONS, tables=tables)


def _next(results: Results) -> Section:
    if results.problem or isinstance(results.advice, str):
        return Section(NEXT, () if results.problem else [Remark(str(results.advice))])
    advice = results.advice
    where = ", ".join(f"{axis} = {size_text(size)}" for axis, size in advice.target.sizes.items())
    wanted = f"loss at {where}" if where else advice.target.name
    low, high = np.exp(advice.ci95)
    remarks = [
        Remark(
            f"To narrow the interval of the {wanted} (now {low:.4g} to {high:.4g}, a width of {advice.width:.3g} in "
            f"log loss) for at most {advice.budget:.3g} {advice.cost.unit}, in this order. For another target or "
            "budget: python -m analysis next."
        ),
        *[Remark(f"{warning}.", "caution") for warning in advice.warnings],
    ]
    unit, rows = advice.cost.unit, []
    for place, run in enumerate(advice.recommended.runs, start=1):
        sizes = [(count_text(size), size) for size in run.sizes.values()]
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
    note = f"Cost: {advice.cost.sentence}. Widths are expected ones, to first order and if the form holds."
    tables = [
        PageTable(["run", *results.law.form.axes, unit, "width after", "in this study"], rows),
        PageTable(["for the same budget", "runs", unit, "width after"], plans, remarks=[Remark(note)]),
    ]
    return Section(NEXT, remarks, group=NEXT, tables=tables)


def _runs(results: Results) -> Section:
    """The fitted runs with prediction, error, and the shift of each exponent without the run."""
    table = results.table
    title = f"Runs ({len(table)} fitted)"
    if not len(table):
        return Section(title, [Remark("No run can be fitted.")])
    law = None if results.problem else results.law
    further = [column for column in table.frame if FURTHER_TESTS.fullmatch(str(column)) and column not in RUN_COLUMNS]
    names = {**RUN_COLUMNS, **{column: column.replace("_", " ") for column in further}}
    axes = [axis for axis in dict.fromkeys((*(law.form.axes if law else ()), "N", "D")) if axis in table.sizes]
    columns = [column for column in names if column in table.frame and column not in axes]
    shifts = results.shifts if law else {}
    moved = [p.name for p in law.form.parameters if p.kind == "exponent" and p.name in shifts] if law else []
    predicted = law.predict(**table.sizes) if law else None
    header = ["run", *axes, *[names[column] for column in columns], table.columns["loss"]]
    header += ["predicted", "off by (%)"] if law else []
    header += [f"shift of {name} without it" for name in moved]
    rows = []
    for i, run in enumerate(table.run):
        cells: list[Any] = [run, *[_size_cell(float(table.axis(axis)[i])) for axis in axes]]
        for column in columns:
            value = table.frame[column].iloc[i]
            cells.append(number_cell(value * 1000 if column in IN_THOUSANDTHS else value, ".4g"))
        cells.append(number_cell(table.loss[i], ".4g"))
        if law is not None and predicted is not None:
            cells += [number_cell(predicted[i], ".4g"), number_cell(100 * np.expm1(law.residuals[i]), "+.1f")]
        cells += [number_cell(shifts[name][i], "+.3f") for name in moved]
        rows.append(cells)
    return Section(title, tables=[PageTable(header, rows)])


def _excluded(results: Results) -> Section:
    excluded = results.table.excluded
    title = f"Excluded ({len(excluded)})"
    if not excluded:
        return Section(title, [Remark("None: every row of the table was fitted.")])
    return Section(title, tables=[PageTable(["run", "reason"], [[row.run, row.reason] for row in excluded])])


def _conventions(results: Results) -> Section:
    if results.problem:
        return Section("Conventions")
    terms = {name.replace("_", " "): sentence for name, sentence in conventions(results.law).items()}
    terms["exclusions"] = f"{len(results.table.excluded)} rows; reasons above. n = {len(results.table)}."
    terms["source"] = f"{results.table.source}."
    return Section("Conventions", terms=terms)


SECTIONS: tuple[Callable[[Results], Section], ...] = (
    _summary,
    _limits,
    lambda results: Section(LAW, group=LAW),
    _parameters,
    _other_conventions,
    _trust,
    lambda results: Section(COST, group=COST),
    _decisions,
    _next,
    lambda results: Section(TUNING, group=TUNING),
    _runs,
    _excluded,
    _conventions,
)
"""The page from top to bottom, in the order in which a reader asks."""


def _headline(results: Results) -> str:
    return f"No law could be fitted: {results.problem}" if results.problem else headline(results.law)


def _verdicts(law: Law) -> list[Remark]:
    sentences = zip(law.verdicts, verdict_sentences(law), strict=True)
    return [Remark(text, "yes" if verdict.identified else "no") for verdict, text in sentences]


def _estimate_table(law: Law, title: str, remarks: tuple[Remark, ...] = ()) -> PageTable:
    rows = [
        [
            estimate.name,
            number_cell(estimate.value, ".4g"),
            f"{estimate.ci95[0]:.4g} to {estimate.ci95[1]:.4g}" if estimate.ci95 else "–",
            "–" if estimate.se is None else number_cell(estimate.se, ".3g"),
        ]
        for estimate in law.params
    ]
    return PageTable(["", "value", "95 % interval", "standard error"], rows, title, remarks)


def _single_table(single: SingleAxisFit) -> PageTable:
    title = f"Power and floor in {single.axis} at {single.other} = {size_text(single.size)} ({single.num_runs} runs)"
    if single.law is None:
        return PageTable([], [], title, (Remark(f"No fit: {single.problem}"),))
    return _estimate_table(single.law, title, tuple(_verdicts(single.law)))


def _size_cell(size: float) -> Any:
    return (count_text(size), size) if np.isfinite(size) else number_cell(None, "")


def _estimate_cell(estimate: Estimate | None) -> Any:
    if estimate is None:
        return "–"
    interval = f" [{estimate.ci95[0]:.3g}, {estimate.ci95[1]:.3g}]" if estimate.ci95 else ""
    return (f"{estimate.value:.3g}{interval}", estimate.value)


def formula_markup(text: str) -> Markup:
    """Greek letters and raised exponents for the names used in plain text."""
    marked = re.sub(r"\^(-?[\w.]*\w)", r"<sup>\1</sup>", str(escape(text)))
    return Markup(re.sub(r"\b(alpha|beta)\b", lambda name: {"alpha": "α", "beta": "β"}[name[0]], marked))


def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters["formula"] = formula_markup
    return environment.get_template("report.html.j2")
