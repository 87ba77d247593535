"""What a run costs in FLOPs: C = k * N * (samples seen), with k stated or measured, and whether the runs obey it."""

from dataclasses import dataclass

import numpy as np

from analysis.forms.terms import FloatArray
from analysis.tables import FLOPS_PER_PARAMETER_AND_SAMPLE, RunTable, numbers
from analysis.texts import size_text
from scaling.errors import ConfigError

MAX_DRIFT = 0.25
"""Largest |p - 1|, |q - 1| of C ~ N^p D^q in the runs for which C = k N D still describes them."""
SAME_TRAINING = 1.05
"""Spread of samples seen (largest over smallest) within which all runs were trained equally long."""
NEGLIGIBLE = 0.05
"""Directions of log N and log D in which the runs spread less than this share of the widest one say nothing."""


@dataclass(frozen=True)
class FlopsRule:
    """The FLOPs of a run, C = flops_per_nd * N * D with flops_per_nd = flops_per_param_sample * epochs.

    Attributes:
        flops_per_param_sample: k, FLOPs per parameter and sample seen (in the unit of D).
        epochs: how often each of the D is seen; the runs' median.
        spread: 5 to 95 % of k over the runs; None where it was not measured.
        powers: (p, q) of C ~ N^p D^q over the runs; None where the table has no C of its own.
        statement: what C is, in one sentence.
        problem: why C = k N D does not describe these runs; None if it does, or if it was stated by the user.
        cautions: what the reader must know besides.
    """

    flops_per_param_sample: float
    epochs: float
    spread: tuple[float, float] | None
    powers: tuple[float, float] | None
    statement: str
    problem: str | None
    cautions: tuple[str, ...]

    @property
    def flops_per_nd(self) -> float:
        """C / (N D)."""
        return self.flops_per_param_sample * self.epochs

    def flops(self, table: RunTable) -> FloatArray:
        """(M,) FLOPs of the runs: by the rule or, where that was measured, the table's own."""
        ruled, own = self.flops_per_nd * table.num_params * table.data_size, table.axis("C")
        return ruled if self.spread is None else np.where(np.isfinite(own) & (own > 0), own, ruled)


def measure_flops(table: RunTable, flops_per_nd: float | None = None) -> FlopsRule:
    """C = k N D for the runs of a table with N and D: as stated, as D was derived from it, or measured.

    Measured: k = median over runs of C / (N * samples seen), samples seen = D * epochs.

    Args:
        flops_per_nd: C / (N D), stated by the user in place of a measurement.
    Raises:
        ConfigError: if flops_per_nd is not positive.
    """
    if flops_per_nd is not None and not (0 < flops_per_nd < np.inf):
        raise ConfigError(f"flops_per_nd={flops_per_nd} must be a positive number, e.g. 6")
    columns, known = table.columns, np.isfinite(table.axis("C")) & (table.axis("C") > 0)
    derived = table.derives_data
    constant = FLOPS_PER_PARAMETER_AND_SAMPLE
    if derived and flops_per_nd is None:
        statement = f"C = 6 N D, C is column {columns['C']}: D itself was derived so."
        return FlopsRule(constant, 1.0, None, None, statement, None, ())
    if not known.any() and flops_per_nd is None:
        statement = "C = 6 N D, assumed: the table names no FLOPs."
        caution = "6 is a dense transformer's; a graph network's differs with its edges. Name a column with --flops."
        return FlopsRule(constant, 1.0, None, None, statement, None, (caution,))
    runs = table.keep(known)
    powers = None if derived or len(runs) < 2 else _powers(runs)
    drift = None if powers is None else _drift(runs, powers)
    if flops_per_nd is not None:
        statement = f"C = {flops_per_nd:.4g} N D, as stated by the user, not measured."
        cautions = () if drift is None else (f"The stated cost is not that of the runs: {drift}.",)
        return FlopsRule(flops_per_nd, 1.0, None, powers, statement, None, cautions)
    epochs, basis = _epochs(runs)
    each = runs.axis("C") / (runs.num_params * runs.data_size * epochs)
    k, repeats = float(np.median(each)), float(np.median(epochs))
    low, high = (float(bound) for bound in np.percentile(each, [5, 95]))
    seen = f" {repeats:.3g} epochs of" if repeats != 1 else ""
    statement = (
        f"C = {k:.4g} N x{seen} D: k is the median over {len(runs)} runs of {columns['C']} / (N x samples seen), "
        f"{low:.4g} to {high:.4g} in 90 % of them; {basis}.{_per_edge(runs, k)}"
    )
    return FlopsRule(k, repeats, (low, high), powers, statement, drift, ())


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
