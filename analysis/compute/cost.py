"""What a run costs: the one model of its FLOPs and device-hours, for frontiers, parabolas, marginal values and designs.

FLOPs are C = k N (samples seen), with k measured on the table's own runs, stated by the user, or 6 by convention.
Device-hours are fitted as powers of the sizes, where the table has them.

Legend of shapes: M runs.
"""

from dataclasses import dataclass

import numpy as np

from analysis.arrays import FloatArray
from analysis.compute.size_cost import Axes, SizeCost, fit_cost
from analysis.tables import FLOPS_PER_PARAMETER_AND_SAMPLE, RunTable, numbers
from analysis.texts import size_text
from scaling.errors import ConfigError

HOURS_COLUMN = "device_hours"
MAX_DRIFT = 0.25
"""Largest |p - 1|, |q - 1| of C ~ N^p D^q in the runs for which C = k N D still describes them."""
SAME_TRAINING = 1.05
"""Spread of samples seen (largest over smallest) within which all runs were trained equally long."""
NEGLIGIBLE = 0.05
"""Directions of log N and log D in which the runs spread less than this share of the widest one say nothing."""


@dataclass(frozen=True)
class FlopsRule:
    """C = flops_per_nd * N * D with flops_per_nd = flops_per_param_sample * epochs: what budgets are divided by.

    Attributes:
        flops_per_param_sample: k, FLOPs per parameter and sample seen (in the unit of D).
        statement: what C is, in one sentence.
        epochs: how often each of the D is seen; the runs' median.
        spread: 5 to 95 % of k over the runs; None where it was not measured.
        powers: (p, q) of C ~ N^p D^q over the runs; None where the table has no C of its own.
        problem: why C = k N D does not describe these runs; None if it does, or if it was stated by the user.
        cautions: what the reader must know besides.
        basis: origin of a k that was not measured, in a few words.
        log_error: standard deviation of log k over the runs; None where it was not measured.
        num_runs: number of runs it was measured on.
    """

    flops_per_param_sample: float
    statement: str
    epochs: float = 1.0
    spread: tuple[float, float] | None = None
    powers: tuple[float, float] | None = None
    problem: str | None = None
    cautions: tuple[str, ...] = ()
    basis: str = ""
    log_error: float | None = None
    num_runs: int = 0

    @property
    def flops_per_nd(self) -> float:
        """C / (N D)."""
        return self.flops_per_param_sample * self.epochs


@dataclass(frozen=True, kw_only=True)
class Cost(FlopsRule):
    """What runs like those of a table cost: the rule, and prices of single runs by their sizes.

    `flops` prices a run by the rule; but where the runs do not follow it (`problem`), or the axes are not N and D, by
    the powers of the sizes that the runs show.

    Attributes:
        flops_of_runs: (M,) FLOPs of the table's runs: its own where k was measured on them, else by the rule.
        flops: FLOPs of a run by its sizes along the axes.
        hours: device-hours of a run by its sizes; None where too few runs have them.
    """

    flops_of_runs: FloatArray
    flops: SizeCost
    hours: SizeCost | None

    @property
    def price(self) -> SizeCost:
        """What a budget of further runs is counted in: device-hours if known, else FLOPs; FLOPs for a law of C."""
        return self.flops if self.hours is None or self.flops.exponents.keys() == {"C"} else self.hours


def measure_cost(table: RunTable, axes: Axes = ("N", "D"), *, flops_per_nd: float | None = None) -> Cost:
    """The cost of runs like the table's, as a function of their sizes along `axes`.

    Args:
        axes: those of the law that asks.
        flops_per_nd: C / (N D), stated by the user in place of a measurement.
    Raises:
        ConfigError: if flops_per_nd is not positive.
    """
    rule = _rule(table, flops_per_nd)
    own, ruled = table.axis("C"), rule.flops_per_nd * table.num_params * table.data_size
    return Cost(
        **vars(rule),
        flops_of_runs=ruled if rule.spread is None else np.where(np.isfinite(own) & (own > 0), own, ruled),
        flops=_flops(table, axes, rule),
        hours=fit_cost(table, numbers(table, HOURS_COLUMN), "device-hours", axes),
    )


def _flops(table: RunTable, axes: Axes, rule: FlopsRule) -> SizeCost:
    """FLOPs of a run by its sizes along these axes."""
    if axes == ("C",):
        return SizeCost("FLOPs", 1.0, {"C": 1.0})
    ruled = {"N", "D"} <= set(axes)
    if (not ruled or rule.problem) and (found := fit_cost(table, table.axis("C"), "FLOPs", axes)):
        return found
    if ruled:
        factor = rule.flops_per_param_sample if "epochs" in axes else rule.flops_per_nd
        exponents = {axis: 1.0 for axis in axes if axis in ("N", "D", "epochs")}
        return SizeCost("FLOPs", factor, exponents, 0.0, rule.log_error, rule.num_runs, rule.basis)
    # A network's parameters, and with them its cost, grow as width^2 * depth.
    exponents = {axis: 2.0 if axis == "width" else 1.0 for axis in axes}
    return SizeCost("relative units", 1.0, exponents, basis="by convention: the table has no cost")


