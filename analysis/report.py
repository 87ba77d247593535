"""A study's report: one HTML page that needs nothing else, its figures as files, and fit.json."""

import base64
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
from markupsafe import Markup, escape
from matplotlib.figure import Figure

from analysis.backtest import Backtest, backtest
from analysis.document import conventions, law_document, write_document
from analysis.findings import (
    best_run_sentence,
    cautions,
    find_baseline,
    headline,
    verdict_sentences,
)
from analysis.fit import Law, fit
from analysis.influence import leave_one_out
from analysis.plots import plot, plot_backtest
from analysis.style import save_bytes, size_text
from analysis.tables import RunTable, distinct_sizes, same_size
from scaling.errors import DataError
from scaling.runs.files import write_atomic

SINGLE_AXIS_REPLICATES = 1000
CAPTIONS = {
    "loss_vs_params": "Loss against parameters, one line for each data size. Points are runs, dark bands the 95 % "
    "confidence of the law, light bands where 95 % of single further runs would fall.",
    "loss_vs_data": "Loss against data, one line for each model size. Points and bands as above.",
    "surface": "Lines of equal predicted loss; orange points are the runs. Where lines run upright more data does not "
    "help, where they lie flat a larger model does not.",
    "residuals": "Observed over predicted loss; the grey band is the scatter (one standard deviation). A pattern along "
    "an axis means the form is only approximate.",
    "backtest": "The law fitted without the largest models, or without the largest data, against the runs it did not "
    "see; bars are 95 % intervals for single runs.",
    "bootstrap": "The law refitted to resampled runs: the wider and the more tilted the cloud, the less sure the "
    "exponents, and the more one can be traded for the other.",
}
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
class FitChoice:
    """What the user chose to fit; see `analysis.fit.fit`."""

    form: str
    axis: str | None
    objective: str
    delta: float | None
    replicates: int
    seed: int

    def apply(self, table: RunTable) -> Law:
        """The chosen fit of the table."""
        return fit(
            table,
            self.form,
            axis=self.axis,
            objective=self.objective,
            delta=self.delta,
            replicates=self.replicates,
            seed=self.seed,
        )


@dataclass(frozen=True)
class SingleAxisFit:
    """Power and floor along one axis, the other held at its largest size; `problem` says why if there is no law."""

    title: str
    law: Law | None
    problem: str | None


@dataclass(frozen=True)
class Report:
    """What was written."""

    headline: str
    verdicts: tuple[str, ...]
    law: Law | None
    files: tuple[Path, ...]


def write_report(table: RunTable, choice: FitChoice, folder: Path, *, title: str) -> Report:
    """Write index.html, the figures as PNG and SVG, and fit.json into `folder`, each whole or not at all.

    Where the runs cannot determine the form the page says so, with the runs it has.

    Raises:
        ConfigError: if the choice itself is wrong; too few runs are no error here.
    """
    try:
        law, problem = choice.apply(table), None
    except DataError as error:
        law, problem = None, str(error)
    folder.mkdir(parents=True, exist_ok=True)
    backtests = backtest(law) if law else ()
    figures = _figures(law, backtests) if law else {}
    files = []
    pictures = []
    for name, figure in figures.items():
        for kind in ("png", "svg"):
            files.append(folder / f"{name}.{kind}")
            write_atomic(files[-1], save_bytes(figure, kind, name))
        encoded = base64.b64encode((folder / f"{name}.svg").read_bytes()).decode()
        pictures.append({"name": name, "caption": CAPTIONS[name], "data": encoded})
    document = law_document(law, backtests) if law else _document_without_law(table, choice, problem)
    write_document(document, folder / "fit.json")
    sentence = headline(law) if law else f"No law could be fitted: {problem}"
    page = _template().render(
        title=title,
        headline=sentence,
        law=law,
        verdicts=verdict_sentences(law) if law else [],
        best=best_run_sentence(table) if len(table) else None,
        cautions=cautions(table, law) if len(table) else [],
        pictures=pictures,
        singles=single_axis_fits(table, choice),
        backtests=backtests,
        runs=_run_rows(table, law),
        excluded=table.excluded,
        conventions=conventions(law) if law else {},
        counts=_count_columns(table),
        size_text=size_text,
    )
    write_atomic(folder / "index.html", page)
    for kind in ("png", "svg"):  # of an earlier report on other runs
        for stale in {folder / f"{name}.{kind}" for name in CAPTIONS} - set(files):
            stale.unlink(missing_ok=True)
    verdicts = tuple(verdict_sentences(law)) if law else ()
    return Report(sentence, verdicts, law, (folder / "index.html", folder / "fit.json", *files))


