"""What compute is best spent on, as data for other programs."""

from typing import Any

from analysis.compute import BestShape, Decisions, Derived, FlopsRule, Frontier, IsoFlop, Marginal, Saturation, unusable


def decisions_document(decisions: Decisions) -> dict[str, Any]:
    """The decisions as data; what follows from the law with its 95 % interval, what is unusable with its problems."""
    law = decisions.law
    return {
        "form": law.form.name,
        "formula": law.form.formula,
        "n": len(law.table),
        "cautions": list(law.cautions),
        "frontier": _frontier_document(decisions.frontier) if decisions.frontier else None,
        "isoflop": _isoflop_document(decisions.isoflop) if decisions.isoflop else None,
        "shapes": [_shape_document(shape) for shape in decisions.shapes],
        "shape_not_told": decisions.open_question,
        "saturation": [_saturation_document(found) for found in decisions.saturations],
        "marginal": [_marginal_document(found) for found in decisions.marginals],
    }


def _number(found: Derived | None) -> dict[str, Any] | None:
    if found is None:
        return None
    return {"value": found.value.tolist(), "ci95": None if found.ci95 is None else found.ci95.tolist()}


def _cost_document(cost: FlopsRule) -> dict[str, Any]:
    return {
        "statement": cost.statement,
        "flops_per_nd": cost.flops_per_nd,
        "flops_per_param_sample": cost.flops_per_param_sample,
        "epochs": cost.epochs,
        "spread_90": cost.spread,
        "powers_of_n_and_d": cost.powers,
        "cautions": list(cost.cautions),
    }


def _frontier_document(found: Frontier) -> dict[str, Any]:
    return {
        "cost": _cost_document(found.cost),
        "usable": not found.problems,
        "problems": list(found.problems),
        "cautions": list(found.cautions),
        "budgets": found.budgets.tolist(),
        "num_params": _number(found.num_params),
        "data_size": _number(found.data_size),
        "data_per_param": _number(found.ratio),
        "loss": _number(found.loss),
        "gain_of_twice_the_compute": _number(found.gain),
        "exponent_n": _number(found.exponent_n),
        "exponent_d": _number(found.exponent_d),
        "exponent_n_at_measured_powers": _number(found.exponent_own),
        "beyond_sampled": {axis: factor.tolist() for axis, factor in found.beyond.items()},
    }


def _isoflop_document(found: IsoFlop) -> dict[str, Any]:
    return {
        "budgets": [
            {
                "budget": parabola.budget,
                "runs": [found.law.table.run[row] for row in parabola.rows],
                "num_params": _number(parabola.num_params),
                "loss": parabola.loss,
            }
            for parabola in found.parabolas
        ],
        "left_out": [vars(left) for left in found.left_out],
        "exponent_n": _number(found.exponent),
        "surface_usable": not unusable(found.law),
        "exponent_n_on_noiseless_surface": _number(found.on_surface),
        "exponent_n_of_surface": _number(found.surface),
        "bias_of_exponent": _number(found.bias),
        "bias_factor_of_num_params_at_largest_budget": _number(found.size_bias),
    }


def _shape_document(found: BestShape) -> dict[str, Any]:
    return {
        "of": found.of,
        "budgets": found.budgets.tolist(),
        "usable": not found.problems,
        "problems": list(found.problems),
        "params_per_depth_width2": found.rule.params_per_unit,
        "params_per_depth_width2_spread_90": found.rule.spread,
        "powers_of_width_and_depth": found.rule.powers,
        "cost": _cost_document(found.cost) if found.cost else None,
        "width": _number(found.width),
        "depth": _number(found.depth),
        "depth_per_width": _number(found.aspect),
        "data_size": _number(found.data_size),
        "loss": _number(found.loss),
        "beyond_sampled": {axis: factor.tolist() for axis, factor in found.beyond.items()},
    }


def _saturation_document(found: Saturation) -> dict[str, Any]:
    return {
        "axis": found.axis,
        "share": found.share,
        "given_axis": found.other,
        "given": found.given.tolist() if found.other else None,
        "size": _number(found.size),
        "beyond_sampled": found.beyond.tolist(),
        "problems": list(found.problems),
    }


def _marginal_document(found: Marginal) -> dict[str, Any]:
    return {
        "axis": found.axis,
        "at": found.at,
        "elasticity": _number(found.elasticity),
        "left_to_gain": _number(found.left),
        "device_hours_exponent": found.hours_exponent,
        "per_cent_per_cent_of_device_hours": _number(found.per_hours),
        "log_loss_per_device_hour": _number(found.per_hour),
        "problems": list(found.problems),
    }
