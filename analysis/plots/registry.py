"""Every figure there is: what draws it, what it shows, what it needs. A further figure is one entry of `FIGURES`."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure

from analysis.compute.optimal import Frontier
from analysis.compute.parabolas import IsoFlop
from analysis.compute.returns import saturation
from analysis.compute.shape import best_shape
from analysis.design.advice import NextRuns
from analysis.fitting.law import Law
from analysis.plots.backtest import plot_comparison
from analysis.plots.cost import costs_of, plot_cost
from analysis.plots.design import plot_next_map, plot_next_width
from analysis.plots.frontier import plot_compute, plot_frontier, plot_isoflop, plot_saturation, plot_shape
from analysis.plots.influence import plot_influence
from analysis.plots.law import loss_name, plot_backtest, plot_curves, plot_residuals, plot_surface
from analysis.plots.learning_rate import plot_learning_rates
from analysis.plots.overlay import MOST_FAMILIES, plot_overlay
from analysis.plots.uncertainty import plot_corner, plot_profile
from analysis.selection.comparison import Comparison
from analysis.study.findings import Reference
from analysis.study.results import Results
from scaling.errors import ConfigError

LAW, COST, TRUST, TUNING = "The law", "What a loss costs", "How far to trust it", "Tuning"
DECISIONS, NEXT = "What compute is best spent on", "What to run next"

Need = Callable[[Results], str | None]


@dataclass(frozen=True)
class Kind:
    """A kind of figure.

    Attributes:
        group: the heading it stands under.
        caption: what a reader sees, in words.
        draw: makes it; called only if nothing is lacking.
        needs: tried in order; each gives a reason why the figure cannot be drawn, or None.
    """

    group: str
    caption: str
    draw: Callable[[Results], Figure]
    needs: tuple[Need, ...] = ()

    def lacks(self, results: Results) -> str | None:
        """The first reason why it cannot be drawn, None if it can."""
        return next((reason for need in self.needs if (reason := need(results))), None)


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


def _two_parameters(results: Results) -> str | None:
    return None if len(results.law.params) > 1 else "the law has one parameter"


def _two_exponents(results: Results) -> str | None:
    if not results.law.uncertainty.noise.objective_per_f > 0:
        return "the runs do not scatter about the law, so nothing holds the exponents in an interval"
    exponents = [parameter for parameter in results.law.form.parameters if parameter.kind == "exponent"]
    return None if len(exponents) > 1 else f"form {results.law.form.name} has fewer than two exponents"


def _held_out(results: Results) -> str | None:
    if any(test.runs for test in results.backtests):
        return None
    return "; ".join(f"without the largest {test.axis}: {test.problem}" for test in results.backtests)


def _influential(results: Results) -> str | None:
    told = [p.name for p in results.law.form.parameters if p.kind in ("exponent", "floor")]
    if any(name in results.influence for name in told):
        return None
    return f"{len(results.table)} runs are too many to leave out one after the other"


def _frontier(results: Results) -> Frontier:
    found = results.decisions.frontier
    if found is None:
        raise AssertionError("a law with N and D has a frontier")
    return found


def _isoflop(results: Results) -> IsoFlop:
    found = results.decisions.isoflop
    if found is None:
        raise AssertionError("a law with N and D has budgets")
    return found


def _has_parabolas(results: Results) -> str | None:
    found = _isoflop(results)
    reasons = "; ".join(dict.fromkeys(left.reason for left in found.left_out))
    return None if found.parabolas else f"no budget of these runs has an optimum of its own: {reasons}"


def _shape_law(results: Results) -> Law:
    law = results.shape_law
    if isinstance(law, str):
        raise ConfigError(law)
    return law


def _has_shapes(results: Results) -> str | None:
    if isinstance(results.shape_law, str):
        return results.shape_law
    shape = best_shape(results.shape_law)
    return "; ".join(shape.problems) or None


def _comparison(results: Results) -> Comparison:
    if isinstance(results.comparison, str):
        raise ConfigError(results.comparison)
    return results.comparison


def _advice(results: Results) -> NextRuns:
    if isinstance(results.advice, str):
        raise ConfigError(results.advice)
    return results.advice


def _has_advice(results: Results) -> str | None:
    if results.problem:
        return results.problem
    return results.advice if isinstance(results.advice, str) else None


def _two_axes(results: Results) -> str | None:
    axes = results.law.form.axes
    return None if len(axes) == 2 else f"form {results.law.form.name} has the axes {', '.join(axes)}; a map needs two"


def _several_rates(results: Results) -> str | None:
    if results.learning_rates is not None:
        return None
    return "it needs a column learning_rate, lr or peak_lr with three values or more at one model and data size"


def _several_families(results: Results) -> str | None:
    laws = _laws(results)
    if 2 <= len(laws) <= MOST_FAMILIES:
        return None
    told = [f"{name}: {law}" for name, law in results.families.items() if isinstance(law, str)]
    why = f" ({'; '.join(told)})" if told else ""
    return f"it needs 2 to {MOST_FAMILIES} families with a law: values of a column model, or tables of --beside{why}"


def _laws(results: Results) -> dict[str, Law]:
    return {name: law for name, law in results.families.items() if isinstance(law, Law)}


def _curve(axis: str, what: str, lines: str) -> Kind:
    return Kind(
        LAW,
        f"Loss against {what}, one line for each {lines}. Points are runs, seeds included; dark bands the 95 % "
        "confidence of the law, light bands where 95 % of single further runs would fall; the dashed line is the "
        "floor.",
        lambda results: plot_curves(results.law, axis, results.baseline),
        (along(axis),),
    )


OVERLAY_CAPTION = (
    "One law for each family, on the same axes, each drawn over its own range; bands are 95 % confidence. Below: "
    "exponents and floor with 95 % intervals; hollow where the runs do not determine an exponent, an arrow where they "
    "do not bound it."
)

FIGURES: dict[str, Kind] = {
    "loss_vs_params": _curve("N", "parameters", "data size"),
    "loss_vs_data": _curve("D", "data", "model size"),
    "loss_vs_flops": _curve("C", "training compute, with the fitted law", "size"),
    "loss_vs_width": _curve("width", "width", "data size"),
    "loss_vs_depth": _curve("depth", "depth", "data size"),
    "loss_vs_epochs": _curve("epochs", "epochs", "data size"),
    "surface": Kind(
        LAW,
        "Lines of equal predicted loss, to ten times the largest sizes; orange points are the runs. Where lines run "
        "upright more data does not help, where they lie flat a larger model does not. Shades: how well the law is "
        "known there, if its form holds.",
        lambda results: plot_surface(results.law),
        (along("N", "D"),),
    ),
    "overlay": Kind(
        LAW,
        OVERLAY_CAPTION,
        lambda results: plot_overlay(_laws(results)),
        (_several_families,),
    ),
    "cost_compute": Kind(
        COST,
        "Loss against training compute. The line is the lowest loss that any run of at most that compute reached; it "
        "is no law, and no better than the sizes that were tried.",
        lambda results: plot_cost(results.table, "train_flops"),
        (priced("train_flops"),),
    ),
    "cost_device_hours": Kind(
        COST,
        "Loss against device-hours, as measured on the machines of the runs; the line as above.",
        lambda results: plot_cost(results.table, "device_hours"),
        (priced("device_hours"),),
    ),
    "residuals": Kind(
        TRUST,
        "Observed over predicted loss; the grey band is the scatter (one standard deviation). A pattern along an axis "
        "means the form is only approximate.",
        lambda results: plot_residuals(results.law),
        (fitted,),
    ),
    "influence": Kind(
        TRUST,
        "How far an exponent or the floor moves when a run is left out, in standard errors (DFBETAS). Beyond the "
        "dashed lines, 2/√n, a run deserves a look; the farthest are named.",
        lambda results: plot_influence(results.law, results.influence),
        (fitted, _influential),
    ),
    "backtest": Kind(
        TRUST,
        "The law fitted without the largest models, or without the largest data, against the runs it did not see; "
        "bars are 95 % intervals for single runs, hollow points lie outside.",
        lambda results: plot_backtest(results.backtests, loss_name(results.table)),
        (fitted, _held_out),
    ),
    "comparison": Kind(
        TRUST,
        "Every form that the table allows, fitted to the smaller runs and tried on the larger ones. Left: its error, "
        "one mark for each place where the table was cut, the mean as a bar; the chosen form is orange, predictions "
        "that need no law are grey. Right: how many of the larger runs lie inside their 95 % interval.",
        lambda results: plot_comparison(_comparison(results)),
        (lambda results: results.comparison if isinstance(results.comparison, str) else None,),
    ),
    "profile": Kind(
        TRUST,
        "How far the exponents can be moved, all else refitted, before the runs object: together (joint regions) and "
        "each alone (its 95 % interval below the dashed line), if all runs scatter alike. Where the dots of the "
        "bootstrap spread farther, they do not.",
        lambda results: plot_profile(results.law),
        (fitted, _two_exponents),
    ),
    "corner": Kind(
        TRUST,
        "All parameters of the bootstrap against each other; narrow bands are parameters that only their combination "
        "determines.",
        lambda results: plot_corner(results.law),
        (bootstrapped, _two_parameters),
    ),
    "frontier": Kind(
        DECISIONS,
        "Lines of equal loss, the runs, and the compute-optimal sizes, dashed beyond the compute of the runs; the band "
        "is the 95 % interval of N*. Dotted: equal FLOPs.",
        lambda results: plot_frontier(_frontier(results)),
        (along("N", "D"), lambda results: "; ".join(_frontier(results).problems) or None),
    ),
    "optimal_sizes": Kind(
        DECISIONS,
        "Compute-optimal N*, D* and D*/N* against compute with 95 % intervals, dashed beyond the runs.",
        lambda results: plot_compute(_frontier(results)),
        (along("N", "D"), lambda results: "; ".join(_frontier(results).problems) or None),
    ),
    "isoflop": Kind(
        DECISIONS,
        "IsoFLOP curves: the runs of each budget, their parabola and its minimum, beside the law's own curve. The bias "
        "of the parabolas on these very sizes stands below.",
        lambda results: plot_isoflop(_isoflop(results)),
        (along("N", "D"), _has_parabolas),
    ),
    "shape": Kind(
        DECISIONS,
        "Predicted loss over width and depth, at fixed D (left) and at fixed FLOPs (right), by the law in width, depth "
        "and D; the orange line joins the best shapes of equal N, the star is the best of all at that budget.",
        lambda results: plot_shape(_shape_law(results)),
        (_has_shapes,),
    ),
    "saturation_params": Kind(
        DECISIONS,
        "The N beyond which all further growth of N lowers the loss by 5 %, against D, with its 95 % interval.",
        lambda results: plot_saturation(results.law, "N"),
        (along("N", "D"), lambda results: "; ".join(saturation(results.law, "N").problems) or None),
    ),
    "saturation_data": Kind(
        DECISIONS,
        "The D beyond which all further growth of D lowers the loss by 5 %, against N, with its 95 % interval.",
        lambda results: plot_saturation(results.law, "D"),
        (along("N", "D"), lambda results: "; ".join(saturation(results.law, "D").problems) or None),
    ),
    "next_map": Kind(
        NEXT,
        "Where the sweep is: the runs (white) and the runs that could be made, coloured by how much one of each would "
        "narrow the interval of the target (star); the advice is numbered. Grey lines: equal cost.",
        lambda results: plot_next_map(_advice(results)),
        (_has_advice, _two_axes),
    ),
    "next_width": Kind(
        NEXT,
        "Expected width of the target's interval against what is spent: the best plan for each budget, beside a larger "
        "model, more data and more seeds.",
        lambda results: plot_next_width(_advice(results)),
        (_has_advice,),
    ),
    "learning_rate": Kind(
        TUNING,
        "Left: loss against the learning rate, a parabola in its logarithm for each model size, stars at the minima; "
        "right: the minima against size, with 95 % intervals where runs are left to estimate them from. A size whose "
        "minimum lies outside the rates tried has no star.",
        lambda results: plot_learning_rates(results.table, results.learning_rates),
        (_several_rates,),
    ),
}
"""By name, in the order of a report."""


def draw(results: Results, kind: str) -> Figure:
    """Draw one figure.

    Raises:
        ConfigError: if the kind is unknown, or needs what the table or the law does not have.
    """
    if kind not in FIGURES:
        raise ConfigError(f"kind={kind} is not a figure; choose one of {', '.join(FIGURES)}")
    if reason := FIGURES[kind].lacks(results):
        possible = ", ".join(name for name, other in FIGURES.items() if other.lacks(results) is None)
        raise ConfigError(f"kind={kind} cannot be drawn: {reason}. Possible here: {possible or 'none'}")
    return FIGURES[kind].draw(results)


def plot(law: Law, kind: str = "loss_vs_params", *, baseline: Reference | None = None) -> Figure:
    """Draw one of `FIGURES` for a law; `baseline` in place of the table's own.

    Raises:
        ConfigError: if the kind is unknown, or needs what the table or the law does not have.
    """
    return draw(Results.of(law, baseline=baseline), kind)
