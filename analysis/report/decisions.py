"""What compute is best spent on, in sections; verdicts in place of numbers that must not be used."""

from collections.abc import Mapping

import numpy as np

from analysis.compute import (
    NOTABLE_DRIFT,
    BestShape,
    Decisions,
    Derived,
    Frontier,
    IsoFlop,
    Marginal,
    Saturation,
    unusable,
)
from analysis.report.sections import Section, Sentence, Table, cautions_of, plain
from analysis.report.text import to_text
from analysis.texts import size_text

MOST_BUDGETS = 5
"""Budgets without a parabola that are named one by one."""


def decisions_text(decisions: Decisions) -> str:
    """The law, its cautions and the decisions for a reader at a terminal."""
    law = decisions.law
    about = f"L = {law.form.formula}   ({len(law.table)} runs; 95 % intervals in brackets, those of the law alone)"
    return to_text([Section(about, cautions_of(law.cautions)), *decision_sections(decisions)])


def decision_sections(decisions: Decisions) -> list[Section]:
    """A section for each question that the law's axes allow; the law's own cautions are not repeated here."""
    found = []
    if decisions.frontier:
        found.append(_frontier(decisions.frontier))
    elif not decisions.shapes:
        text = "None from this law: they need a form with N and D, e.g. --form chinchilla."
        found.append(Section("Compute-optimal sizes", plain(text)))
    if decisions.isoflop:
        found.append(_isoflop(decisions.isoflop, with_surface=not unusable(decisions.law)))
    found += [_shape(shape) for shape in decisions.shapes]
    more = [text for one in decisions.saturations for text in _saturation_texts(one)]
    more += [_marginal_text(one) for one in decisions.marginals]
    found.append(Section("What more still buys", plain(*more)))
    if decisions.open_question:
        found.append(Section("Width against depth", plain(decisions.open_question)))
    return found


def _frontier(found: Frontier) -> Section:
    sentences = [*plain(found.cost.statement), *_problems(found.problems)]
    if found.problems and found.problems == (found.cost.problem,):
        sentences += plain("--flops-per-nd K asks what the law implies for another cost, C = K N D.")
    sentences += cautions_of(found.cost.cautions)
    if found.problems:
        return Section("Compute-optimal sizes", sentences)
    a, b, powers = found.exponent_n, found.exponent_d, found.cost.powers
    sentences += plain(f"N* ~ C^a, D* ~ C^b with a = {_text(a, '.3f')}, b = {_text(b, '.3f')}")
    if found.exponent_own and powers and max(abs(power - 1) for power in powers) > NOTABLE_DRIFT:
        sentences += plain(
            f"Were C to grow as in these runs, N^{powers[0]:.2f} D^{powers[1]:.2f}, "
            f"a would be {_text(found.exponent_own, '.3f')}"
        )
    columns = {"N*": found.num_params, "D*": found.data_size, "D*/N*": found.ratio}
    rows = [
        [
            f"{budget:.3g}",
            *[_text(column.at(i)) for column in columns.values()],
            _text(found.loss.at(i), ".4g"),
            f"{_text(found.gain.at(i).times(100), '.1f')} %",
            _beyond(found.beyond, i),
        ]
        for i, budget in enumerate(found.budgets)
    ]
    table = Table(["C (FLOPs)", *columns, "L*", "2 C lowers L* by", "beyond the runs"], rows)
    return Section("Compute-optimal sizes", sentences, [table])


def _isoflop(found: IsoFlop, *, with_surface: bool) -> Section:
    """The parabolas; beside them the surface and the bias that it implies, where the surface itself may be used."""
    title = "IsoFLOP parabolas (approach 2 of Hoffmann et al. 2022), for comparison"
    rows = [[f"{p.budget:.3g}", str(len(p.rows)), _text(p.num_params), f"{p.loss:.4g}"] for p in found.parabolas]
    tables = [Table(["C (FLOPs)", "runs", "N*", "loss"], rows)] if rows else []
    return Section(title, plain(*_isoflop_texts(found, with_surface), *_left_out(found)), tables)


def _isoflop_texts(found: IsoFlop, with_surface: bool) -> list[str]:
    count, total = len(found.parabolas), len(found.parabolas) + len(found.left_out)
    if not (found.exponent and found.on_surface and found.surface and found.bias and found.size_bias):
        return [f"No power law of N*: {count} of {total} budgets have an optimum of their own"]
    exponent = f"a = {_text(found.exponent, '.3f')} through {count} budgets"
    if not with_surface:
        return [exponent, "Their bias is unknown: the surface that would give it is not determined."]
    return [
        f"{exponent}; the surface over the same budgets: {_text(found.surface, '.3f')}",
        f"Their bias on this grid: on noiseless losses of the surface at these very runs they give "
        f"{_text(found.on_surface, '.3f')}, {_text(found.bias, '+.3f')} off, and an N* "
        f"{_text(found.size_bias, '.2f')} times the surface's at {found.parabolas[-1].budget:.3g} FLOPs",
    ]


