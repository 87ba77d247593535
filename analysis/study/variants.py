"""The same law with N or D counted in another way: how far the exponents are a matter of convention.

Porian et al. 2024 (arXiv:2406.19146) trace much of the disagreement between published compute exponents to what N
counts; for graphs D can be counted in structures, atoms or edges.
"""

from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from analysis.fitting import DEFAULT_REPLICATES, Estimate, Law, refit
from analysis.tables import RunTable, distinct_sizes
from scaling.errors import DataError

COUNTS = {
    "N": ("num_params", "num_params_trunk"),
    "D": ("train_structures", "train_atoms", "train_edges", "samples_seen"),
}
REPLICATES = 400


@dataclass(frozen=True)
class Variant:
    """The law with one axis read from another column; `problem` says why there are no estimates.

    Attributes:
        axis, column: None, None for the law as it was fitted.
        estimates: of exponents and floor.
    """

    axis: str | None
    column: str | None
    estimates: tuple[Estimate, ...]
    problem: str | None


def fit_variants(law: Law, replicates: int = DEFAULT_REPLICATES) -> tuple[Variant, ...]:
    """The law itself, then one refit for each other way of counting that the table has; () if it has none.

    A count that is proportional to the one in use changes no exponent, and one that does not vary has none: both are
    left out.
    """
    found = []
    for axis in law.form.axes:
        for column in COUNTS.get(axis, ()):
            if column != law.table.columns[axis] and column in law.table.frame:
                found.append(_refit(law, axis, column, replicates))
    kept = [variant for variant in found if variant is not None]
    return (Variant(None, None, _shown(law), None), *kept) if kept else ()


def _refit(law: Law, axis: str, column: str, replicates: int) -> Variant | None:
    table = law.table
    counts = pd.to_numeric(table.frame[column], errors="coerce").to_numpy(dtype=float, na_value=np.nan)
    usable = np.isfinite(counts) & (counts > 0)
    if len(distinct_sizes(counts[usable])) < 2:
        return None
    ratio = counts[usable] / table.axis(axis)[usable]
    if usable.all() and np.ptp(ratio) <= 1e-9 * ratio.max():
        return None
    try:
        other = refit(law, _recounted(table, axis, column, counts).keep(usable), replicates=min(replicates, REPLICATES))
    except DataError as error:
        return Variant(axis, column, (), str(error))
    return Variant(axis, column, _shown(other), None)


def _recounted(table: RunTable, axis: str, column: str, counts: np.ndarray) -> RunTable:
    return replace(table, sizes={**table.sizes, axis: counts}, columns={**table.columns, axis: column})


def _shown(law: Law) -> tuple[Estimate, ...]:
    """Exponents and floor: coefficients change with the unit of the count and mean nothing beside each other."""
    kinds = {parameter.name: parameter.kind for parameter in law.form.parameters}
    return tuple(estimate for estimate in law.params if kinds[estimate.name] in ("exponent", "floor"))
