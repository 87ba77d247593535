"""What a study says, in sentences: the law, what the runs determine of it, the best run."""

from dataclasses import dataclass

from analysis.fitting import Law
from analysis.tables import RunTable
from analysis.texts import as_sentence, interval_text, size_text

LAW, COST, TRUST, TUNING = "The law", "What a loss costs", "How far to trust it", "Tuning"
DECISIONS, NEXT = "What compute is best spent on", "What to run next"
"""The headings that reports and figures share."""
BASELINE_NAME = "composition-only baseline"


@dataclass(frozen=True)
class Reference:
    """A loss to compare with, e.g. the composition-only baseline's."""

    text: str
    loss: float


def headline(law: Law) -> str:
    """The law in one sentence: exponents and floor with 95 % intervals (coefficients mean little without them)."""
    verdict = "" if law.optimum.converged else " The fit did NOT converge: do not use these numbers."
    kinds = {parameter.name: parameter.kind for parameter in law.form.parameters}
    named = [estimate for estimate in law.params if kinds[estimate.name] != "coefficient"]
    numbers = ", ".join(
        f"{estimate.name} = {interval_text(estimate.value, estimate.ci95)}"
        for estimate in sorted(named, key=lambda estimate: len(estimate.name), reverse=True)
    )
    brackets = " (95 % intervals in brackets)" if law.uncertainty.is_known else ""
    return f"L = {law.form.formula} with {numbers}{brackets}, fitted to {len(law.table)} runs.{verdict}"


def verdict_sentences(law: Law) -> list[str]:
    """One sentence an exponent, fit for a reader who will not look at the numbers."""
    return [as_sentence(verdict.sentence) for verdict in law.verdicts]


def find_baseline(table: RunTable) -> Reference | None:
    """The baseline's loss in the unit of the table's loss column: the median of `baseline_<loss>` over the runs."""
    column = f"baseline_{table.columns['loss']}"
    if column not in table.frame or table.frame[column].isna().all():
        return None
    return Reference(BASELINE_NAME, float(table.frame[column].median()))


def best_run_sentence(table: RunTable) -> str:
    """How far the best run is below knowing nothing but the composition."""
    best = int(table.loss.argmin())
    column = table.columns["loss"]
    sizes = ", ".join(f"{axis} = {size_text(table.axis(axis)[best])}" for axis in ("N", "D") if axis in table.columns)
    sentence = f"The best run, {table.run[best]} ({sizes}), reaches {column} {table.loss[best]:.3g}"
    own = table.frame.get(f"baseline_{column}")
    if own is None or not own.iloc[best] > 0:
        return f"{sentence}. The table holds no baseline to compare it with."
    ratio = own.iloc[best] / table.loss[best]
    return (
        f"{sentence}, a factor {ratio:.3g} below the {BASELINE_NAME}, {own.iloc[best]:.3g} "
        "(energies from the composition alone, fitted on the run's own training subset; zero forces)."
    )