def _left_out(found: IsoFlop) -> list[str]:
    """The budgets without a parabola, by reason."""
    reasons: dict[str, list[str]] = {}
    for left in found.left_out:
        reasons.setdefault(left.reason, []).append(f"{left.budget:.3g}")
    texts = []
    for reason, budgets in reasons.items():
        few = len(budgets) <= MOST_BUDGETS
        which = ", ".join(budgets) if few else f"{len(budgets)} from {budgets[0]} to {budgets[-1]}"
        texts.append(f"Left out, {which}: {reason}")
    return texts


def _shape(found: BestShape) -> Section:
    rule, of_n = found.rule, found.of == "N"
    given = f"given N, D = {size_text(float(found.data_size.value[0]))}" if of_n else "given FLOPs, D free"
    title = f"Best width and depth at {given}"
    low, high = rule.spread
    text = f"N = {rule.params_per_unit:.3g} depth width^2, the median ({low:.3g} to {high:.3g} in 90 % of the runs)"
    sentences = plain(text, *([found.cost.statement] if found.cost else [])) + _problems(found.problems)
    if found.problems:
        return Section(title, sentences)
    columns = {"width": found.width, "depth": found.depth, "depth/width": found.aspect}
    columns |= {} if of_n else {"D*": found.data_size}
    rows = [
        [
            size_text(float(budget)) if of_n else f"{budget:.3g}",
            *[_text(column.at(i)) for column in columns.values()],
            _text(found.loss.at(i), ".4g"),
            _beyond({axis: factor for axis, factor in found.beyond.items() if axis in columns}, i),
        ]
        for i, budget in enumerate(found.budgets)
    ]
    return Section(title, sentences, [Table(["N" if of_n else "C (FLOPs)", *columns, "L*", "beyond the runs"], rows)])


def _saturation_texts(found: Saturation) -> list[str]:
    texts = []
    for i in range(len(found.size.value)):
        where = f" at {found.other} = {size_text(float(found.given[i]))}" if found.other else ""
        if not found.other and len(found.law.form.axes) > 1:
            where = f" at the largest {' and '.join(axis for axis in found.law.form.axes if axis != found.axis)}"
        start = f"{found.axis} saturates{where}"
        if found.problems:
            texts.append(f"{start} at no size that these runs determine: {'; '.join(found.problems)}")
            continue
        factor = found.beyond[i]
        beyond = f", {factor:.3g}x beyond the runs" if factor > 1 else ""
        texts.append(
            f"{start} at {_text(found.size.at(i))}{beyond}: an unlimited {found.axis} would lower the loss "
            f"by {100 * found.share:g} % more"
        )
    return texts


def _marginal_text(found: Marginal) -> str:
    at = ", ".join(f"{axis} = {size_text(size)}" for axis, size in found.at.items())
    if found.problems:
        return f"The value of more {found.axis} is unknown: {'; '.join(found.problems)}"
    text = (
        f"1 % more {found.axis} at {at} lowers the loss by {_text(found.elasticity, '.2g')} %; an unlimited "
        f"{found.axis} by {_text(found.left.times(100), '.2g')} %"
    )
    if found.hours_exponent is None:
        return text
    cost = f"device-hours go as {found.axis}^{found.hours_exponent:.2f} there"
    if found.per_hours is None:
        return f"{text}; {cost}, so more of it costs next to no time"
    return f"{text}; {cost}, so 1 % more hours spent on it buy {_text(found.per_hours, '.2g')} %"


def _problems(problems: tuple[str, ...]) -> list[Sentence]:
    if not problems:
        return []
    return [*plain("These runs determine none:"), *[Sentence(problem, "no") for problem in problems]]


def _beyond(factors: Mapping[str, np.ndarray], i: int) -> str:
    return ", ".join(f"{axis} {factor[i]:.3g}x" for axis, factor in factors.items() if factor[i] > 1) or "-"


def _text(found: Derived, digits: str | None = None) -> str:
    """A number with its interval, in these digits or as a size."""

    def write(value: float) -> str:
        return size_text(float(value)) if digits is None else format(float(value), digits)

    if found.ci95 is None:
        return write(float(found.value))
    return f"{write(float(found.value))} [{write(found.ci95[0])}, {write(found.ci95[1])}]"
