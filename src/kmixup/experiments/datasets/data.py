"""What a data set is, to the experiments: tensors in memory."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
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
        note: What a reader of a result must know about this data ("a reconstruction"); empty for nothing.
        source: Hash of the files that the data came from, or of their generator (`kmixup.experiments.datasets.source`):
            64 hex digits, the same for every seed and split; empty only where nobody computed it.
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
            if not x.sum(dtype=torch.float64).isfinite():  # float32 cannot overflow it
                bad = (~x.flatten(1).isfinite()).any(1).nonzero()
                raise ValueError(
                    f"x_{part} must be finite, got NaN or infinite values in {len(bad)} of {len(x)} samples, the "
                    f"first sample {int(bad[0])}. Fill them in, or leave these samples out."
                )
            if y.min() < 0 or y.max() >= self.num_classes:
                raise ValueError(
                    f"classes must be 0 ... {self.num_classes - 1}, got {int(y.min())} ... {int(y.max())} in y_{part}."
                )
        if (self.mean is None) != (self.std is None):
            raise ValueError("mean and std belong together: give both or neither.")

    def fingerprint(self) -> str:
        """Hash of the points and classes themselves, for data that do not say where they come from."""
        digest = hashlib.sha256()
        for part in (self.x_train, self.y_train, self.x_test, self.y_test):
            digest.update(f"{list(part.shape)}\n".encode())
            digest.update(part.detach().cpu().contiguous().numpy().data)
        return digest.hexdigest()


def as_data(name: str, loaded: Any) -> Data:
    """What a user's own loader returned, as `Data`.

    Args:
        name: Of the loader.
        loaded: `Data`, or ``(x_train, y_train, x_test, y_test)``, arrays or tensors: numbers, and a class a sample
            (whole numbers or words; they are numbered in sorted order).

    Raises:
        TypeError: If it is anything else.
        ValueError: If the arrays do not fit.
    """
    if isinstance(loaded, Data):
        return loaded
    if not isinstance(loaded, Sequence) or len(loaded) != 4:
        raise TypeError(
            f"{name} must return Data or (x_train, y_train, x_test, y_test), got {type(loaded).__name__}"
            + (f" of {len(loaded)}." if isinstance(loaded, Sequence) else ".")
        )
    x_train, y_train, x_test, y_test = (np.asarray(part) for part in loaded)
    for part, x, y in (("train", x_train, y_train), ("test", x_test, y_test)):
        if x.dtype.kind not in "fiub" or x.ndim < 2:
            raise TypeError(f"x_{part} of {name} must be numbers [n, ...], got {list(x.shape)} of {x.dtype}.")
        if x.dtype == np.uint8 and x.ndim > 2:
            raise TypeError(
                f"x_{part} of {name} holds bytes {list(x.shape)}: pixels are numbers in [0, 1]. Divide by 255."
            )
        whole = y.dtype.kind in "iubU" or (y.dtype.kind == "f" and bool((y == np.floor(y)).all()))
        if not whole or y.ndim != 1:
            raise TypeError(
                f"y_{part} of {name} must be one class a sample, whole numbers or words, got {list(y.shape)} of "
                f"{y.dtype}."
            )
    if (y_train.dtype.kind == "U") != (y_test.dtype.kind == "U"):
        raise TypeError(f"y_train and y_test of {name} must both be words or both be numbers.")
    if x_train.shape[1:] != x_test.shape[1:]:
        raise ValueError(f"x_train and x_test of {name} have samples of {x_train.shape[1:]} and {x_test.shape[1:]}.")
    classes, codes = np.unique(np.concatenate([y_train, y_test]), return_inverse=True)
    y = torch.from_numpy(codes.astype(np.int64))
    x_train, x_test = (torch.from_numpy(x.astype(np.float32)) for x in (x_train, x_test))
    return Data(x_train, y[: len(y_train)], x_test, y[len(y_train) :], num_classes=len(classes))


def normalise(x: Tensor, mean: Tensor | None, std: Tensor | None) -> Tensor:
    """Standardise each channel (dimension 1); the input itself if there is nothing to do."""
    if mean is None or std is None:
        return x
    shape = (-1, *(1,) * (x.ndim - 2))
    return (x - mean.to(x).view(shape)) / std.to(x).view(shape)
