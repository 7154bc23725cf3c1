"""Models by name. To add one: write a builder, give it a line in `MODELS`.

A builder takes the shape of one input and the number of classes, ``builder(input_shape, num_classes, **options)``.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

from kmixup.experiments.models.densenet import densenet_bc
from kmixup.experiments.models.fc import fc
from kmixup.experiments.models.lenet import lenet
from kmixup.experiments.models.preact_resnet import preact_resnet18, preact_resnet18_release
from kmixup.experiments.models.wide_resnet import wide_resnet101

__all__ = ["MODELS"]

MODELS: dict[str, Callable[..., nn.Module]] = {
    "fc": fc,
    "lenet": lenet,
    "preact-resnet18": preact_resnet18,
    "preact-resnet18-release": preact_resnet18_release,
    "densenet-bc": densenet_bc,
    "wide-resnet101": wide_resnet101,
}
