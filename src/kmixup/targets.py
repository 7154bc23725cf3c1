"""Labels to soft targets, in one place."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from kmixup.plan import tensor_of


def soft_targets(y: Any, num_classes: int | None = None) -> Any:
    """Targets that can be averaged.

    Args:
        y: Class indices ``[B]``, or soft, multi-label or regression targets ``[B, ...]``, which are floating point.
        num_classes: Number of classes C; needed for class indices.

    Returns:
        One-hot float32 ``[B, C]`` for class indices; else ``y``, as float32 at least. numpy stays numpy.

    Raises:
        TypeError: If ``y`` is neither a tensor nor an array, or bool.
        ValueError: If classes are out of range, ``num_classes`` is missing, or integer labels are not ``[B]``.
    """
    if isinstance(y, np.ndarray):
        return soft_targets(tensor_of(y), num_classes).numpy()
    if not isinstance(y, Tensor):
        raise TypeError(f"y must be a tensor or a numpy array, got {type(y).__name__}. Use torch.as_tensor(y).")
    if y.is_floating_point():
        return y.float() if y.dtype.itemsize < 4 else y
    if y.dtype == torch.bool:
        raise TypeError("y must not be bool: use y.long() for two classes, y.float() for multi-label targets.")
    if num_classes is None:
        raise ValueError(
            f"num_classes is required to turn {y.dtype} labels into soft targets. Use KMixup(..., num_classes=C), "
            "or plan.loss(loss_fn, outputs, y) with class indices, or y.float() for regression targets."
        )
    if y.ndim != 1:
        raise ValueError(
            f"integer labels must have shape [B], got {list(y.shape)}. Use plan.loss for masks, y.float() for "
            "multi-label targets."
        )
    soft = torch.zeros(y.shape[0], num_classes, device=y.device)
    try:
        return soft.scatter_(1, y.long().unsqueeze(1), 1.0)
    except RuntimeError:
        _refuse_outside(y, num_classes)
        raise


def _refuse_outside(y: Tensor, num_classes: int) -> None:
    outside = (y < 0) | (y >= num_classes)
    if outside.any():
        first = int(outside.nonzero()[0])
        raise ValueError(
            f"labels must lie in 0..{num_classes - 1} for num_classes={num_classes}, got {int(outside.sum())} outside, "
            f"the first {int(y[first])} at row {first}. Correct the labels or num_classes."
        )
