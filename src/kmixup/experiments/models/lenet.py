"""LeNet, for MNIST's 28 x 28 digits and for spectrograms."""

from __future__ import annotations

from collections import OrderedDict

from torch import nn


def lenet(input_shape: tuple[int, ...], num_classes: int) -> nn.Sequential:
    """LeNet-5 with ReLU and max pooling: conv 6@5, pool, conv 16@5, pool, conv 120@5, fc 84, fc classes.

    On 160 x 101 spectrograms this is the speech LeNet of the released code (71280 features before the first fully
    connected layer). Digits of 28 x 28 are padded to 32 x 32, as in LeCun et al. (1998), which gives 61,706 parameters;
    the paper says only "slightly modified to accommodate grayscale images", so this is our choice.

    Args:
        input_shape: ``(channels, height, width)``; sides below 32 pixels are padded to 32 (an odd side to 33).
        num_classes: Outputs (logits).

    Raises:
        ValueError: If the input is not an image.

    Paper: Section 5, LeNet of Table 3 and Table 6.
    """
    if len(input_shape) != 3:
        raise ValueError(f"lenet needs images (channels, height, width), got inputs of shape {tuple(input_shape)}.")
    channels, *sides = input_shape
    padding = [max(0, (32 - side + 1) // 2) for side in sides]
    rows, columns = (_reduced(side + 2 * pad) for side, pad in zip(sides, padding, strict=True))
    # Pooling before ReLU is the same function, for ReLU is increasing, with a quarter of the work.
    return nn.Sequential(
        OrderedDict(
            conv1=nn.Conv2d(channels, 6, 5, padding=(padding[0], padding[1])),
            pool1=nn.MaxPool2d(2),
            relu1=nn.ReLU(),
            conv2=nn.Conv2d(6, 16, 5),
            pool2=nn.MaxPool2d(2),
            relu2=nn.ReLU(),
            conv3=nn.Conv2d(16, 120, 5),
            relu3=nn.ReLU(),
            flatten=nn.Flatten(),
            fc1=nn.Linear(120 * rows * columns, 84),
            relu4=nn.ReLU(),
            fc2=nn.Linear(84, num_classes),
        )
    )


def _reduced(side: int) -> int:
    """Side of the feature map that a side of the (padded) image becomes."""
    return ((side - 4) // 2 - 4) // 2 - 4
