"""The 92 learning curves of Alabdulmohsin et al. 2022, extrapolated by the form that a backtest chooses.

    python -m experiments.bench.curves [FOLDER] --json FILE

FOLDER holds benchmark.vision.csv and benchmark.lang.csv (https://github.com/google-research/google-research,
folder revisiting_neural_scaling_laws/data) and measured_rmse_92tasks.csv, the errors of M1-M4 and BNSL on the same
curves. A curve's form is chosen by `analysis.compare` among its fit points (Training = 1) alone, fitted to
them, and scored by the root mean square error of log loss on the others (Training = 0; sizes beyond half of the
largest). Rows that repeat a size of a curve are dropped. Means are over curves.

--inside never looks at rows with Training = 0: the fit points beyond half of their largest size are held out instead.
"""

import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from tqdm import tqdm

from analysis.fitting.law import fit
from analysis.forms.registry import find_form
from analysis.selection.comparison import compare
from analysis.selection.trials import within_window
from analysis.tables import RunTable, load_runs
from experiments.bench.table import options, publish
from scaling.errors import ConfigError, DataError

FOLDER = Path("../shared/data/fits/alabdulmohsin_benchmark")
FILES = ("benchmark.vision.csv", "benchmark.lang.csv", "measured_rmse_92tasks.csv")
CURVE = ["Domain", "Task", "Model"]
SINGLE = ("power", "power_floor", "m3", "m4", "bnsl1", "bnsl2")
LAST_DECADE = ("power_floor", "m3")
MEASURED = {"M1": "M1", "M2": "M2", "M2log": "M2log", "M3": "M3", "M4": "M4_e0free", "BNSL": "BNSL1"}
DOMAINS = ("IC", "NMT", "LM", "BB")


def main() -> int:
    """Choose, fit and score every curve; print the means."""
    parser = options(__doc__)
    parser.add_argument("folder", nargs="?", type=Path, default=FOLDER, help=f"the data (default {FOLDER})")
    parser.add_argument("--inside", action="store_true", help="hold out the largest fit points instead")
    chosen = parser.parse_args()
    if missing := [name for name in FILES if not (chosen.folder / name).exists()]:
        print(
            f"error: {chosen.folder} has no {', '.join(missing)}; get the benchmark files from "
            "https://github.com/google-research/google-research, folder revisiting_neural_scaling_laws/data, and name "
            "the folder",
            file=sys.stderr,
        )
        return ConfigError.exit_code
    rows = [
        _score(name, known, held_out)
        for name, known, held_out in tqdm(_curves(chosen.folder, inside=chosen.inside, quick=chosen.quick), leave=False)
    ]
    scores = pd.DataFrame(rows)
    tables: dict[str, list[dict[str, Any]]] = {}
    if not chosen.inside:
        measured = pd.read_csv(chosen.folder / FILES[2]).rename(columns={old: new for new, old in MEASURED.items()})
        keys = ["domain", "task", "model"]
        scores = scores.merge(measured[[*keys, *MEASURED]], on=keys, how="left", validate="one_to_one")
        tables["Means over curves, beside M1 to M4 as measured"] = _means(scores, ["chosen", *list(MEASURED)[:-1]])
        tables["The curves for which BNSL was measured"] = _means(
            scores[scores["BNSL"].notna()], ["chosen", "M3", "M4", "BNSL"]
        )
    own = [*SINGLE, *[f"{form}_last_decade" for form in LAST_DECADE]]
    tables["One form for all curves (errors of log loss; over the curves on which it can be fitted)"] = [
        _against(scores, name) for name in own
    ]
    tables["Chosen"] = [
        {"form": form, "curves": int(count)} for form, count in scores["form"].value_counts().items()
    ] + [{"form": "no power law said", "curves": int(scores["no_law"].sum())}]
    publish(tables, chosen.json)
    return 0


def _curves(folder: Path, *, inside: bool, quick: bool) -> list[tuple[dict[str, str], pd.DataFrame, pd.DataFrame]]:
    frame = pd.concat([pd.read_csv(folder / name) for name in FILES[:2]]).drop_duplicates([*CURVE, "Seen Examples"])
    found = []
    for key, curve in frame.groupby(CURVE, sort=False):
        name = dict(zip(("domain", "task", "model"), map(str, key), strict=True))
        known = curve[curve["Training"] == 1]
        held_out = curve[curve["Training"] == 0]
        if inside:
            beyond = known["Seen Examples"] > known["Seen Examples"].max() / 2
            known, held_out = known[~beyond], known[beyond]
        found.append((name, known, held_out))
    return found[::31] if quick else found


def _score(name: dict[str, str], known: pd.DataFrame, held_out: pd.DataFrame) -> dict[str, Any]:
    table = load_runs(known.reset_index(drop=True), data_size="Seen Examples", loss="Loss", axes=("D",))
    sizes, observed = held_out["Seen Examples"].to_numpy(float), held_out["Loss"].to_numpy(float)
    row: dict[str, Any] = {**name, "fitted": len(table), "held_out": len(sizes)}
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        try:
            comparison = compare(table, replicates=0)
            best = comparison.best
            form = best.form.name + (" on the last decade" if best.window else "")
            law = comparison.fit(replicates=0)
        except DataError:  # too few runs to hold any out: what is left is the form a fit starts with
            comparison, form, law = None, "power_floor, no backtest", fit(table, "power_floor", axis="D", replicates=0)
        row |= {"form": form, "no_law": bool(comparison and comparison.against)}
        row["chosen"] = _rmse(law.predict(D=sizes), observed)
        for single in SINGLE:
            row[single] = _single(table, single, sizes, observed, None)
        for single in LAST_DECADE:
            row[f"{single}_last_decade"] = _single(table, single, sizes, observed, 10.0)
    return row


def _single(table: RunTable, name: str, sizes: np.ndarray, observed: np.ndarray, window: float | None) -> float:
    mask = within_window(table, find_form(name, "D"), np.ones(len(table), dtype=bool), window)
    try:
        return _rmse(fit(table.keep(mask), name, axis="D", replicates=0).predict(D=sizes), observed)
    except DataError:
        return float("nan")


def _rmse(predicted: np.ndarray, observed: np.ndarray) -> float:
    return float(np.sqrt(np.mean(np.log(predicted / observed) ** 2)))


def _means(scores: pd.DataFrame, columns: list[str]) -> list[dict[str, Any]]:
    parts = [(domain, scores[scores["domain"] == domain]) for domain in DOMAINS] + [("all", scores)]
    return [
        {"domain": domain, "curves": len(part), **{column: float(part[column].mean()) for column in columns}}
        for domain, part in parts
        if len(part)
    ]


def _against(scores: pd.DataFrame, name: str) -> dict[str, Any]:
    """Means of one form, and the mean difference of the chosen one from it with its standard error over curves."""
    part = scores[scores[name].notna()]
    difference = part["chosen"] - part[name]
    by_domain = part.groupby("domain")[name].mean()
    return {
        "form": name,
        "curves": len(part),
        **{domain: float(by_domain[domain]) if domain in by_domain else None for domain in DOMAINS},
        "all": float(part[name].mean()),
        "chosen": float(part["chosen"].mean()),
        "chosen_less_form": float(difference.mean()),
        "se": float(difference.std(ddof=1) / np.sqrt(len(part))) if len(part) > 1 else None,
    }


if __name__ == "__main__":
    sys.exit(main())
