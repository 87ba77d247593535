"""How far IsoFLOP parabolas mislead without any noise, and the surface fit on the same runs.

Runs of a known law L = E + A / N^alpha + B / D^beta at five budgets of C = 6 N D. Each budget's N are spread over a
factor `width` to both sides of a centre that lies on the optimum for `drift` 0, and moves off it as C^drift otherwise.
Errors are those of the exponent a of N* ~ C^a, and of N* at the largest budget (as a factor). Source of the question:
arXiv:2603.22339.
"""

from typing import Any

import numpy as np
import pandas as pd

from analysis.compute.optimal import frontier
from analysis.compute.parabolas import isoflop
from analysis.fitting.law import fit
from analysis.tables import load_runs
from experiments.bench.table import options, publish

LAWS = {
    "alpha = beta": {"E": 1.7, "A": 400.0, "alpha": 0.3, "B": 400.0, "beta": 0.3},
    "Hoffmann 2022": {"E": 1.69, "A": 406.4, "alpha": 0.34, "B": 410.7, "beta": 0.28},
    "alpha = 2 beta": {"E": 1.7, "A": 4000.0, "alpha": 0.5, "B": 200.0, "beta": 0.25},
}
BUDGETS = np.geomspace(1e18, 1e21, 5)
SIZES = 9


def study(law: dict[str, float], width: float, drift: float) -> pd.DataFrame:
    """Noiseless IsoFLOP runs."""
    rows = []
    for budget in BUDGETS:
        factors = np.geomspace(1 / width, width, SIZES) * (budget / BUDGETS[len(BUDGETS) // 2]) ** drift
        n = optimum(law, budget) * factors
        d = budget / (6 * n)
        loss = law["E"] + law["A"] * n ** -law["alpha"] + law["B"] * d ** -law["beta"]
        rows.append(pd.DataFrame({"num_params": n, "train_structures": d, "train_flops": budget, "test_loss": loss}))
    return pd.concat(rows)


def optimum(law: dict[str, float], budget: float) -> float:
    """N* at C = 6 N D. Source: Hoffmann et al. 2022, arXiv:2203.15556, eq. 4."""
    total = law["alpha"] + law["beta"]
    scale = (law["alpha"] * law["A"] / (law["beta"] * law["B"])) ** (1 / total)
    return float(scale * (budget / 6) ** (law["beta"] / total))


def measure(name: str, width: float, drift: float) -> dict[str, Any]:
    """One grid of runs, both ways."""
    truth = LAWS[name]
    law = fit(load_runs(study(truth, width, drift)), replicates=0)
    parabolas, surface = isoflop(law), frontier(law, BUDGETS[-1:])
    a = truth["beta"] / (truth["alpha"] + truth["beta"])
    row: dict[str, Any] = {"law": name, "width": width, "drift": drift, "a": a, "budgets": len(parabolas.parabolas)}
    if parabolas.exponent is not None and parabolas.bias is not None:
        largest = parabolas.parabolas[-1]
        row |= {
            "error_of_a_parabolas": float(parabolas.exponent.value) - a,
            "bias_stated": float(parabolas.bias.value),
            "factor_of_n_parabolas": float(largest.num_params.value) / optimum(truth, largest.budget),
        }
    row |= {
        "error_of_a_surface": float(surface.exponent_n.value) - a,
        "factor_of_n_surface": float(surface.num_params.value[0]) / optimum(truth, float(BUDGETS[-1])),
    }
    return {key: round(value, 6) if isinstance(value, float) else value for key, value in row.items()}


def main() -> None:
    parser = options(__doc__)
    chosen = parser.parse_args()
    grids = [(4.0, 0.3)] if chosen.quick else [(w, d) for w in (1.5, 4.0, 16.0) for d in (0.0, 0.15, 0.3)]
    rows = [measure(name, *grid) for name in LAWS for grid in grids]
    publish({"IsoFLOP parabolas and the surface fit on noiseless runs": rows}, chosen.json)


if __name__ == "__main__":
    main()
