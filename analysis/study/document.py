"""fit.json: a law as data, for other programs."""

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from analysis.fitting import LITERATURE_DELTA, SMALL_TABLE, Law, find_cautions
from analysis.selection import HeldOut
from analysis.tables import RunTable
from scaling.runs.files import write_atomic


def law_document(law: Law, backtests: Sequence[HeldOut] = ()) -> dict[str, Any]:
    """The contents of fit.json: numbers, and the conventions without which they mean nothing."""
    optimum = law.optimum
    return {
        "form": law.form.name,
        "formula": law.form.formula,
        "params": {
            estimate.name: {
                "value": estimate.value,
                "se": estimate.se,
                "ci95": list(estimate.ci95) if estimate.ci95 else None,
            }
            for estimate in law.params
        },
        "objective": optimum.value,
        "objective_name": optimum.objective.name,
        "delta": optimum.objective.own_delta,
        "n": len(law.table),
        "converged": optimum.converged,
        "starts": optimum.starts,
        "starts_agreeing": optimum.starts_agreeing,
        "relative_gradient": optimum.gradient,
        "excluded": [{"run": row.run, "reason": row.reason} for row in law.table.excluded],
        "at_bound": list(optimum.at_bound),
        "condition_number": optimum.condition_number,
        "identified": {
            verdict.exponent: {"identified": verdict.identified, "reasons": list(verdict.reasons)}
            for verdict in law.verdicts
        },
        "lack_of_fit": {"p_value": law.lack_of_fit.p_value, "sentence": law.lack_of_fit.sentence},
        "residual_scatter": law.residual_sd,
        "cautions": list(law.cautions),
        "interval_method": law.uncertainty.method if law.uncertainty.is_known else None,
        "bootstrap": None
        if law.samples is None
        else {
            "replicates": len(law.samples.theta),
            "unit": law.samples.unit,
            "seed": law.seed,
            "replicates_not_converged": law.samples.failed,
        },
        "backtest": [_backtest_document(test) for test in backtests],
        "conventions": conventions(law),
    }


def document_without_law(table: RunTable, form: str, problem: str | None) -> dict[str, Any]:
    """The contents of fit.json where the runs cannot determine the form."""
    return {
        "form": form,
        "params": {},
        "n": len(table),
        "converged": False,
        "problem": problem,
        "cautions": list(find_cautions(table)) if len(table) else [],
        "excluded": [{"run": row.run, "reason": row.reason} for row in table.excluded],
    }


def conventions(law: Law) -> dict[str, str]:
    """What N, D and the loss are, what was minimised, and how the intervals were made; each in one sentence."""
    columns, objective, samples = law.table.columns, law.optimum.objective, law.samples
    stated = {axis: f"{axis} is {_meaning(columns[axis])}." for axis in law.form.axes}
    stated["loss"] = f"Column {columns['loss']}."
    stated["form"] = f"{law.form.formula}. {law.form.source}."
    what = {
        "huber": f"Huber's function with delta {objective.delta:.3g}",
        "lad": "the absolute value",
        "least_squares": "half the square",
    }[objective.name]
    stated["objective"] = f"The sum (not the mean) over runs of {what} of the residual of log loss."
    if objective.name == "huber":
        stated["delta"] = (
            f"{LITERATURE_DELTA:g} by the literature's custom for {SMALL_TABLE} runs or more; for fewer, unless given, "
            "1.345 robust standard deviations of the residuals."
        )
    stated["condition_number"] = "Of J^T J in centred logarithms, the columns of J scaled to unit length."
    if law.uncertainty.is_known:
        stated["intervals"] = interval_sentence(law)
    if samples is not None:
        stated["intervals"] += f" The standard errors are those of {len(samples.theta)} refits."
    return stated


def interval_sentence(law: Law) -> str:
    """How the intervals were made, and what they speak of."""
    known = law.uncertainty
    how = {
        "profile": "95 % profile likelihood intervals, by the F distribution with 1 and "
        f"{known.noise.freedom:.3g} degrees of freedom for {known.num_units} {known.unit}s; "
        "null is an end that the runs do not bound.",
        "bootstrap": f"95 % percentile intervals of the bootstrap over {known.num_units} {known.unit}s.",
    }[known.method]
    return f"{how} They speak of these runs' noise, not of another architecture, schedule or tuning."


def write_document(document: dict[str, Any], path: Path) -> None:
    """Write strict JSON; a number that is not finite becomes null."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, json.dumps(strict(document), indent=2, allow_nan=False) + "\n")


def strict(value: Any) -> Any:
    """`value` with every number that JSON cannot hold replaced by None."""
    if isinstance(value, dict):
        return {key: strict(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [strict(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def _meaning(column: str) -> str:
    known = {
        "num_params": "the number of all trainable parameters: embedding, backbone and head (column num_params)",
        "num_params_embedding": "the parameters of the embedding alone (column num_params_embedding)",
        "num_params_trunk": "the parameters of the backbone, without embedding and head (column num_params_trunk)",
        "num_params_head": "the parameters of the head alone (column num_params_head)",
        "train_structures": "the number of different training structures (column train_structures)",
        "train_atoms": "the number of atoms in the training structures (column train_atoms)",
        "train_edges": "the number of edges in the training structures (column train_edges)",
        "samples_seen": "the number of structures seen in training, repeats counted (column samples_seen)",
    }
    return known.get(column, f"column {column}")


def _backtest_document(test: HeldOut) -> dict[str, Any]:
    return {
        "held_out_axis": test.axis,
        "held_out_size": test.size,
        "rmse_log_loss": test.rmse,
        "rmse_log_loss_fitted": test.rmse_fitted,
        "coverage_95": test.coverage,
        "n_fitted": len(test.law.table) if test.law else None,
        "n_held_out": len(test.runs),
        "problem": test.problem,
        "runs": [
            {
                "run": run.run,
                "num_params": run.num_params,
                "data_size": run.data_size,
                "observed": run.observed,
                "predicted": run.predicted,
                "ci95": list(run.ci95),
                "inside": run.inside,
            }
            for run in test.runs
        ],
    }
