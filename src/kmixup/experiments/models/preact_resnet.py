"""Pre-activation ResNet-18 for images of 32 x 32 and 64 x 64."""

from __future__ import annotations

from collections import OrderedDict

import torch.nn.functional as F
from torch import Tensor, nn


class PreActBlock(nn.Module):
    """Residual block in which batch norm and ReLU come before each convolution (He et al., 2016b).

    Args:
        channels: Of the input.
        width: Channels of the output.
        stride: Of the first convolution.
    """

    def __init__(self, channels: int, width: int, stride: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv1 = nn.Conv2d(channels, width, 3, stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        changes = stride != 1 or channels != width
        self.shortcut = nn.Conv2d(channels, width, 1, stride, bias=False) if changes else None

    def forward(self, x: Tensor) -> Tensor:
        """``[n, channels, h, w]`` to ``[n, width, h / stride, w / stride]``."""
        activated = F.relu(self.bn1(x))
        # Where the shape changes, the shortcut too starts from the activated input.
        kept = x if self.shortcut is None else self.shortcut(activated)
        return kept + self.conv2(F.relu(self.bn2(self.conv1(activated))))


def preact_resnet18(input_shape: tuple[int, ...], num_classes: int, *, width: int = 64) -> nn.Sequential:
    """Pre-activation ResNet-18 as Zhang et al. (2018) use it: a bare 3 x 3 convolution, then 2 + 2 + 2 + 2 blocks.

    The first residual block is ``layer1.0``.

    Args:
        input_shape: ``(channels, height, width)``.
        num_classes: Outputs (logits).
        width: Channels of the first stage; the paper's network has 64, fewer make a smaller one.

    Paper: Section 5, PreAct ResNet-18.
    """
    return _preact_resnet18(input_shape, num_classes, width, activated_stem=False)


def preact_resnet18_release(input_shape: tuple[int, ...], num_classes: int, *, width: int = 64) -> nn.Sequential:
    """The "ResNet18" of the released code: as `preact_resnet18`, with batch norm and ReLU after the first convolution.

    Arguments as `preact_resnet18`. Manifold mixup in the released code mixes its input or the output of ``stem``.
    """
    return _preact_resnet18(input_shape, num_classes, width, activated_stem=True)


def _preact_resnet18(input_shape: tuple[int, ...], num_classes: int, width: int, activated_stem: bool) -> nn.Sequential:
    if len(input_shape) != 3:
        raise ValueError(f"a ResNet needs images (channels, height, width), got shape {tuple(input_shape)}.")
    stem = nn.Sequential(OrderedDict(conv=nn.Conv2d(input_shape[0], width, 3, padding=1, bias=False)))
    if activated_stem:
        stem.add_module("bn", nn.BatchNorm2d(width))
        stem.add_module("relu", nn.ReLU())
    layers: OrderedDict[str, nn.Module] = OrderedDict(stem=stem)
    channels = width
    for stage in range(4):
        out, stride = width * 2**stage, 1 if stage == 0 else 2
        layers[f"layer{stage + 1}"] = nn.Sequential(PreActBlock(channels, out, stride), PreActBlock(out, out, 1))
        channels = out
    layers.update(pool=nn.AdaptiveAvgPool2d(1), flatten=nn.Flatten(), fc=nn.Linear(channels, num_classes))
    return nn.Sequential(layers)