def _rule(table: RunTable, flops_per_nd: float | None) -> FlopsRule:
    """C = k N D: as stated, as D was derived from it, as measured on the runs, or 6 N D.

    Measured: k = median over runs of C / (N * samples seen), samples seen = D * epochs.
    """
    if flops_per_nd is not None and not (0 < flops_per_nd < np.inf):
        raise ConfigError(f"flops_per_nd={flops_per_nd} must be a positive number, e.g. 6")
    own, columns, derived = table.axis("C"), table.columns, table.derives_data
    known = np.isfinite(own * table.num_params * table.data_size) & (own > 0)
    powers = None if derived or known.sum() < 2 else _powers(table.keep(known))
    drift = None if powers is None else _drift(table.keep(known), powers)
    if flops_per_nd is not None:
        statement = f"C = {flops_per_nd:.4g} N D, as stated by the user, not measured."
        cautions = () if drift is None else (f"The stated cost is not that of the runs: {drift}.",)
        return FlopsRule(flops_per_nd, statement, powers=powers, cautions=cautions, basis="as stated, not measured")
    if derived:
        statement = f"C = 6 N D, C is column {columns['C']}: D itself was derived so."
        basis = f"as column {columns['C']}, from which D itself was derived so"
        return FlopsRule(FLOPS_PER_PARAMETER_AND_SAMPLE, statement, basis=basis)
    if not known.any():
        statement = "C = 6 N D, assumed: the table names no FLOPs."
        caution = "6 is a dense transformer's; a graph network's differs with its edges. Name a column with --flops."
        basis = "by convention: the table has no cost"
        return FlopsRule(FLOPS_PER_PARAMETER_AND_SAMPLE, statement, cautions=(caution,), basis=basis)
    return _measured(table.keep(known), powers, drift)


def _measured(runs: RunTable, powers: tuple[float, float] | None, drift: str | None) -> FlopsRule:
    """The rule from runs that all have N, D and C."""
    epochs, basis = _epochs(runs)
    each = runs.axis("C") / (runs.num_params * runs.data_size * epochs)
    k, repeats = float(np.median(each)), float(np.median(epochs))
    low, high = (float(bound) for bound in np.percentile(each, [5, 95]))
    seen = f" {repeats:.3g} epochs of" if repeats != 1 else ""
    statement = (
        f"C = {k:.4g} N x{seen} D: k is the median over {len(runs)} runs of {runs.columns['C']} / (N x samples seen), "
        f"{low:.4g} to {high:.4g} in 90 % of them; {basis}.{_per_edge(runs, k)}"
    )
    scatter = float(np.sqrt(np.mean(np.log(each / k) ** 2)))
    return FlopsRule(k, statement, repeats, (low, high), powers, problem=drift, log_error=scatter, num_runs=len(runs))


def _epochs(table: RunTable) -> tuple[FloatArray, str]:
    """(M,) how often a run sees each of its D, and the words for where that is from."""
    once = np.ones(len(table))
    column = table.columns["D"]
    if column == "samples_seen":
        return once, "samples seen is D itself, repeats counted"
    if "epochs" in table.sizes and (table.axis("epochs") > 0).all():
        return table.axis("epochs"), f"samples seen is D x {table.columns['epochs']}"
    seen = numbers(table, "samples_seen")
    if column == "train_structures" and (seen > 0).all():
        return seen / table.data_size, "samples seen is column samples_seen"
    return once, "samples seen is taken to be D, each seen once"


def _powers(table: RunTable) -> tuple[float, float]:
    """(p, q) of C ~ N^p D^q: the least departure from N D that explains log(C / (N D)).

    Directions that the runs do not vary in (D along a single budget) keep p = q = 1.
    """
    logs = np.log(np.stack([table.num_params, table.data_size], 1))
    target = np.log(table.axis("C")) - logs.sum(1)
    slopes = np.linalg.lstsq(logs - logs.mean(0), target - target.mean(), rcond=NEGLIGIBLE)[0]
    return float(1 + slopes[0]), float(1 + slopes[1])


def _drift(table: RunTable, powers: tuple[float, float]) -> str | None:
    """Why C does not follow N D in these runs, None if it does."""
    if max(abs(power - 1) for power in powers) <= MAX_DRIFT:
        return None
    text = f"in these runs C goes as N^{powers[0]:.2f} D^{powers[1]:.2f}, not as N D"
    seen = table.data_size * _epochs(table)[0]
    if abs(powers[1]) < MAX_DRIFT and seen.max() <= SAME_TRAINING * seen.min():
        text += (
            f": all of them saw the same {size_text(float(np.median(seen)))} samples whatever their D, so more data "
            "cost no compute, and no division of compute between N and D was measured. At this length of training "
            "take all the data there are; N alone is bought with compute"
        )
    return text


def _per_edge(table: RunTable, k: float) -> str:
    """k per edge: what compares graph networks on structures of different sizes."""
    edges = float(np.median(numbers(table, "train_edges") / table.data_size))
    if table.columns["D"] != "train_structures" or not edges > 0:
        return ""
    return f" With {edges:.3g} edges a structure that is {k / edges:.2g} FLOPs per parameter and edge."
