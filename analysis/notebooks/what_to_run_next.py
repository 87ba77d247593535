# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#       format_version: "1.3"
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---


# %% [markdown]
# # What to run next
#
# Given a law and a budget: which runs would narrow the prediction most? The largest model one can pay is rarely the
# answer; which runs are depends on what is to be predicted.
#
# Set `TABLE` to your study's directory, or to any CSV, JSONL or Parquet file with a row a run. If it does not exist,
# the notebook makes up its runs from a stated law, and can then check the advice against the truth.
# Pictures are written to `figures/`.

# %%
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from analysis import fit, load_runs, plot
from analysis.design import next_runs
from analysis.example import SCATTER, SIZES_LAW, example_runs
from analysis.plots import FAMILIES, INK, MARKERS, house_style, save

TABLE = "studies/quickstart"
FIGURES = Path("figures")
COUNT = 5

# %% [markdown]
# ## Where we are
#
# The made-up runs here are the smaller half of a grid, as a study looks before its expensive runs.

# %%
made_up = not Path(TABLE).exists()
if made_up:
    frame = example_runs()
    frame = frame[(frame["width"] <= 32) & (frame["train_structures"] <= 16_000)]
    runs = load_runs(frame)
    print(f"{TABLE} does not exist; {len(runs)} made-up runs of E + A/N^alpha + B/D^beta with {SIZES_LAW}")
    print(f"and {SCATTER:.0%} scatter. Nothing was trained.")
else:
    runs = load_runs(TABLE)
law = fit(runs, "chinchilla")
for verdict in law.verdicts:
    print(verdict.sentence)

# %%
save(plot(law, "surface"), FIGURES / "next_runs_now.png")

# %% [markdown]
# ## What is wanted
#
# Here: the loss of a model ten times larger on ten times the data. `next_runs` takes the money (device-hours where the
# table has them) and returns the runs, in the order in which to make them, with the expected width of the interval
# after each. It assumes that the form holds: keep some money for a run that could prove it wrong.

# %%
sizes = {"N": 10 * float(runs.num_params.max()), "D": 10 * float(runs.data_size.max())}
advice = next_runs(law, target="loss", count=COUNT, **sizes)
print(f"at most {COUNT} runs for {advice.budget:.3g} {advice.cost.unit}")
print(f"now the 95 % interval of the log loss at N = {sizes['N']:.3g}, D = {sizes['D']:.3g} is {advice.width:.3f} wide")
for run in advice.recommended.runs:
    where = ", ".join(f"{axis} = {size:.4g}" for axis, size in run.sizes.items())
    print(f"{run.words or where}: {run.cost:.3g} {advice.cost.unit}; then {run.width:.3f}")
for warning in advice.warnings:
    print("Caution.", warning)

# %% [markdown]
# ## What else the same money would bring

# %%
plans = (advice.recommended, *advice.alternatives)
with house_style():
    figure = Figure(figsize=(6.2, 4.0))
    axes = figure.add_subplot()
    for plan, color, marker in zip(plans, FAMILIES, MARKERS, strict=False):
        spent = np.cumsum([0.0, *[run.cost for run in plan.runs]])
        widths = [advice.width, *[run.width for run in plan.runs]]
        axes.plot(spent, widths, f"{marker}-", color=color, ms=6, label=plan.name)
    axes.axhline(advice.width, color=INK, lw=1, ls=":")
    axes.set_ylim(bottom=0)
    axes.set_xlabel(f"spent ({advice.cost.unit})")
    axes.set_ylabel("expected width of the interval (log loss)")
    figure.legend(loc="outside lower center", ncols=2)
save(figure, FIGURES / "next_runs_plans.png")

# %% [markdown]
# ## Did it help?
#
# On made-up runs the advice can be followed: draw the new losses from the stated law, fit again, look at the interval
# and at the truth. On a study, make the runs.


# %%
def followed(plan):
    """The made-up table with the plan's runs added, their losses drawn from the stated law."""
    new = pd.DataFrame([dict(run.sizes) for run in plan.runs]).rename(
        columns={"N": "num_params", "D": "train_structures"}
    )
    p = SIZES_LAW
    true = p["E"] + p["A"] * new["num_params"] ** -p["alpha"] + p["B"] * new["train_structures"] ** -p["beta"]
    new["test_loss"] = true * np.exp(SCATTER * np.random.default_rng(1).normal(size=len(new)))
    new["run_id"] = [f"new {i + 1}" for i in range(len(new))]
    new["status"] = "done"
    return pd.concat([runs.frame, new], ignore_index=True)


if made_up:
    p = SIZES_LAW
    truth = p["E"] + p["A"] * sizes["N"] ** -p["alpha"] + p["B"] * sizes["D"] ** -p["beta"]
    print(f"truth {truth:.4g}")
    low, high = law.band(**sizes)[:, 0]
    print(f"{'now':24s} {law.predict(**sizes)[0]:.4g} [{low:.4g}, {high:.4g}]")
    for plan in plans:
        after = fit(load_runs(followed(plan)), "chinchilla")
        low, high = after.band(**sizes)[:, 0]
        print(f"{plan.name:24s} {after.predict(**sizes)[0]:.4g} [{low:.4g}, {high:.4g}]")
