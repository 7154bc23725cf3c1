"""A training loop of your own
===========================

A whole training in plain PyTorch: a plan per batch, the two-target loss, accuracy that counts both labels, validation
without mixing, and a checkpoint that resumes to the same partners.
"""

# %%
from dataclasses import dataclass

import matplotlib.pyplot as plt
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from kmixup import KMixup
from kmixup.experiments.datasets import load_data
from kmixup.style import series, style

data = load_data("mnist-5000")
few = TensorDataset(data.x_train[:1000].flatten(1), data.y_train[:1000])
x_test, y_test = data.x_test.flatten(1), data.y_test


@dataclass
class History:
    """What a training leaves."""

    train_accuracy: list[float]
    test_error: list[float]


# %%
# The loop
# --------
#
# ``plan.loss`` takes any loss and class indices: no ``num_classes``, no soft targets. ``plan.accuracy`` counts both
# labels of a mixed sample with their weights, so that training accuracy means something.


def train(k: int, alpha: float, epochs: int = 10) -> History:
    """Train a small network; alpha = 0 mixes nothing, in the same loop."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(784, 128), nn.ReLU(), nn.Linear(128, 10))
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    mixer = KMixup(k=k, alpha=alpha, generator=torch.Generator().manual_seed(0))
    history = History([], [])
    for _ in range(epochs):
        counted = []
        for x, y in DataLoader(few, batch_size=64, shuffle=True, drop_last=True):
            plan = mixer.plan(x)
            logits = model(plan.mix(x))
            loss = plan.loss(F.cross_entropy, logits, y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            counted.append(float(plan.accuracy(logits, y)))
        with torch.no_grad():
            wrong = (model(x_test).argmax(1) != y_test).float().mean()
        history.train_accuracy.append(sum(counted) / len(counted))
        history.test_error.append(100 * float(wrong))
    return history


histories = {
    "no mixing": train(k=1, alpha=0.0),
    "mixup": train(k=1, alpha=1.0),
    "k-mixup, k = 16": train(k=16, alpha=1.0),
}

# %%
# One seed shows how to do it, not which is better: that takes seeds and intervals, as in
# :doc:`the table in small <05_table_in_small>`.
with style():
    figure, (left, right) = plt.subplots(1, 2, figsize=(7.2, 2.6), layout="constrained")
    for (name, history), look in zip(histories.items(), series(), strict=False):
        left.plot(range(1, 11), history.train_accuracy, **look.line, label=name)
        right.plot(range(1, 11), history.test_error, **look.line, label=name)
    left.set(xlabel="epoch", ylabel="training accuracy, both labels")
    right.set(xlabel="epoch", ylabel="test error (%)", yscale="log")
    left.legend()

# %%
# Resuming
# --------
#
# The mixer's state goes beside the model's and the optimizer's.
mixer = KMixup(k=16, alpha=1.0, generator=torch.Generator().manual_seed(0))
checkpoint = {"mixer": mixer.state_dict()}
expected = mixer.plan(x_test[:64]).partner

resumed = KMixup(k=16, alpha=1.0, generator=torch.Generator())
resumed.load_state_dict(checkpoint["mixer"])
assert torch.equal(resumed.plan(x_test[:64]).partner, expected)
