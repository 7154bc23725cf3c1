"""Models by name. To add one: write a builder, give it a line in `MODELS`; or name your own, ``module:function``.

A builder takes the shape of one input and the number of classes, ``builder(input_shape, num_classes, **options)``, and
returns a module that maps normalised inputs to logits.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import nn

from kmixup.experiments.models.densenet import densenet_bc
from kmixup.experiments.models.fc import fc
from kmixup.experiments.models.lenet import lenet
from kmixup.experiments.models.preact_resnet import preact_resnet18, preact_resnet18_release
from kmixup.experiments.models.wide_resnet import wide_resnet101
from kmixup.experiments.named import is_own, own, read_options
from kmixup.experiments.trial import unknown

__all__ = ["MODELS", "build_model", "read_model_options"]

MODELS: dict[str, Callable[..., nn.Module]] = {
    "fc": fc,
    "lenet": lenet,
    "preact-resnet18": preact_resnet18,
    "preact-resnet18-release": preact_resnet18_release,
    "densenet-bc": densenet_bc,
    "wide-resnet101": wide_resnet101,
}


def read_model_options(name: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """All options of a model, defaults included, as its builder's signature reads them.

    Raises:
        ValueError: If there is no such model, or an option is unknown, missing or not of its type.
    """
    return read_options("model", name, _builder(name), options, given=("input_shape", "num_classes"))


def build_model(
    name: str, input_shape: tuple[int, ...], num_classes: int, options: Mapping[str, Any] | None = None
) -> nn.Module:
    """A model with new weights, from torch's global generator.

    Args:
        name: In `MODELS`, or ``module:function``: a function of your own, in the current folder or installed.
        input_shape: Shape of one input.
        num_classes: Outputs (logits).
        options: As typed.

    Raises:
        TypeError: If a builder of the user's own returns no module.
        ValueError: If the name or an option is wrong, or the model does not take such inputs.
    """
    model = _builder(name)(input_shape, num_classes, **read_model_options(name, options or {}))
    if not isinstance(model, nn.Module):
        raise TypeError(f"{name} must return a torch.nn.Module, got {type(model).__name__}.")
    return model


def _builder(name: str) -> Callable[..., Any]:
    if is_own(name):
        return own(name)[0]
    if name not in MODELS:
        raise ValueError(unknown("model", name, MODELS) + " One of your own is module:function.")
    return MODELS[name]
