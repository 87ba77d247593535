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
# # A first law
#
# From a table of training runs to a law of the loss, and to an idea of how far to believe it.
#
# Set `TABLE` to your study's directory, or to any CSV, JSONL or Parquet file with a row a run. If it does not exist,
# the notebook makes up its runs from a stated law, so that you can see what comes back of it.
# Pictures are written to `figures/`.

# %%
from pathlib import Path

from analysis import backtest, fit, load_runs, plot
from analysis.example import SCATTER, SIZES_LAW, example_runs
from analysis.plots import save

TABLE = "studies/quickstart"
FIGURES = Path("figures")

# %% [markdown]
# ## Load
#
# What can be fitted is kept; every other row is listed with its reason. Where your columns have other names, say so:
# `load_runs("runs.csv", num_params="Model Size", data_size="Tokens", loss="loss")`.

# %%
if Path(TABLE).exists():
    runs = load_runs(TABLE)
    print(f"{len(runs)} runs of {TABLE}")
else:
    runs = load_runs(example_runs())
    print(f"{TABLE} does not exist; {len(runs)} made-up runs of E + A/N^alpha + B/D^beta with {SIZES_LAW}")
    print(f"and {SCATTER:.0%} scatter. Nothing was trained.")
for row in runs.excluded:
    print("excluded", row.run, row.reason)

# %% [markdown]
# ## Fit
#
# `E + A / N^alpha + B / D^beta`: a floor, a part that larger models lower, a part that more data lower. The fit
# minimises the sum of Huber's function over the residuals of log loss; the intervals come from refits to resampled
# runs. The exponents are what to compare between studies: A and B only say in which unit N and D are counted.

# %%
law = fit(runs, "chinchilla")
for estimate in law.params:
    low, high = estimate.ci95
    print(f"{estimate.name:6s} {estimate.value:10.4g}   95 % [{low:.4g}, {high:.4g}]")
print(f"residual standard deviation: {law.residual_sd:.1%}")

# %% [markdown]
# An interval speaks of these runs' noise alone. Whether an exponent is determined at all is said in words: too few
# sizes, an interval as wide as the value, a loss that hardly changes along the axis.

# %%
for verdict in law.verdicts:
    print(verdict.sentence)

# %% [markdown]
# What limits the law besides: runs of different kinds under one law, a form that does not fit, a few runs that carry an
# exponent. It is the list that `python -m analysis report` prints.

# %%
for caution in law.cautions:
    print("Caution.", caution)

# %% [markdown]
# ## Draw
#
# Dark bands: where the law may lie. Light bands: where 95 % of single further runs would fall. Points are runs.

# %%
save(plot(law, "loss_vs_params"), FIGURES / "first_law_params.png")

# %%
save(plot(law, "loss_vs_data"), FIGURES / "first_law_data.png")

# %% [markdown]
# ## Doubt
#
# Residuals with a pattern along an axis say that the form is only approximate; a run far beyond the dashed lines of
# the second picture carries an exponent almost alone.

# %%
save(plot(law, "residuals"), FIGURES / "first_law_residuals.png")

# %%
save(plot(law, "influence"), FIGURES / "first_law_influence.png")

# %% [markdown]
# ## Backtest
#
# The best test of an extrapolation is one that can be checked: leave out the largest runs, fit the others, predict.
# If the error is much above the scatter, or fewer runs than 95 % lie inside, trust predictions of still larger runs
# less than their bands say.

# %%
tests = backtest(law)
for test in tests:
    if test.rmse is None:
        print(f"without the largest {test.axis}: {test.problem}")
    else:
        print(f"without {test.axis} >= {test.size:g}: error {test.rmse:.1%}, inside the interval {test.coverage:.0%}")

# %%
if any(test.runs for test in tests):
    save(plot(law, "backtest"), FIGURES / "first_law_backtest.png")

# %% [markdown]
# ## Predict
#
# Ten times the largest model on ten times the data, with the interval of a single run. Beyond the runs the law is a
# belief; the backtest above is all the evidence for it.

# %%
sizes = {"N": 10 * runs.num_params.max(), "D": 10 * runs.data_size.max()}
low, high = law.band(of_runs=True, **sizes)[:, 0]
print(f"N = {sizes['N']:.3g}, D = {sizes['D']:.3g}: loss {law.predict(**sizes)[0]:.4g}, 95 % [{low:.4g}, {high:.4g}]")
