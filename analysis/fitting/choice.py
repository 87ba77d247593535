"""A choice of what to fit, made once and applied to any table."""

from dataclasses import dataclass, replace

from analysis.fitting.law import Law, fit
from analysis.fitting.objective import Objective
from analysis.fitting.resampling import DEFAULT_REPLICATES
from analysis.forms import Form
from analysis.tables import RunTable
from scaling.errors import DataError


@dataclass(frozen=True)
class FitChoice:
    """What the user chose to fit; see `analysis.fit`."""

    form: str = "chinchilla"
    axis: str | None = None
    objective: str = "huber"
    delta: float | None = None
    replicates: int = DEFAULT_REPLICATES
    seed: int = 0

    @classmethod
    def of(cls, law: Law) -> "FitChoice":
        """The choice that gave this law, its delta as it was settled."""
        replicates = len(law.samples.theta) if law.samples else 0
        return cls.of_parts(law.form, law.optimum.objective, replicates, law.seed)

    @classmethod
    def of_parts(cls, form: Form, objective: Objective, replicates: int, seed: int) -> "FitChoice":
        """The choice of this form and this very objective."""
        axis = form.axes[0] if len(form.axes) == 1 else None
        return cls(form.name, axis, objective.name, objective.own_delta, replicates, seed)

    def apply(self, table: RunTable, *, replicates: int | None = None) -> Law:
        """The chosen fit of the table, with at most this number of replicates (none where none were chosen)."""
        return fit(
            table,
            self.form,
            axis=self.axis,
            objective=self.objective,
            delta=self.delta,
            replicates=self.replicates if replicates is None else min(replicates, self.replicates),
            seed=self.seed,
        )

    def try_to_apply(self, table: RunTable, *, replicates: int | None = None) -> Law | str:
        """The same; a sentence in place of a law that the runs cannot determine."""
        try:
            return self.apply(table, replicates=replicates)
        except DataError as error:
            return str(error)


def refit(law: Law, table: RunTable, *, replicates: int | None = None) -> Law:
    """The law's form, objective and delta on other runs; with as many replicates as the law has, if None.

    Raises:
        DataError: if those runs cannot determine the form.
    """
    choice = FitChoice.of(law)
    return (choice if replicates is None else replace(choice, replicates=replicates)).apply(table)
