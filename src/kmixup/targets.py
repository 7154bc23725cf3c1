"""Labels, in one place: to soft targets, and compared with a model's outputs."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from kmixup.native import readable
from kmixup.structure import is_mixable, tensor_of


def soft_targets(y: Any, num_classes: int | None = None) -> Any:
    """Targets that can be averaged.

    Args:
        y: Class indices ``[B]`` or ``[B, 1]``, or soft, multi-label or regression targets ``[B, ...]``, which are
            floating point.
        num_classes: Number of classes C; needed for class indices. Where it is given, floating-point targets must have
            a dimension of that length: others are no distributions over these classes.

    Returns:
        One-hot float32 ``[B, C]`` for class indices; else ``y``, as float32 at least. numpy stays numpy.

    Raises:
        TypeError: If ``y`` is neither a tensor nor an array, or bool.
        ValueError: If classes are out of range, ``num_classes`` is missing or does not fit, integer labels are not
            ``[B]``, or an array has masked values.
    """
    if isinstance(y, np.ndarray):
        return soft_targets(tensor_of(y), num_classes).numpy()
    if not isinstance(y, Tensor):
        raise TypeError(
            f"y must be a tensor or a numpy array, got {type(y).__name__}. Use torch.as_tensor(y); labels of another "
            "structure go to plan.loss(loss_fn, outputs, y)."
        )
    if is_mixable(y):
        if num_classes is not None and num_classes not in y.shape[1:]:
            raise ValueError(
                f"soft targets must be [B, {num_classes}] for num_classes={num_classes}, got {y.dtype} "
                f"{list(y.shape)}. Give class indices as integers; for regression targets leave num_classes out."
            )
        return y.float() if y.dtype.itemsize < 4 else y
    if y.dtype == torch.bool:
        raise TypeError(
            "y must not be bool: use y.long() for two classes, y.float() for multi-label targets (arrays: astype)."
        )
    if num_classes is None:
        raise ValueError(
            f"num_classes is required to turn {y.dtype} labels into soft targets. Use KMixup(..., num_classes=C), "
            "or plan.loss(loss_fn, outputs, y) with class indices, or y.float() for regression targets."
        )
    if y.ndim == 2 and y.shape[1] == 1:
        y = y.squeeze(1)
    if y.ndim != 1:
        remedy = (
            "Mixing acts on batches: mix after the DataLoader or in its collate_fn"
            if y.ndim == 0
            else "Use plan.loss for maps of classes, floats for multi-label targets"
        )
        raise ValueError(f"integer labels must have shape [B] or [B, 1], got {list(y.shape)}. {remedy}.")
    soft = torch.zeros(y.shape[0], num_classes, dtype=torch.float32, device=y.device)
    try:
        return soft.scatter_(1, y.long().unsqueeze(1), 1.0)
    except RuntimeError:
        _refuse_outside(y, num_classes)
        raise


def refuse_unknown(y: Any, k: Tensor | None = None) -> None:
    """Refuse distributions over classes that are not finite: mixing would spread them. Looked at on the CPU only.

    Args:
        y: What `soft_targets` returned, ``[B, ...]``.
        k: Points per block of each row, ``[B]``, 0 for what is not mixed and not looked at; None if all are.

    Raises:
        ValueError: With the number of rows and the first.
    """
    y = tensor_of(y)
    if y.device.type != "cpu" or not readable(y) or bool(torch.isfinite(y.sum())):
        return
    bad = ~torch.isfinite(y).flatten(1).all(1)
    bad = bad if k is None else bad & (k.cpu() != 0)
    if bad.any():
        raise ValueError(
            f"soft targets have {int(bad.sum())} row(s) with NaN or infinite values, the first is row "
            f"{int(bad.nonzero()[0])}. Drop those rows, or train with plan.loss and a loss that leaves them out."
        )


def correct(
    outputs: Tensor, y: Tensor, *, multi_label: bool = False, ignore_index: int | None = -100
) -> tuple[Tensor, Tensor]:
    """Where a model's predictions are right, and where there is a label at all.

    Args:
        outputs: Scores ``[B, C, ...]``, of which the largest is predicted; one score per sample, ``[B]`` or
            ``[B, 1, ...]``, is a logit of class 1.
        y: Class indices ``[B, ...]`` or ``[B, 1, ...]``, or soft targets in the shape of the outputs.
        multi_label: Whether each of the C scores is a logit with a target of its own, in the shape of the outputs.
        ignore_index: Class index that marks what has no label.

    Returns:
        Two bool tensors ``[B, ...]``, with ``multi_label`` ``[B, C, ...]``.

    Raises:
        ValueError: If shapes do not fit, or the targets are not what they must be. Values are looked at on the CPU
            only.
    """
    soft = y.is_floating_point() or y.dtype == torch.bool
    if multi_label:
        if y.shape != outputs.shape:
            raise ValueError(
                f"multi-label targets must have the shape of the outputs {list(outputs.shape)}, got {list(y.shape)}."
            )
    elif outputs.ndim == 1 or outputs.shape[1] == 1:
        outputs = outputs if outputs.ndim == 1 else outputs.squeeze(1)
        y = _one_column(y, outputs.ndim)
        multi_label = True  # one logit against one target
    elif soft and y.shape == outputs.shape:
        sums = y.sum(1, dtype=torch.float32)
        _refuse_values(
            (sums - 1).abs() > 0.01,
            "soft targets must sum to one over dimension 1 (for several labels at once use multi_label=True)",
        )
        outputs, y, soft = outputs.argmax(1), y.argmax(1), False
    else:
        outputs = outputs.argmax(1)
        y = _one_column(y, outputs.ndim)
    if y.shape != outputs.shape or (soft and not multi_label):
        raise ValueError(
            f"labels must be class indices {list(outputs.shape)}, or soft targets in the shape of the outputs, "
            f"got {y.dtype} {list(y.shape)}."
        )
    there = labelled(y, ignore_index)
    if not multi_label:
        return outputs == y, there
    _refuse_values(there & ((y < 0) | (y > 1)), "targets of a logit must lie in [0, 1]")
    return (outputs > 0) == (y > 0.5), there


def labelled(y: Tensor, ignore_index: int | None) -> Tensor:
    """Where there is a label: where class indices are not ``ignore_index``; everywhere for other targets or None."""
    if ignore_index is None or is_mixable(y) or y.dtype == torch.bool:
        return torch.ones_like(y, dtype=torch.bool)
    return (y.int() if y.dtype == torch.uint8 else y) != ignore_index  # as uint8, -100 would be 156


def _one_column(y: Tensor, ndim: int) -> Tensor:
    return y.squeeze(1) if y.ndim == ndim + 1 and y.shape[1] == 1 else y


def _refuse_values(bad: Tensor, message: str) -> None:
    if bad.device.type == "cpu" and readable(bad) and bool(bad.any()):
        raise ValueError(f"{message}, got {int(bad.sum())} that do not.")


def _refuse_outside(y: Tensor, num_classes: int) -> None:
    outside = (y < 0) | (y >= num_classes)
    if outside.any():
        first = int(outside.nonzero()[0])
        raise ValueError(
            f"labels must lie in 0..{num_classes - 1} for num_classes={num_classes}, got {int(outside.sum())} outside, "
            f"the first {int(y[first])} at row {first}. Correct the labels or num_classes; plan.loss takes labels "
            "that its loss ignores."
        )
