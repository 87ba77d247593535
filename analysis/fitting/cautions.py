"""Everything that limits the reading of a law: one list, from the law and its table, for every command and page."""

from collections.abc import Iterator

from analysis.fitting.influence import levers, too_many_runs
from analysis.fitting.law import Law
from analysis.tables import MIXED_COLUMNS, RunTable, listed, mixed_kinds, searched_sizes, varied_settings
from analysis.texts import as_sentence

LEVER_RUNS, STRONG_LEVER = 5, 2.0
"""LEVER_RUNS runs that move an exponent by more than STRONG_LEVER of its standard errors are named."""
BASE_RATE = "optim.lr"
MOST_APART = 7
"""Values of a column that `--by` fits apart."""


def find_cautions(table: RunTable, law: Law | None = None) -> tuple[str, ...]:
    """What a reader must know before using a law of these runs: a sentence each, the gravest first.

    Args:
        table: the runs that are, or were to be, fitted.
        law: of the table; None where the runs cannot determine one, or none was asked for.
    """
    of_law = () if law is None else (*flaws_of_fit(law), *_of_the_runs_weight(law))
    of_table = (*_of_kinds(table), *_of_tuning(table), *_of_settings(table, law), *_of_training(table, law))
    return (*of_law, *of_table)


def flaws_of_fit(law: Law) -> Iterator[str]:
    """Why the law should not be used as it is, whatever its runs."""
    if not law.optimum.converged:
        yield "The fit did NOT converge: do not use its numbers."
    if law.lack_of_fit.significant:
        yield as_sentence(law.lack_of_fit.sentence)
    if law.optimum.at_bound:
        names = ", ".join(law.optimum.at_bound)
        yield f"At the edge of its range: {names}. The form asks for more than the data can give."
    if law.samples is not None and law.samples.failed:
        yield (
            f"{law.samples.failed} of {len(law.samples.theta)} bootstrap refits ended above what another refit's "
            "parameters give for the same runs."
        )


def _of_the_runs_weight(law: Law) -> Iterator[str]:
    if too_many_runs(law.table):
        return
    exponents = [parameter.name for parameter in law.form.parameters if parameter.kind == "exponent"]
    for found in levers(law, exponents, LEVER_RUNS):
        if abs(found.standard_errors) > STRONG_LEVER:
            yield f"Few runs carry an exponent: {found.sentence}."


def _of_training(table: RunTable, law: Law | None) -> Iterator[str]:
    """How the length of training enters the law."""
    frame = table.frame
    if "steps" not in frame or len(frame) < 2:
        return
    floor = next((p.name for p in law.form.parameters if p.kind == "floor"), None) if law else None
    if frame["steps"].nunique() == 1 and floor:
        yield (
            f"All runs were trained for the same {frame['steps'].iloc[0]:,.0f} steps, so {floor} is a floor of the "
            "training budget as well as of data and model: longer training would lower it."
        )
    elif "epochs" in frame and frame["epochs"].nunique() == 1 and frame["steps"].nunique() > 1:
        yield (
            "All runs were trained for the same number of epochs, so a run on less data also made fewer steps: "
            "the slope in D is one of training length as well as of data."
        )


def _of_kinds(table: RunTable) -> Iterator[str]:
    """Runs of different kinds under one law."""
    for column, kinds in mixed_kinds(table).items():
        what = MIXED_COLUMNS[column.lower()]
        yield (
            f"One law was fitted across different {what} ({listed(kinds)}); fit them apart to compare them "
            f"(--by {column} of fit and report, --only {column}={kinds[0]} of any command)."
        )


def _of_settings(table: RunTable, law: Law | None) -> Iterator[str]:
    """Configuration keys that were swept and that no axis of the law knows."""
    searched = bool(searched_sizes(table)[1])
    for column, values in varied_settings(table, law.form.axes if law else ("N", "D")).items():
        if searched and column == BASE_RATE:
            continue  # `_of_tuning` says so
        apart = f"--by {column} of fit and report fits a law for each; " if len(values) <= MOST_APART else ""
        yield (
            f"One law was fitted across different values of {column} ({listed(values)}), which the law does not know: "
            "what they do to the loss is taken for an effect of size, or for scatter. "
            f"{apart}--only {column}={values[0]} of any command keeps the runs of one."
        )


def _of_tuning(table: RunTable) -> Iterator[str]:
    if searched_sizes(table)[1]:
        yield (
            "Sizes were run with several learning rates, and all of those runs were fitted: the law is that of the "
            "mean tuning, not of the best. Keep each size's best run for the law of well-tuned models."
        )
