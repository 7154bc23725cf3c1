"""Choosing k and alpha
====================

What would each k do to *these* data? ``diagnose`` measures it before anything is trained, and ``calibrate`` finds the
alpha that perturbs as much at one k as another alpha at k = 1.
"""

# %%
# The data are 5,000 handwritten digits that a package ships.
import matplotlib.pyplot as plt
import torch

from kmixup import KMixup, calibrate, diagnose
from kmixup.experiments.datasets import load_data
from kmixup.style import series, style

data = load_data("mnist-5000")
x, y = data.x_train[:2000].flatten(1), data.y_train[:2000]
print(tuple(x.shape))

# %%
# Before training
# ---------------
#
# A row per k: how far partners are, how often they share a class, how often a midpoint lies nearest to neither class.
diagnosis = diagnose(x, y, ks=(1, 4, 16, 64), alphas=(0.2, 1.0))
print(diagnosis)

# %%
figure = diagnosis.plot()

# %%
# A large k brings partners closer, so at equal alpha it perturbs less. Neither is better as such: on data whose
# classes lie in well separated clusters mixup's partners cross between them, and k-mixup's seldom do.
#
# Equal perturbation
# ------------------
#
# The paper compares k at equal xi, the root mean squared perturbation. ``calibrate`` measures the distances of
# partners as batches draw them, and inverts the law of lam in closed form. Where no alpha perturbs as much, it says
# so.
for k in (4, 16, 64):
    found = calibrate(x, k=k, alpha=0.2, generator=torch.Generator().manual_seed(0))
    print(f"k = {k:2}: alpha_k = {found.alpha_k:.3g}, xi = {found.xi:.3g}, attainable: {found.attainable}")

# %%
# The whole curve, for mixup and two larger k:
alphas = [0.05, 0.1, 0.2, 0.4, 0.8]
with style():
    figure, axes = plt.subplots(figsize=(4.6, 3), layout="constrained")
    for k, look in zip((4, 16), series(), strict=False):
        found = [calibrate(x, k=k, alpha=alpha, generator=torch.Generator().manual_seed(0)) for alpha in alphas]
        axes.plot(alphas, [each.alpha_k for each in found], **look.line, label=f"k = {k}")
    axes.plot(alphas, alphas, color="#666666", linewidth=0.7, label="k = 1")
    axes.set(xscale="log", yscale="log", xlabel="alpha of mixup", ylabel="alpha_k of equal xi")
    axes.legend()

# %%
# To train at the strength of mixup with alpha = 0.2. As a start alpha = 1 itself has done no worse:
# :doc:`/docs/when` has the runs.
mixer = KMixup(k=16, alpha=calibrate(x, k=16, alpha=0.2).alpha_k, num_classes=10)
