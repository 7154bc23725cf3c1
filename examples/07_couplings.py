"""k-mixup on the plane
====================

What the matching does can be seen where the data are points of the plane: who meets whom, and where the mixed points
lie.
"""

# %%
# Couplings and vicinal points
# ----------------------------
#
# The paper's toy shapes as this project reconstructs them. Above, lines join partners; below lie the mixed points,
# coloured by their soft targets. With k = 1 partners are drawn at random. `The playground
# <../../playground.html>`_ shows the same for any k, alpha and points that you draw, while you move the sliders.
import matplotlib.pyplot as plt
import torch

from kmixup import KMixup, assign, cost_matrix, transport_cost
from kmixup.experiments.datasets import load_data
from kmixup.experiments.pictures.couplings import couplings
from kmixup.style import BLUE, ORANGE, series, style

shapes = {}
for name in ("one-ring", "four-bars", "swiss-roll"):
    data = load_data(name)
    shapes[name.replace("-", " ")] = data.x_train, data.y_train

figure = couplings(shapes, (1, 16), 1.0, torch.Generator().manual_seed(0))

# %%
# One matching, by hand
# ---------------------
#
# Two sets of k points, their costs, and the permutation that makes the sum least. No two lines of an optimal
# matching cross.
generator = torch.Generator().manual_seed(1)
left, right = (
    torch.randn(12, 2, generator=generator),
    torch.randn(12, 2, generator=generator) + torch.tensor([2.5, 0.0]),
)
cost = cost_matrix(left, right, metric="euclidean")
sigma = assign(cost)
print(f"cost of the best matching {transport_cost(cost, sigma):.2f}, of the order given {cost.diagonal().sum():.2f}")

with style():
    figure, panels = plt.subplots(1, 2, figsize=(7.2, 2.4), sharey=True, layout="constrained")
    for panel, partner, title in zip(panels, (torch.arange(12), sigma), ("in the order given", "matched"), strict=True):
        for i, j in enumerate(partner.tolist()):
            panel.plot(*zip(left[i].tolist(), right[j].tolist(), strict=True), color="#999999", linewidth=0.7, zorder=0)
        panel.scatter(left[:, 0], left[:, 1], s=14, color=BLUE, marker="o")
        panel.scatter(right[:, 0], right[:, 1], s=14, color=ORANGE, marker="^")
        panel.set_title(title)

# %%
# How partners come closer with k
# -------------------------------
ks = (1, 2, 4, 8, 16, 32, 64)
with style():
    figure, axes = plt.subplots(figsize=(4.6, 2.8), layout="constrained")
    for (name, (x, y)), look in zip(shapes.items(), series(), strict=False):
        shares = []
        for k in ks:
            mixer = KMixup(k=k, alpha=1.0, generator=torch.Generator().manual_seed(0))
            shares.append(100 * float((y == y[mixer.plan(x).partner]).double().mean()))
        axes.plot(ks, shares, **look.line, label=name)
    axes.set_xscale("log", base=2)
    axes.set(xlabel="k", ylabel="pairs of one class (%)")
    axes.legend()
