"""What a data set is, to the experiments: tensors in memory."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Generator, Tensor


@dataclass(frozen=True)
class Data:
    """A data set, split, in memory.

    Attributes:
        x_train: Training points, float32, shape ``[n, ...]``; images are ``[n, channels, height, width]`` in [0, 1].
        y_train: Training classes, int64, shape ``[n]``.
        x_test: Test points, as ``x_train``.
        y_test: Test classes, as ``y_train``.
        num_classes: Number of classes; every class is below it.
        mean: Subtracted from each channel after augmentation and before mixing, shape ``[channels]``; None for nothing.
        std: Divided by after ``mean``, shape ``[channels]``.
        augment: Random transform of a whole batch, drawn from the generator; None for none.
        source: Hash of what the data come from: of the files' bytes, or of the generator's name, options and version.
        note: What a reader of a result must know about this data ("a reconstruction"); empty for nothing.
    """

    x_train: Tensor
    y_train: Tensor
    x_test: Tensor
    y_test: Tensor
    num_classes: int
    mean: Tensor | None = None
    std: Tensor | None = None
    augment: Callable[[Tensor, Generator], Tensor] | None = None
    note: str = ""
    source: str = ""

    def __post_init__(self) -> None:
        for part in ("train", "test"):
            x, y = getattr(self, f"x_{part}"), getattr(self, f"y_{part}")
            if len(x) != len(y) or not len(x):
                raise ValueError(f"x_{part} and y_{part} must have the same length > 0, got {len(x)} and {len(y)}.")
            if x.dtype != torch.float32 or y.dtype != torch.int64:
                raise TypeError(f"x_{part} must be float32 and y_{part} int64, got {x.dtype} and {y.dtype}.")
            if y.min() < 0 or y.max() >= self.num_classes:
                raise ValueError(
                    f"classes must be 0 ... {self.num_classes - 1}, got {int(y.min())} ... {int(y.max())} in y_{part}."
                )
        if (self.mean is None) != (self.std is None):
            raise ValueError("mean and std belong together: give both or neither.")


def normalise(x: Tensor, mean: Tensor | None, std: Tensor | None) -> Tensor:
    """Standardise each channel (dimension 1); the input itself if there is nothing to do."""
    if mean is None or std is None:
        return x
    shape = (-1, *(1,) * (x.ndim - 2))
    return (x - mean.to(x).view(shape)) / std.to(x).view(shape)
