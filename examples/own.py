"""A data set, a model and a method of your own.

In the folder of this file:

kmixup train dataset=own:moons model=own:network method=own:mostly_itself k=8 alpha=1 epochs=20 batch_size=32 lr=0.05
"""

from dataclasses import replace

import torch
from sklearn.datasets import make_moons

from kmixup import KMixup, MixPlan


def moons(data_dir, seed, *, n: int = 400, noise: float = 0.2):
    """Two half circles. The seed draws the split or the data; options come from dataset_options."""
    x, y = make_moons(2 * n, noise=noise, random_state=seed)
    return x[:n], y[:n], x[n:], y[n:]


def network(input_shape, num_classes, *, width: int = 32):
    """Normalised inputs to logits. Options come from model_options."""
    return torch.nn.Sequential(
        torch.nn.Linear(input_shape[0], width), torch.nn.ReLU(), torch.nn.Linear(width, num_classes)
    )


def mostly_itself(model, mixer: KMixup, *, least: float = 0.5):
    """k-mixup in which each sample keeps at least a share of itself. Options come from method_options."""

    def plan(x: torch.Tensor) -> MixPlan:
        drawn = mixer.plan(x)
        return replace(drawn, lam=drawn.lam.clamp(min=least))

    return plan
