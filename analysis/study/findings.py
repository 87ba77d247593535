"""What a study says, in sentences: the law, what is sure of it, and what a reader must know before using it."""

from dataclasses import dataclass

from analysis.fitting.influence import lever, too_many_runs
from analysis.fitting.law import Estimate, Law
from analysis.plots.style import size_text
from analysis.study.learning_rate import find_learning_rates
from analysis.tables import RunTable, mixtures

LEVER_RUNS, STRONG_LEVER = 5, 2.0
"""So many runs left out may not move an exponent by more than so many of its standard errors without being named."""
BASELINE_NAME = "composition-only baseline"


@dataclass(frozen=True)
class Reference:
    """A loss to compare with, e.g. the composition-only baseline's."""

    text: str
    loss: float


def interval_text(estimate: Estimate) -> str:
    """`alpha = 1.10 [1.01, 1.48]`, digits by the size of the interval."""
    if estimate.ci95 is None:
        return f"{estimate.name} = {estimate.value:.3g}"
    low, high = estimate.ci95
    return f"{estimate.name} = {estimate.value:.3g} [{low:.3g}, {high:.3g}]"


def headline(law: Law) -> str:
    """The law in one sentence: exponents and floor with 95 % intervals (coefficients mean little without them)."""
    verdict = "" if law.optimum.converged else " The fit did NOT converge: do not use these numbers."
    coefficients = [parameter.name for parameter in law.form.parameters if parameter.kind == "coefficient"]
    told = [estimate for estimate in law.params if estimate.name not in coefficients]
    numbers = ", ".join(interval_text(estimate) for estimate in sorted(told, key=lambda e: len(e.name), reverse=True))
    brackets = " (95 % intervals in brackets)" if law.uncertainty.is_known else ""
    return f"L = {law.form.formula} with {numbers}{brackets}, fitted to {len(law.table)} runs.{verdict}"


def verdict_sentences(law: Law) -> list[str]:
    """One sentence an exponent, fit for a reader who will not look at the numbers."""
    sentences = [verdict.sentence for verdict in law.verdicts]
    return [sentence[0].upper() + sentence[1:] + "." for sentence in sentences]


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


def cautions(table: RunTable, law: Law | None) -> list[str]:
    """What limits the reading of this study."""
    found = []
    frame = table.frame
    floor = next((p.name for p in law.form.parameters if p.kind == "floor"), None) if law else None
    if "steps" in frame and len(frame) > 1:
        if frame["steps"].nunique() == 1 and floor:
            found.append(
                f"All runs were trained for the same {frame['steps'].iloc[0]:,.0f} steps, so {floor} is a floor of the "
                "training budget as well as of data and model: longer training would lower it."
            )
        elif "epochs" in frame and frame["epochs"].nunique() == 1:
            found.append(
                "All runs were trained for the same number of epochs, so a run on less data also made fewer steps: "
                "the slope in D is one of training length as well as of data."
            )
    found += mixtures(table) if law is None else law.cautions
    if find_learning_rates(table) is not None:
        found.append(
            "Sizes were run with several learning rates, and all of those runs were fitted: the law is that of the "
            "mean tuning, not of the best. Keep each size's best run for the law of well-tuned models."
        )
    if law is not None and not too_many_runs(table):
        levers = [lever(law, p.name, LEVER_RUNS) for p in law.form.parameters if p.kind == "exponent"]
        strong = [one for one in levers if abs(one.standard_errors) > STRONG_LEVER]
        found += [f"Few runs carry an exponent: {one.sentence}." for one in strong]
    if law is not None and law.optimum.at_bound:
        names = ", ".join(law.optimum.at_bound)
        found.append(f"At the edge of its range: {names}. The form asks for more than the data can give.")
    if law is not None and law.samples is not None and law.samples.failed:
        found.append(
            f"{law.samples.failed} of {len(law.samples.theta)} bootstrap refits ended above what another refit's "
            "parameters give for the same runs."
        )
    return found
