"""WideResNet-101, by torchvision."""

from __future__ import annotations

from torch import nn


def wide_resnet101(input_shape: tuple[int, ...], num_classes: int) -> nn.Module:
    """Torchvision's ``wide_resnet101_2``: the ImageNet network, its 7 x 7 stem included, used on 32 x 32 images.

    That the paper means this network is an inference from its ERM error on CIFAR-10 (11.6 %), which is that of a stem
    that reduces 32 x 32 images to 8 x 8.

    Args:
        input_shape: ``(3, height, width)``.
        num_classes: Outputs (logits).

    Raises:
        ValueError: If the input is not a colour image.

    Paper: Table 10b, WideResnet-101.
    """
    if len(input_shape) != 3 or input_shape[0] != 3:
        raise ValueError(f"wide-resnet101 needs colour images (3, height, width), got shape {tuple(input_shape)}.")
    from torchvision.models import wide_resnet101_2

    return wide_resnet101_2(weights=None, num_classes=num_classes)
