"""What figures need of a table: each function gives the reason why a figure cannot be drawn, or None."""

from collections.abc import Callable

import numpy as np

from analysis.compute import Frontier, IsoFlop, best_shape, saturation
from analysis.design import NextRuns
from analysis.fitting import Law
from analysis.plots.cost import costs_of
from analysis.plots.laws.overlay import MOST_FAMILIES
from analysis.selection import Comparison
from analysis.study import Results, laws_of, problems_of
from scaling.errors import ConfigError

Need = Callable[[Results], str | None]


def fitted(results: Results) -> str | None:
    """The chosen form could be fitted."""
    return results.problem


def bootstrapped(results: Results) -> str | None:
    """The law has refits."""
    if results.problem or results.law.samples:
        return results.problem
    return "the law was fitted without a bootstrap; fit it with --bootstrap 1000 (replicates=1000) to draw this"


def along(*axes: str) -> Need:
    """The law has these axes."""

    def need(results: Results) -> str | None:
        if results.problem:
            return results.problem
        form = results.law.form
        lacking = [axis for axis in axes if axis not in form.axes]
        have = ", ".join(form.axes)
        return f"form {form.name} has no axis {', '.join(lacking)}; it has {have}" if lacking else None

    return need


def priced(column: str) -> Need:
    """At least two runs have this cost."""

    def need(results: Results) -> str | None:
        known = np.isfinite(costs_of(results.table, column)).sum()
        option = " (or another, named with --flops)" if column == "train_flops" else ""
        return None if known >= 2 else f"it needs two runs or more with a positive number in column {column}{option}"

    return need


def two_parameters(results: Results) -> str | None:
    """The law has parameters to draw against each other."""
    return None if len(results.law.params) > 1 else "the law has one parameter"


def two_exponents(results: Results) -> str | None:
    """Two exponents have intervals."""
    if not results.law.uncertainty.noise.objective_per_f > 0:
        return "the runs do not scatter about the law, so nothing holds the exponents in an interval"
    exponents = [parameter for parameter in results.law.form.parameters if parameter.kind == "exponent"]
    return None if len(exponents) > 1 else f"form {results.law.form.name} has fewer than two exponents"


def held_out(results: Results) -> str | None:
    """Some runs could be held out."""
    if any(test.runs for test in results.backtests):
        return None
    return "; ".join(f"without the largest {test.axis}: {test.problem}" for test in results.backtests)


def influential(results: Results) -> str | None:
    """Runs could be left out one after the other."""
    names = [p.name for p in results.law.form.parameters if p.kind in ("exponent", "floor")]
    if any(name in results.influence for name in names):
        return None
    return f"{len(results.table)} runs are too many to leave out one after the other"


def parabolas(results: Results) -> str | None:
    """A budget has a parabola with a minimum."""
    found = isoflop_of(results)
    reasons = "; ".join(dict.fromkeys(left.reason for left in found.left_out))
    return None if found.parabolas else f"no budget of these runs has an optimum of its own: {reasons}"


def shapes(results: Results) -> str | None:
    """The best width and depth are determined."""
    if isinstance(results.shape_law, str):
        return results.shape_law
    shape = best_shape(results.shape_law)
    return "; ".join(shape.problems) or None


def advised(results: Results) -> str | None:
    """There is advice on what to run next."""
    if results.problem:
        return results.problem
    return results.advice if isinstance(results.advice, str) else None


def two_axes(results: Results) -> str | None:
    """The law has two axes."""
    axes = results.law.form.axes
    return None if len(axes) == 2 else f"form {results.law.form.name} has the axes {', '.join(axes)}; a map needs two"


def several_rates(results: Results) -> str | None:
    """A size was run with several learning rates."""
    if results.learning_rates is not None:
        return None
    return "it needs a column learning_rate, lr or peak_lr with three values or more at one model and data size"


def several_families(results: Results) -> str | None:
    """Families of runs have laws to lay over each other."""
    if 2 <= len(laws_of(results.families)) <= MOST_FAMILIES:
        return None
    without = [f"{name}: {problem}" for name, problem in problems_of(results.families).items()]
    why = f" ({'; '.join(without)})" if without else ""
    return f"it needs 2 to {MOST_FAMILIES} families with a law: values of a column model, or tables of --beside{why}"


def frontier_of(results: Results) -> Frontier:
    """The frontier of a law with N and D."""
    assert results.decisions.frontier is not None, "a law with N and D has a frontier"
    return results.decisions.frontier


def isoflop_of(results: Results) -> IsoFlop:
    """The IsoFLOPs of a law with N and D."""
    assert results.decisions.isoflop is not None, "a law with N and D has budgets"
    return results.decisions.isoflop


def shape_law_of(results: Results) -> Law:
    """The law of width, depth and D."""
    law = results.shape_law
    if isinstance(law, str):
        raise ConfigError(law)
    return law


def comparison_of(results: Results) -> Comparison:
    """The comparison of forms, which was possible."""
    if isinstance(results.comparison, str):
        raise ConfigError(results.comparison)
    return results.comparison


def advice_of(results: Results) -> NextRuns:
    """The advice, which was possible."""
    if isinstance(results.advice, str):
        raise ConfigError(results.advice)
    return results.advice


def frontier_usable(results: Results) -> str | None:
    """The frontier may be used."""
    return "; ".join(frontier_of(results).problems) or None


def saturates(axis: str) -> Need:
    """The size beyond which more of the axis hardly helps is determined."""

    def need(results: Results) -> str | None:
        return "; ".join(saturation(results.law, axis).problems) or None

    return need


def compared(results: Results) -> str | None:
    """Forms could be compared."""
    return results.comparison if isinstance(results.comparison, str) else None
