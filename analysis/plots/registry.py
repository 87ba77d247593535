"""Every figure there is: what draws it, what it shows, what it needs. A further figure is one entry of `FIGURES`."""

from collections.abc import Callable
from dataclasses import dataclass

from matplotlib.figure import Figure

from analysis.fitting import Law
from analysis.plots.cost import plot_cost
from analysis.plots.decisions import (
    plot_compute,
    plot_frontier,
    plot_isoflop,
    plot_next_map,
    plot_next_width,
    plot_saturation,
    plot_shape,
)
from analysis.plots.laws import plot_curves, plot_overlay, plot_surface
from analysis.plots.learning_rate import plot_learning_rates
from analysis.plots.needs import (
    Need,
    advice_of,
    advised,
    along,
    bootstrapped,
    compared,
    comparison_of,
    fitted,
    frontier_of,
    frontier_usable,
    held_out,
    influential,
    isoflop_of,
    parabolas,
    priced,
    saturates,
    several_families,
    several_rates,
    shape_law_of,
    shapes,
    two_axes,
    two_exponents,
    two_parameters,
)
from analysis.plots.sizes import loss_name
from analysis.plots.trust import (
    plot_backtest,
    plot_comparison,
    plot_corner,
    plot_influence,
    plot_profile,
    plot_residuals,
)
from analysis.study import COST, DECISIONS, LAW, NEXT, TRUST, TUNING, Reference, Results, laws_of
from scaling.errors import ConfigError


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
        lambda results: plot_overlay(laws_of(results.families)),
        (several_families,),
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
        (fitted, influential),
    ),
    "backtest": Kind(
        TRUST,
        "The law fitted without the largest models, or without the largest data, against the runs it did not see; "
        "bars are 95 % intervals for single runs, hollow points lie outside.",
        lambda results: plot_backtest(results.backtests, loss_name(results.table)),
        (fitted, held_out),
    ),
    "comparison": Kind(
        TRUST,
        "Every form that the table allows, fitted to the smaller runs and tried on the larger ones. Left: its error, "
        "one mark for each place where the table was cut, the mean as a bar; the chosen form is orange, predictions "
        "that need no law are grey. Right: how many of the larger runs lie inside their 95 % interval.",
        lambda results: plot_comparison(comparison_of(results)),
        (compared,),
    ),
    "profile": Kind(
        TRUST,
        "How far the exponents can be moved, all else refitted, before the runs object: together (joint regions) and "
        "each alone (its 95 % interval below the dashed line), if all runs scatter alike. Where the dots of the "
        "bootstrap spread farther, they do not.",
        lambda results: plot_profile(results.law),
        (fitted, two_exponents),
    ),
    "corner": Kind(
        TRUST,
        "All parameters of the bootstrap against each other; narrow bands are parameters that only their combination "
        "determines.",
        lambda results: plot_corner(results.law),
        (bootstrapped, two_parameters),
    ),
    "frontier": Kind(
        DECISIONS,
        "Lines of equal loss, the runs, and the compute-optimal sizes, dashed beyond the compute of the runs; the band "
        "is the 95 % interval of N*. Dotted: equal FLOPs.",
        lambda results: plot_frontier(frontier_of(results)),
        (along("N", "D"), frontier_usable),
    ),
    "optimal_sizes": Kind(
        DECISIONS,
        "Compute-optimal N*, D* and D*/N* against compute with 95 % intervals, dashed beyond the runs.",
        lambda results: plot_compute(frontier_of(results)),
        (along("N", "D"), frontier_usable),
    ),
    "isoflop": Kind(
        DECISIONS,
        "IsoFLOP curves: the runs of each budget, their parabola and its minimum, beside the law's own curve. The bias "
        "of the parabolas on these very sizes stands below.",
        lambda results: plot_isoflop(isoflop_of(results)),
        (along("N", "D"), parabolas),
    ),
    "shape": Kind(
        DECISIONS,
        "Predicted loss over width and depth, at fixed D (left) and at fixed FLOPs (right), by the law in width, depth "
        "and D; the orange line joins the best shapes of equal N, the star is the best of all at that budget.",
        lambda results: plot_shape(shape_law_of(results)),
        (shapes,),
    ),
    "saturation_params": Kind(
        DECISIONS,
        "The N beyond which all further growth of N lowers the loss by 5 %, against D, with its 95 % interval.",
        lambda results: plot_saturation(results.law, "N"),
        (along("N", "D"), saturates("N")),
    ),
    "saturation_data": Kind(
        DECISIONS,
        "The D beyond which all further growth of D lowers the loss by 5 %, against N, with its 95 % interval.",
        lambda results: plot_saturation(results.law, "D"),
        (along("N", "D"), saturates("D")),
    ),
    "next_map": Kind(
        NEXT,
        "Where the sweep is: the runs (white) and the runs that could be made, coloured by how much one of each would "
        "narrow the interval of the target (star); the advice is numbered. Grey lines: equal cost.",
        lambda results: plot_next_map(advice_of(results)),
        (advised, two_axes),
    ),
    "next_width": Kind(
        NEXT,
        "Expected width of the target's interval against what is spent: the best plan for each budget, beside a larger "
        "model, more data and more seeds.",
        lambda results: plot_next_width(advice_of(results)),
        (advised,),
    ),
    "learning_rate": Kind(
        TUNING,
        "Left: loss against the learning rate, a parabola in its logarithm for each model size, stars at the minima; "
        "right: the minima against size, with 95 % intervals where runs are left to estimate them from. A size whose "
        "minimum lies outside the rates tried has no star.",
        lambda results: plot_learning_rates(results.table, results.learning_rates),
        (several_rates,),
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
