"""The paper's networks: parameter counts against stated sources, and one training step of each."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from kmixup.experiments.models import MODELS


def parameters(model):
    return sum(parameter.numel() for parameter in model.parameters())


def one_step_lowers_the_loss(model, shape, classes, batch=8, lr=0.01):
    torch.manual_seed(0)
    x, y = torch.rand(batch, *shape), torch.arange(batch) % classes
    optimizer = torch.optim.SGD(model.parameters(), lr=lr)
    model.train()
    before = F.cross_entropy(model(x), y)
    before.backward()
    assert all(parameter.grad is not None for parameter in model.parameters())
    optimizer.step()
    with torch.no_grad():
        return F.cross_entropy(model(x), y) < before


@pytest.mark.parametrize(
    ("shape", "classes", "count"),
    [
        # LeCun et al. (1998), LeNet-5 with full connections in C3: 156 + 2416 + 48120 + 10164 + 850.
        ((1, 28, 28), 10, 61_706),
        # The released code's speech LeNet: the same convolutions, 71280 -> 84 -> 30.
        ((1, 160, 101), 30, 156 + 2_416 + 48_120 + 71_280 * 84 + 84 + 84 * 30 + 30),
    ],
)
def test_lenet_has_the_parameters_of_its_source(shape, classes, count):
    assert parameters(MODELS["lenet"](shape, classes)) == count


@pytest.mark.parametrize("shape", [(1, 28, 28), (1, 160, 101), (3, 32, 32), (1, 29, 40)])
def test_lenet_trains_on_any_image_shape(shape):
    torch.manual_seed(0)
    assert one_step_lowers_the_loss(MODELS["lenet"](shape, 10), shape, 10)


def test_lenet_refuses_inputs_that_are_no_images():
    with pytest.raises(ValueError, match=r"\(channels, height, width\)"):
        MODELS["lenet"]((784,), 10)