def single_axis_fits(table: RunTable, choice: FitChoice) -> tuple[SingleAxisFit, ...]:
    """Power and floor in N at the largest D, and in D at the largest N."""
    found = []
    for axis, other in (("N", "D"), ("D", "N")):
        sizes = distinct_sizes(table.axis(other))
        if axis not in table.sizes or not len(sizes):
            continue
        largest = table.keep(same_size(table.axis(other), sizes[-1]))
        title = f"in {axis} at {other} = {size_text(sizes[-1])} ({len(largest)} runs)"
        try:
            law = fit(
                largest,
                "power_floor",
                axis=axis,
                objective=choice.objective,
                delta=choice.delta,
                replicates=SINGLE_AXIS_REPLICATES,
                seed=choice.seed,
            )
            found.append(SingleAxisFit(title, law, None))
        except DataError as error:
            found.append(SingleAxisFit(title, None, str(error)))
    return tuple(found)


def _figures(law: Law, backtests: tuple[Backtest, ...]) -> dict[str, Figure]:
    baseline = find_baseline(law.table)
    names = [{"N": "loss_vs_params", "D": "loss_vs_data"}[axis] for axis in law.form.axes]
    if set(law.form.axes) == {"N", "D"}:
        names.append("surface")
    figures = {name: plot(law, name, baseline=baseline) for name in (*names, "residuals")}
    if any(test.runs for test in backtests):
        figures["backtest"] = plot_backtest(backtests, law.table.columns["loss"].replace("_", " "))
    if law.samples is not None and len(law.params) > 1:
        figures["bootstrap"] = plot(law, "bootstrap")
    return figures


def _run_rows(table: RunTable, law: Law | None) -> dict[str, Any]:
    """Header and cells of the table of runs; a cell is (text, number or text to sort by)."""
    further = [column for column in table.frame if FURTHER_TESTS.fullmatch(str(column)) and column not in RUN_COLUMNS]
    names = {**RUN_COLUMNS, **{column: column.replace("_", " ") for column in further}}
    columns = [column for column in names if column in table.frame]
    moves = leave_one_out(law) if law else {}
    moved = [parameter.name for parameter in law.form.parameters if parameter.kind == "exponent"] if law else []
    predicted = law.predict(**table.sizes) if law else None
    header = ["run", "N", "D", *[names[column] for column in columns], table.columns["loss"]]
    header += ["predicted", "off by (%)"] if law else []
    header += [f"shift of {name} without it" for name in moved]
    rows = []
    for i, run in enumerate(table.run):
        cells: list[Any] = [run, _number(table.num_params[i], ".0f"), _number(table.data_size[i], ".0f")]
        for column in columns:
            value = table.frame[column].iloc[i]
            cells.append(_number(value * 1000 if column in IN_THOUSANDTHS else value, ".4g"))
        cells.append(_number(table.loss[i], ".4g"))
        if law is not None and predicted is not None:
            cells += [_number(predicted[i], ".4g"), _number(100 * np.expm1(law.residuals[i]), "+.1f")]
        cells += [_number(moves[name][i], "+.3f") for name in moved]
        rows.append(cells)
    return {"header": header, "rows": rows}


def _number(value: Any, style: str) -> Any:
    """A number as (text, number) for the page; text stays text, a missing number is a dash."""
    if isinstance(value, str):
        return value
    number = float(value)
    return (format(number, style), number) if np.isfinite(number) else ("–", 0.0)


def _count_columns(table: RunTable) -> str:
    present = [c for c in ("num_params_embedding", "num_params_trunk", "num_params_head") if c in table.frame]
    if not present:
        return ""
    return f"Counts by part are in the columns {', '.join(present)}; fit one of them with --num-params."


def _document_without_law(table: RunTable, choice: FitChoice, problem: str | None) -> dict[str, Any]:
    return {
        "form": choice.form,
        "params": {},
        "n": len(table),
        "converged": False,
        "problem": problem,
        "excluded": [{"run": row.run, "reason": row.reason} for row in table.excluded],
    }


def formula_markup(text: str) -> Markup:
    """Greek letters and raised exponents for the names used in plain text."""
    marked = re.sub(r"\^(\w+)", r"<sup>\1</sup>", str(escape(text)))
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
