"""What can be computed of one table: each result once, when it is first asked for."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from analysis.arrays import FloatArray
from analysis.compute import Decisions, decide
from analysis.design import NextRuns, next_runs
from analysis.fitting import FitChoice, Law, dfbetas, find_cautions, leave_one_out, too_many_runs
from analysis.selection import Backtest, Comparison, backtest, compare
from analysis.study.findings import Reference, find_baseline
from analysis.study.learning_rate import LearningRates, find_learning_rates
from analysis.study.variants import Variant, fit_variants
from analysis.tables import MODEL, RunTable, distinct_sizes, same_size
from scaling.errors import ConfigError, DataError

SINGLE_AXIS_REPLICATES = 1000
FAMILY_REPLICATES = 400
SHAPE_FORM = "width_depth_data"
FEWEST_IN_LINE = 4
"""Runs at the largest size of the other axis, of which a power with a floor needs as many."""


@dataclass(frozen=True)
class SingleAxisFit:
    """Power and floor along one axis, the other held at its largest size; `problem` says why if there is no law."""

    axis: str
    other: str
    size: float
    num_runs: int
    law: Law | None
    problem: str | None


@dataclass(frozen=True)
class Results:
    """A table and a choice, and on demand all that follows from them.

    Attributes:
        given: the law, if it has been fitted already.
        beside: further tables by name, whose laws are drawn beside this one's.
        own_baseline: drawn in place of the table's own.
    """

    table: RunTable
    choice: FitChoice
    given: Law | None = None
    beside: dict[str, RunTable] = field(default_factory=dict)
    name: str = "this table"
    own_baseline: Reference | None = None

    @classmethod
    def of(cls, law: Law, *, baseline: Reference | None = None) -> "Results":
        """Those of a law that has been fitted already."""
        return cls(law.table, FitChoice.of(law), law, own_baseline=baseline)

    def from_file_name(self) -> "Results":
        """The same of a table that is called by its file's name alone, as on a page that others read."""
        name = Path(self.table.source).name
        return self if name == self.table.source else replace(self, table=replace(self.table, source=name))

    @cached_property
    def problem(self) -> str | None:
        """Why the chosen form cannot be fitted, None if it can."""
        try:
            self.law  # noqa: B018
        except DataError as error:
            return str(error)
        return None

    @cached_property
    def law(self) -> Law:
        """The chosen fit.

        Raises:
            DataError: if the runs cannot determine it.
        """
        return self.given or self.choice.apply(self.table)

    @cached_property
    def cautions(self) -> tuple[str, ...]:
        """What limits the reading of this table, with or without a law."""
        if not len(self.table):
            return ()
        return find_cautions(self.table) if self.problem else self.law.cautions

    @cached_property
    def backtests(self) -> Backtest:
        """The largest runs of each axis held out."""
        return backtest(self.law, every_origin=False)

    @cached_property
    def baseline(self) -> Reference | None:
        """The loss of knowing nothing but the composition, if the table holds it."""
        return self.own_baseline or find_baseline(self.table)

    @cached_property
    def shifts(self) -> dict[str, FloatArray]:
        """(M,) change of each parameter when a run is left out; empty where there are too many runs to try."""
        return {} if too_many_runs(self.table) else leave_one_out(self.law)

    @cached_property
    def influence(self) -> dict[str, FloatArray]:
        """(M,) change of each parameter in standard errors when a run is left out; empty as `shifts`."""
        return {} if too_many_runs(self.table) else dfbetas(self.law)

    @cached_property
    def learning_rates(self) -> LearningRates | None:
        """The best learning rate of each model size, None unless the table varies it."""
        return find_learning_rates(self.table)

    @cached_property
    def variants(self) -> tuple[Variant, ...]:
        """The law when N or D is counted in another way that the table has."""
        return fit_variants(self.law, self.choice.replicates)

    @cached_property
    def decisions(self) -> Decisions:
        """What compute is best spent on."""
        return decide(self.law)

    @cached_property
    def advice(self) -> NextRuns | str:
        """What to run next for the loss at ten times the largest sizes; a sentence if there is no advice."""
        try:
            return next_runs(self.law)
        except (ConfigError, DataError) as error:
            return str(error)

    @cached_property
    def comparison(self) -> Comparison | str:
        """Forms ranked by how well they predict larger runs from smaller ones; a sentence if there is none."""
        choice = self.choice
        try:
            return compare(
                self.table, axis=choice.axis, objective=choice.objective, delta=choice.delta, seed=choice.seed
            )
        except (ConfigError, DataError) as error:
            return str(error)

    @cached_property
    def shape_law(self) -> Law | str:
        """The law of width, depth and D, the chosen one or one fitted to the same runs; a sentence if there is none."""
        if self.choice.form == SHAPE_FORM or not {"width", "depth", "D"} <= set(self.table.sizes):
            return self.problem or self.law if self.choice.form == SHAPE_FORM else "it needs columns width and depth"
        known = np.all(
            [np.isfinite(sizes := self.table.axis(a)) & (sizes > 0) for a in ("width", "depth", "D")], axis=0
        )
        choice = replace(self.choice, form=SHAPE_FORM, axis=None)
        return choice.try_to_apply(self.table.keep(known), replicates=FAMILY_REPLICATES)

    @cached_property
    def families(self) -> dict[str, "Results"]:
        """Those of each model family of the table, or of this table and each one beside it; none where all are one."""
        parts = {self.name: self.table, **self.beside}
        if not self.beside:
            models = self.table.frame.get(MODEL)
            names = [] if models is None else sorted(set(map(str, models.dropna())))
            parts = {name: self.table.keep((models.astype(str) == name).to_numpy()) for name in names}
        choice = replace(self.choice, replicates=min(FAMILY_REPLICATES, self.choice.replicates))
        return {name: Results(part, choice, name=name) for name, part in parts.items()} if len(parts) > 1 else {}

    @cached_property
    def single_axis_fits(self) -> tuple[SingleAxisFit, ...]:
        """Power and floor in N at the largest D, and in D at the largest N, where FEWEST_IN_LINE runs or more lie."""
        found = []
        for axis, other in (("N", "D"), ("D", "N")):
            sizes = distinct_sizes(self.table.axis(other))
            if not len(sizes) or not len(distinct_sizes(self.table.axis(axis))):
                continue
            largest = self.table.keep(same_size(self.table.axis(other), sizes[-1]))
            if len(largest) < FEWEST_IN_LINE:
                continue
            choice = replace(self.choice, form="power_floor", axis=axis)
            law = choice.try_to_apply(largest, replicates=SINGLE_AXIS_REPLICATES)
            result = (None, law) if isinstance(law, str) else (law, None)
            found.append(SingleAxisFit(axis, other, float(sizes[-1]), len(largest), *result))
        return tuple(found)


def laws_of(results: Mapping[str, Results]) -> dict[str, Law]:
    """The law of each of several tables, where it could be fitted."""
    return {name: one.law for name, one in results.items() if not one.problem}


def problems_of(results: Mapping[str, Results]) -> dict[str, str]:
    """Why the others have none."""
    return {name: one.problem for name, one in results.items() if one.problem}
