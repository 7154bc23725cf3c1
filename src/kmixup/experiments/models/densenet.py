"""DenseNet-BC for images of 32 x 32 (Huang et al., 2017)."""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import Tensor, nn


class DenseLayer(nn.Module):
    """Bottleneck and 3 x 3 convolution, whose output is appended to the input.

    Args:
        channels: Of the input.
        growth: Channels appended.
    """

    def __init__(self, channels: int, growth: int) -> None:
        super().__init__()
        self.new = nn.Sequential(
            nn.BatchNorm2d(channels),
            nn.ReLU(),
            nn.Conv2d(channels, 4 * growth, 1, bias=False),
            nn.BatchNorm2d(4 * growth),
            nn.ReLU(),
            nn.Conv2d(4 * growth, growth, 3, padding=1, bias=False),
        )

    def forward(self, x: Tensor) -> Tensor:
        """``[n, channels, h, w]`` to ``[n, channels + growth, h, w]``."""
        return torch.cat([x, self.new(x)], 1)


def densenet_bc(input_shape: tuple[int, ...], num_classes: int, *, depth: int = 190, growth: int = 40) -> nn.Sequential:
    """DenseNet-BC: three dense blocks of bottleneck layers, channels halved between them.

    Args:
        input_shape: ``(channels, height, width)``.
        num_classes: Outputs (logits).
        depth: Number of convolutions and of the last layer, 6 n + 4; the paper's is 190.
        growth: Channels that each layer adds; the paper's is 40.

    Raises:
        ValueError: If the depth is not 6 n + 4, or the input is no image.

    Paper: Section 5, DenseNet-BC-190.
    """
    if len(input_shape) != 3:
        raise ValueError(f"a DenseNet needs images (channels, height, width), got shape {tuple(input_shape)}.")
    if depth < 10 or (depth - 4) % 6:
        raise ValueError(f"depth must be 6 n + 4, such as 40, 100 or 190, got {depth}.")
    channels = 2 * growth
    layers: OrderedDict[str, nn.Module] = OrderedDict(
        stem=nn.Conv2d(input_shape[0], channels, 3, padding=1, bias=False)
    )
    for block in range(1, 4):
        dense = nn.Sequential()
        for _ in range((depth - 4) // 6):
            dense.append(DenseLayer(channels, growth))
            channels += growth
        layers[f"block{block}"] = dense
        if block < 3:
            halved = channels // 2
            layers[f"transition{block}"] = nn.Sequential(
                nn.BatchNorm2d(channels), nn.ReLU(), nn.Conv2d(channels, halved, 1, bias=False), nn.AvgPool2d(2)
            )
            channels = halved
    layers.update(
        bn=nn.BatchNorm2d(channels),
        relu=nn.ReLU(),
        pool=nn.AdaptiveAvgPool2d(1),
        flatten=nn.Flatten(),
        fc=nn.Linear(channels, num_classes),
    )
    return nn.Sequential(layers)
