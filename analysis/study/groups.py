"""Runs of several kinds in one table, e.g. architectures: a law for each, side by side."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from analysis.compute import Frontier, frontier, measure_cost, unusable
from analysis.fitting import FitChoice, Law, flaws_of_fit
from analysis.forms import find_form
from analysis.study.comparability import unlike_losses, unlike_runs
from analysis.study.contrast import Contrast, contrasts
from analysis.study.document import document_without_law, law_document
from analysis.study.results import Results, laws_of, problems_of
from analysis.tables import MODEL, Excluded, RunTable, distinct_sizes, kinds_of
from scaling.errors import ConfigError

MOST_GROUPS = 7
"""As many kinds as there are colours without order."""

ASSUMPTIONS = (
    "Differences are of laws fitted to different runs, which are taken to err independently; their intervals are made "
    "of those of the two laws (MOVER; Zou and Donner 2008, doi:10.1002/sim.3095). They assume one test set, one loss "
    "and equally good tuning, and that the form holds over the sizes of each. No difference found is not equality: "
    "the interval says how large it may be."
)


@dataclass(frozen=True)
class Groups:
    """The values of one column, each with its own table and law.

    Attributes:
        asked: whether the user named the column.
        results: by value, in alphabetical order.
        excluded: rows that hold no value.
    """

    by: str
    asked: bool
    results: dict[str, Results]
    excluded: tuple[Excluded, ...]

    def from_file_name(self) -> "Groups":
        """The same of a table that is called by its file's name alone."""
        return replace(self, results={name: one.from_file_name() for name, one in self.results.items()})

    @property
    def tables(self) -> dict[str, RunTable]:
        """The runs of each value."""
        return {name: one.table for name, one in self.results.items()}

    @property
    def laws(self) -> dict[str, Law]:
        """Those that could be fitted."""
        return laws_of(self.results)

    @property
    def unfitted(self) -> dict[str, str]:
        """Why the others have none."""
        return problems_of(self.results)

    @cached_property
    def common_sizes(self) -> dict[str, float] | None:
        """Along each axis the largest size that every law has reached; None where their sizes do not overlap."""
        return _common({name: {a: law.table.axis(a) for a in law.form.axes} for name, law in self.laws.items()})

    @cached_property
    def at_common_compute(self) -> tuple[float, dict[str, Frontier]] | str:
        """The least loss of each law at the largest compute that all have spent; a sentence if there is none."""
        laws = self.laws
        if not laws or not all({"N", "D"} <= set(law.form.axes) for law in laws.values()):
            return "it needs laws of N and D"
        costs = {name: measure_cost(law.table) for name, law in laws.items()}
        for name, law in laws.items():
            if costs[name].spread is None:
                return f"the FLOPs of {name} were not measured"
            if problems := (*unusable(law), *filter(None, [costs[name].problem])):
                return f"{name}: {problems[0]}"
        sizes = _common({name: {"C": costs[name].flops_of_runs} for name, law in laws.items()})
        if sizes is None:
            return "their budgets do not overlap"
        return sizes["C"], {name: frontier(law, [sizes["C"]]) for name, law in laws.items()}

    @cached_property
    def differences(self) -> tuple[Contrast, ...]:
        """Of every two laws: their exponents and, where losses mean the same, the loss at `common_sizes`."""
        return contrasts(self.laws, None if self.unlike_losses else self.common_sizes)

    @cached_property
    def unlike_losses(self) -> tuple[str, ...]:
        """What says that losses of different kinds are not one quantity."""
        return unlike_losses(self.by, self.tables)

    @cached_property
    def cautions(self) -> tuple[str, ...]:
        """What limits the comparison; all that limits each law is among its own cautions."""
        found = [*self.unlike_losses, *unlike_runs(self.by, self.tables)]
        if self.laws and self.common_sizes is None:
            found.append("Their sizes do not overlap: their losses cannot be compared without extrapolation.")
        return (*found, *(f"{name}: {text}" for name, law in self.laws.items() for text in flaws_of_fit(law)))

    @property
    def document(self) -> dict[str, Any]:
        """The contents of fit.json: that of each law, and what stands between them."""
        return {
            "by": self.by,
            "laws": {
                name: document_without_law(one.table, one.choice.form, one.problem)
                if one.problem
                else law_document(one.law, one.backtests)
                for name, one in self.results.items()
            },
            "differences": [one.document for one in self.differences],
            "assumptions": ASSUMPTIONS,
            "cautions": list(self.cautions),
            "excluded": [{"run": row.run, "reason": row.reason} for row in self.excluded],
        }


def group_runs(
    frame: pd.DataFrame,
    by: str | None,
    read: Callable[[Mapping[str, str]], RunTable],
    choice: FitChoice,
    name: str,
) -> Groups | None:
    """A law for each value of the column `by`; of `model` if that is None and the table holds several, else None.

    A column whose every value stands for one size along some axis of the form names sizes, not kinds, and is not taken
    unasked.

    Args:
        frame: the rows.
        read: the runs that hold a value, as `load_runs` reads them with that `only`.
        name: of the table, for messages.
    Raises:
        ConfigError: if there is no such column, or it holds one value or more than MOST_GROUPS.
    """
    column = by or next((str(one) for one in frame if str(one).lower() == MODEL), None)
    if column is None:
        return None
    kinds = kinds_of(frame, column, name)
    if by is None and not 1 < len(kinds) <= MOST_GROUPS:
        return None
    if not 1 < len(kinds) <= MOST_GROUPS:
        held = f"{len(kinds)} values" if len(kinds) != 1 else f"one value, {kinds[0]}"
        raise ConfigError(f"--by={by}: the column holds {held}; laws of 2 to {MOST_GROUPS} kinds can be compared")
    tables = {kind: read({column: kind}) for kind in kinds}
    axes = find_form(choice.form, choice.axis).axes
    if by is None and (
        column in tables[kinds[0]].columns.values() or not any(_spans(table, axes) for table in tables.values())
    ):
        return None
    without = frame[frame[column].isna()]
    runs = without["run_id"] if "run_id" in frame else [f"row {row + 1}" for row in without.index]
    excluded = [Excluded(str(run), f"{column} is missing") for run in runs]
    results = {kind: Results(table, choice, name=kind) for kind, table in tables.items()}
    return Groups(column, by is not None, results, tuple(excluded))


def _spans(table: RunTable, axes: tuple[str, ...]) -> bool:
    """Whether the runs have two sizes or more along every axis."""
    return all(len(distinct_sizes(table.axis(axis))) > 1 for axis in axes)


def _common(sizes: Mapping[str, Mapping[str, Any]]) -> dict[str, float] | None:
    found = {}
    for axis in next(iter(sizes.values()), {}):
        every = [own[axis][np.isfinite(own[axis])] for own in sizes.values()]
        found[axis] = float(min(one.max() for one in every))
        if found[axis] < max(one.min() for one in every):
            return None
    return found
