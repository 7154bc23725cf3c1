"""A first mixup
=============

Two half moons, one batch, and what k-mixup does to it.
"""

# %%
# A mixer is called with a batch, as the DataLoader gives it.
import matplotlib.pyplot as plt
import torch
from sklearn.datasets import make_moons

from kmixup import KMixup
from kmixup.style import CLASS_COLOURS, CLASS_MARKERS, class_map, style

points, classes = make_moons(256, noise=0.06, random_state=0)
x, y = torch.tensor(points, dtype=torch.float32), torch.tensor(classes)

mixer = KMixup(k=16, alpha=1.0, num_classes=2, generator=torch.Generator().manual_seed(0))
x_mixed, y_soft = mixer(x, y)
print(x_mixed.shape, y_soft.shape)
print(y_soft[:3])

# %%
# The soft targets go into ``torch.nn.functional.cross_entropy`` as they are. Mixup (k = 1) draws partners at
# random, and its mixed points lie anywhere between the moons. With k = 16 partners are near, and the mixed points
# keep the shape. Here each sample has a ``lam`` of its own, so that one batch shows many.


def mix(k: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The batch, mixed with one lam per sample."""
    generator = torch.Generator().manual_seed(0)
    return KMixup(k=k, alpha=1.0, num_classes=2, lam_per="sample", generator=generator)(x, y)


with style():
    figure, panels = plt.subplots(1, 3, figsize=(7.2, 2.4), sharex=True, sharey=True, layout="constrained")
    for label in (0, 1):
        own = x[y == label]
        panels[0].scatter(own[:, 0], own[:, 1], s=9, color=CLASS_COLOURS[label], marker=CLASS_MARKERS[label])
    panels[0].set_title("the batch")
    for panel, k in zip(panels[1:], (1, 16), strict=True):
        mixed, soft = mix(k)
        panel.scatter(mixed[:, 0], mixed[:, 1], s=9, c=soft[:, 1], cmap=class_map(), vmin=0, vmax=1)
        panel.set_title("mixup (k = 1)" if k == 1 else f"k-mixup (k = {k})")

# %%
# Who met whom, and how much? That is the plan. It is drawn once and can be applied to anything, and it says what it
# did.
plan = mixer.plan(x)
print("partners of the first five samples:", plan.partner[:5].tolist())
print(plan.stats(x, y))

# %%
# For validation there is nothing to do but what is done with any module:
mixer.eval()
assert torch.equal(mixer(x, y)[0], x)
