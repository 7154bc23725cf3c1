"""Models by name. To add one: write a builder, give it a line in `MODELS`.

A builder takes the shape of one input and the number of classes, ``builder(input_shape, num_classes, **options)``.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

from kmixup.experiments.models.fc import fc
from kmixup.experiments.models.lenet import lenet

__all__ = ["MODELS"]

MODELS: dict[str, Callable[..., nn.Module]] = {
    "fc": fc,
    "lenet": lenet,
}
