"""LeNet, for MNIST's 28 x 28 digits and for spectrograms."""

from __future__ import annotations

from collections import OrderedDict

from torch import nn


def lenet(input_shape: tuple[int, ...], num_classes: int) -> nn.Sequential:
    """LeNet-5 with ReLU and max pooling: conv 6@5, pool, conv 16@5, pool, conv 120@5, fc 84, fc classes.

    On 160 x 101 spectrograms this is the speech LeNet of the released code (71280 features before the first fully
    connected layer). On 28 x 28 digits the maps before the third convolution have sides of 4, so its kernel has them
    too: 44,426 parameters. The paper says only "slightly modified to accommodate grayscale images", so this is our
    choice.

    Args:
        input_shape: ``(channels, height, width)``; sides below 28 pixels are padded to 28 (an odd side to 29).
        num_classes: Outputs (logits).

    Raises:
        ValueError: If the input is not an image.

    Paper: Section 5, LeNet of Table 3 and Table 6.
    """
    if len(input_shape) != 3:
        raise ValueError(f"lenet needs images (channels, height, width), got inputs of shape {tuple(input_shape)}.")
    channels, *sides = input_shape
    padding = [max(0, (28 - side + 1) // 2) for side in sides]
    before = [_reduced(side + 2 * pad) for side, pad in zip(sides, padding, strict=True)]
    kernel = [min(5, side) for side in before]
    rows, columns = (side - size + 1 for side, size in zip(before, kernel, strict=True))
    # Pooling before ReLU is the same function, for ReLU is increasing, with a quarter of the work.
    return nn.Sequential(
        OrderedDict(
            conv1=nn.Conv2d(channels, 6, 5, padding=(padding[0], padding[1])),
            pool1=nn.MaxPool2d(2),
            relu1=nn.ReLU(),
            conv2=nn.Conv2d(6, 16, 5),
            pool2=nn.MaxPool2d(2),
            relu2=nn.ReLU(),
            conv3=nn.Conv2d(16, 120, (kernel[0], kernel[1])),
            relu3=nn.ReLU(),
            flatten=nn.Flatten(),
            fc1=nn.Linear(120 * rows * columns, 84),
            relu4=nn.ReLU(),
            fc2=nn.Linear(84, num_classes),
        )
    )


def _reduced(side: int) -> int:
    """Side of the feature map that a side of the (padded) image becomes before the third convolution."""
    return ((side - 4) // 2 - 4) // 2
