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

from kmixup import Coupling, KMixup, assign, cost_matrix, transport_cost
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

# %%
# Flow matching, with and without
# -------------------------------
#
# A network learns the velocity of straight paths from eight Gaussians to two moons, once between pairs at random
# (k = 1), once between optimal pairs of each batch. Paths of optimal pairs do not cross, so that the flow that is
# learnt is nearly straight, and few steps follow it. The lines to use stand in :doc:`/docs/couplings`.


def gaussians_and_moons(count):
    """Eight Gaussians on a circle, and two moons."""
    angle = torch.randint(8, (count,), generator=generator) * torch.pi / 4
    gaussians = 5 * torch.stack([angle.cos(), angle.sin()], 1) + 0.3 * torch.randn(count, 2, generator=generator)
    turn, lower = torch.pi * torch.rand(count, generator=generator), torch.randint(2, (count,), generator=generator)
    moons = torch.stack([turn.cos() + lower, turn.sin() * (1 - 2 * lower) + 0.5 * lower], 1)
    return gaussians, 3 * moons - 1 + 0.2 * torch.randn(count, 2, generator=generator)


def learnt(k):
    torch.manual_seed(0)
    layers = [torch.nn.Linear(3, 64), torch.nn.SiLU(), torch.nn.Linear(64, 64), torch.nn.SiLU(), torch.nn.Linear(64, 2)]
    network, coupling = torch.nn.Sequential(*layers), Coupling(k=k, generator=generator)
    optimizer = torch.optim.Adam(network.parameters(), lr=3e-3)
    for _ in range(1000):
        x0, x1 = gaussians_and_moons(256)
        plan = coupling(x0, x1)
        at, velocity = plan.mix(x0, x1), plan.partner_of(x0, x1) - x0
        time = (1 - plan.lam).float()[:, None]
        loss = (network(torch.cat([at, time], 1)) - velocity).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return network, float(loss.detach())


@torch.no_grad()
def path(network, x, steps):
    """Points along the flow, by Euler's method, shape ``[steps + 1, n, 2]``."""
    points = [x]
    for step in range(steps):
        time = torch.full((len(x), 1), step / steps)
        points.append(points[-1] + network(torch.cat([points[-1], time], 1)) / steps)
    return torch.stack(points)


def distance(x, y):
    """Wasserstein distance of two samples."""
    cost = cost_matrix(x, y)
    return float(transport_cost(cost, assign(cost)).sqrt())


start, moons = gaussians_and_moons(512)
steps, flows = (1, 2, 4, 8, 32), {"pairs at random": learnt(1), "optimal pairs": learnt(256)}
print("steps                    ", *(f"{count:6}" for count in steps), "  last loss")
with style():
    figure, panels = plt.subplots(1, 3, figsize=(7.2, 2.5), layout="constrained")
    for panel, (name, (network, loss)), look in zip(panels, flows.items(), series(), strict=False):
        lines = path(network, start, 32)
        panel.plot(*lines[:, :128].permute(2, 0, 1), color="#999999", linewidth=0.4, zorder=0)
        panel.scatter(*start[:128].T, s=4, color=BLUE)
        panel.scatter(*lines[-1, :128].T, s=4, color=ORANGE)
        panel.set_title(name)
        errors = [distance(path(network, start, count)[-1], moons) for count in steps]
        panels[2].plot(steps, errors, **look.line, label=name)
        print(f"distance, {name:16}", *(f"{error:6.2f}" for error in errors), f"{loss:9.2f}")
    panels[2].axhline(distance(gaussians_and_moons(512)[1], moons), color="#999999", linewidth=0.7, label="two samples")
    panels[2].set_xscale("log", base=2)
    panels[2].set(xlabel="steps", ylabel="Wasserstein distance")
    panels[2].legend()
