"""Fully connected networks: the toy data's and the UCI data's."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor, nn


def fc(
    input_shape: tuple[int, ...], num_classes: int, *, hidden: Sequence[int], input_scale: float = 1.0
) -> nn.Sequential:
    """A fully connected network with ReLU between its layers.

    Args:
        input_shape: Shape of one input; flattened.
        num_classes: Outputs (logits).
        hidden: Units of each hidden layer; two of them make the paper's "3-layer network".
        input_scale: Inputs are multiplied by it first. The swiss roll's coordinates reach 13, at which learning rate
            0.1 diverges; its xi are given in those units.

    Raises:
        ValueError: If a layer has no units.

    Paper: Section 5, fully connected networks of Table 1 and Table 5.
    """
    if any(units < 1 for units in hidden):
        raise ValueError(f"hidden must be positive numbers of units, got {list(hidden)}.")
    widths = [math.prod(input_shape), *hidden]
    layers: list[nn.Module] = [nn.Flatten()] if len(input_shape) > 1 else []
    if input_scale != 1.0:
        layers.append(Scale(input_scale))
    for width, next_width in pairwise(widths):
        layers += [nn.Linear(width, next_width), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(widths[-1], num_classes))


class Scale(nn.Module):
    """Multiplies by a constant.

    Args:
        factor: The constant.
    """

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, x: Tensor) -> Tensor:
        """``factor * x``."""
        return self.factor * x
