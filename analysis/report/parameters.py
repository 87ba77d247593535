"""The parameters of a law with their intervals, by one convention and by others."""

from analysis.fitting import Estimate, Law
from analysis.report.sections import Cell, Section, Sentence, Table, number_cell, plain
from analysis.study import Results, SingleAxisFit, verdict_sentences
from analysis.texts import interval_text, size_text

OTHER_CONVENTIONS = "The exponents under other conventions"


def verdicts_of(law: Law) -> list[Sentence]:
    """Whether the runs determine each exponent."""
    sentences = zip(law.verdicts, verdict_sentences(law), strict=True)
    return [Sentence(text, "yes" if verdict.identified else "no") for verdict, text in sentences]


def parameters_section(results: Results) -> Section:
    """Estimates of the law, how the optimum was reached, and fits along one axis alone."""
    if results.problem:
        return Section("Parameters")
    parts = [estimates_section(results.law), *map(_single, results.single_axis_fits)]
    return Section("Parameters", parts=parts)


def estimates_section(law: Law) -> Section:
    """Estimates of the law with their intervals, and how the optimum was reached."""
    optimum = law.optimum
    state = "Converged" if optimum.converged else "Not converged"
    delta = f" with delta {optimum.objective.delta:.3g}" if optimum.objective.name == "huber" else ""
    text = (
        f"{state}: {optimum.starts_agreeing} of {optimum.starts} starts ended in the same minimum, where the "
        f"{optimum.objective.name} objective{delta} sums to {optimum.value:.6g}; residual standard deviation "
        f"{100 * law.residual_sd:.1f} % of the loss (n = {len(law.table)}); condition number "
        f"{optimum.condition_number:.3g}."
    )
    return Section(f"L = {law.form.formula}", plain(text), [_estimates(law)])


def other_conventions_section(results: Results) -> Section:
    """The exponents where N or D is counted in another way."""
    if results.problem or not results.variants:
        return Section(OTHER_CONVENTIONS)
    columns = results.law.table.columns
    names = [estimate.name for estimate in results.variants[0].estimates]
    rows = []
    for variant in results.variants:
        counted = {axis: columns[axis] for axis in results.law.form.axes}
        counted |= {variant.axis: variant.column} if variant.axis and variant.column else {}
        found = {estimate.name: estimate for estimate in variant.estimates}
        rows.append([*counted.values(), *[_cell(found.get(name)) for name in names], variant.problem or ""])
    counted_as = [f"{axis} counted as" for axis in results.law.form.axes]
    text = (
        "What N and D count moves the exponents (Porian et al. 2024, arXiv:2406.19146); compare a law only with one "
        "of the same convention. The first line is the law above. Counts in proportion to its own, which change no "
        "exponent, and counts that do not vary are left out."
    )
    table = Table([*counted_as, *names, "no fit because"], rows).without_empty_end()
    return Section(OTHER_CONVENTIONS, plain(text), [table])


def _estimates(law: Law) -> Table:
    rows = [
        [
            estimate.name,
            number_cell(estimate.value, ".4g"),
            f"{estimate.ci95[0]:.4g} to {estimate.ci95[1]:.4g}" if estimate.ci95 else "–",
            number_cell(estimate.se, ".3g"),
        ]
        for estimate in law.params
    ]
    return Table(["", "value", "95 % interval", "standard error"], rows)


def _single(single: SingleAxisFit) -> Section:
    title = f"Power and floor in {single.axis} at {single.other} = {size_text(single.size)} ({single.num_runs} runs)"
    if single.law is None:
        return Section(title, plain(f"No fit: {single.problem}"))
    return Section(title, verdicts_of(single.law), [_estimates(single.law)])


def _cell(estimate: Estimate | None) -> str | Cell:
    return "–" if estimate is None else Cell(interval_text(estimate.value, estimate.ci95), estimate.value)
