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
# # Width against depth
#
# Does a model's shape matter, or only how many parameters it has? Two laws of the same runs answer: one in N and D,
# which knows no shape, and one in width, depth and D, which knows nothing else.
#
# Set `TABLE` to a table with columns `width` and `depth`. If it does not exist, the notebook makes up its runs from a
# stated law in which width and depth matter each in their own way. Pictures are written to `figures/`.

# %%
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from analysis import fit, load_runs, plot
from analysis.example import SCATTER, SHAPE_LAW, example_runs
from analysis.plots import MUTED, house_style, log_axis, save, shades, widened
from analysis.texts import size_text

TABLE = "studies/quickstart"
FIGURES = Path("figures")

# %%
if Path(TABLE).exists():
    source = TABLE
else:
    source = example_runs("shape")
    print(f"{TABLE} does not exist; {len(source)} made-up runs of E + A_w/width^a + A_d/depth^b + B/D^beta with")
    print(f"{SHAPE_LAW} and {SCATTER:.0%} scatter. Nothing was trained.")

# %% [markdown]
# ## A law that knows no shape
#
# If shape did not matter, its residuals would not depend on it.

# %%
sizes_law = fit(load_runs(source), "chinchilla")
print(f"L = {sizes_law.form.formula}: scatter {sizes_law.residual_sd:.1%}")

frame = sizes_law.table.frame
slenderness = frame["width"].to_numpy(dtype=float) / frame["depth"].to_numpy(dtype=float)
with house_style():
    figure = Figure(figsize=(6.2, 3.6))
    axes = figure.add_subplot()
    depths = sorted(set(frame["depth"]))
    for depth, color in zip(depths, shades(len(depths)), strict=True):
        here = (frame["depth"] == depth).to_numpy()
        axes.plot(
            slenderness[here], 100 * np.expm1(sizes_law.residuals[here]), "o", color=color, label=f"depth {depth:g}"
        )
    axes.axhline(0, color=MUTED, lw=1)
    log_axis(axes, "x", *widened(slenderness.min(), slenderness.max()), size_text)
    axes.set_xlabel("width over depth")
    axes.set_ylabel("observed over predicted loss (%)")
    figure.legend(loc="outside lower center", ncols=len(depths))
save(figure, FIGURES / "shape_residuals.png")

# %% [markdown]
# ## A law that knows nothing else
#
# `E + A_w / width^a + A_d / depth^b + B / D^beta`. A term in N beside these would say the same thing twice: the fit
# then degenerates (McLeish et al. 2025, arXiv:2502.06857). Four widths and four depths are the fewest that can
# determine an exponent each; with fewer the verdicts below say so.

# %%
shape_law = fit(load_runs(source, axes=("width", "depth", "D")), "width_depth_data")
for estimate in shape_law.params:
    low, high = estimate.ci95
    print(f"{estimate.name:6s} {estimate.value:10.4g}   95 % [{low:.4g}, {high:.4g}]")
for verdict in shape_law.verdicts:
    print(verdict.sentence)
print(f"scatter {shape_law.residual_sd:.1%}, against {sizes_law.residual_sd:.1%} of the law in N and D")

# %% [markdown]
# ## Draw
#
# The third size is held at its middle value, and the runs are moved there along the law; each keeps its residual.

# %%
save(plot(shape_law, "loss_vs_width"), FIGURES / "shape_width.png")

# %%
save(plot(shape_law, "loss_vs_depth"), FIGURES / "shape_depth.png")

# %% [markdown]
# ## The best shape of a given size
#
# N of the runs themselves, as a power of width and depth, says which widths and depths cost the same; the law says
# which of them is best. Only shapes within the runs' widths and depths are compared: beyond them the law is a guess.

# %%
table = shape_law.table
width, depth = table.axis("width"), table.axis("depth")
design = np.column_stack([np.ones(len(table)), np.log(width), np.log(depth)])
constant, by_width, by_depth = np.linalg.lstsq(design, np.log(table.num_params), rcond=None)[0]
print(f"N is about {np.exp(constant):.3g} width^{by_width:.2f} depth^{by_depth:.2f}")

largest = table.data_size.max()
shapes = np.geomspace(depth.min(), depth.max(), 200)
for num_params in np.geomspace(table.num_params.min(), table.num_params.max(), 5)[1:-1]:
    widths = np.exp((np.log(num_params) - constant - by_depth * np.log(shapes)) / by_width)
    known = (widths >= width.min()) & (widths <= width.max())
    if known.sum() < 2:
        print(f"N = {size_text(num_params)}: no widths and depths of the runs make it")
        continue
    loss = shape_law.predict(width=widths[known], depth=shapes[known], D=np.full(known.sum(), largest))
    best = int(loss.argmin())
    edge = " (at the edge of what was run)" if best in (0, known.sum() - 1) else ""
    print(
        f"N = {size_text(num_params)}: best width {widths[known][best]:.0f}, depth {shapes[known][best]:.1f}{edge}; "
        f"the worst shape loses {loss.max() / loss[best] - 1:.1%}"
    )
