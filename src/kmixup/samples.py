"""Structured batches: what is matched, what is mixed, where the labels are."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

from kmixup.plan import tensor_of

_LABEL_KEYS = ("label", "labels", "target", "targets", "y")


def points_of(x: Any, features: Callable[[Any], Any] | None, name: str = "x") -> Tensor:
    """The tensor that is matched, detached: gradients never flow through the matching.

    Args:
        x: Inputs, a tensor, an array or a pytree, batch first.
        features: From the inputs to what is matched; None for the inputs themselves.
        name: What the inputs are called in messages.

    Returns:
        Points, floating point, shape ``[B, ...]``.

    Raises:
        TypeError: If nothing is floating point.
        ValueError: If there are several candidates, or no samples.
    """
    points, source = x, name
    if features is not None:
        source = f"features({name})"
        with torch.no_grad():
            points = features(x)
    leaves = [points] if isinstance(points, Tensor) else tree_leaves(points)
    leaves = [leaf for leaf in leaves if is_floating(leaf)]
    if len(leaves) != 1:
        found = ", ".join(_describe(leaf) for leaf in tree_leaves(points)[:4])
        if len(leaves) > 1:
            raise ValueError(
                f"{source} must hold one floating-point tensor to match on, got {len(leaves)} ({found}). "
                "Choose with KMixup(features=lambda x: ...)."
            )
        raise TypeError(f"{source} must be floating point, got {found}. Convert it with .float(), images to [0, 1].")
    points = tensor_of(leaves[0]).detach()
    if points.ndim == 0 or points.shape[0] == 0:
        raise ValueError(f"{source} must be a batch of at least one sample, got shape {list(points.shape)}.")
    return points


def label_key(sample: Mapping[str, Any], getter: Callable[[Mapping[str, Any]], Any] | None) -> str:
    """The key of the labels of a dict sample.

    Args:
        sample: The sample.
        getter: From the sample to its labels, as in torchvision v2, or to their key; None for the usual names.

    Raises:
        ValueError: If there is not exactly one.
    """
    if getter is None:
        keys = [key for key in sample if key in _LABEL_KEYS]
    else:
        found = getter(sample)
        keys = [found] if isinstance(found, str) else [key for key, value in sample.items() if value is found]
    if len(keys) != 1 or keys[0] not in sample:
        raise ValueError(
            f"the labels must be one of the keys {list(sample)}, found {keys}. "
            'Use KMixup(labels_getter=lambda sample: sample["..."]).'
        )
    return keys[0]


def floating_inputs(sample: Mapping[str, Any], labels: str) -> dict[str, Any]:
    """What of a dict sample is mixed beside its labels: the floating-point entries. Ids and paths are not.

    Raises:
        TypeError: If there is nothing to mix, or images are integers.
    """
    rest = {key: value for key, value in sample.items() if key != labels}
    floating = {key: value for key, value in rest.items() if is_floating(value)}
    images = [k for k, v in rest.items() if isinstance(v, Tensor) and v.ndim > 2 and not v.is_floating_point()]
    if images or not floating:
        raise TypeError(f"no floating-point inputs to mix under {images or list(rest)}. Convert images to float first.")
    return floating


def is_floating(leaf: Any) -> bool:
    """Whether a leaf is a floating-point tensor or array."""
    if isinstance(leaf, np.ndarray):
        return np.issubdtype(leaf.dtype, np.floating)
    return isinstance(leaf, Tensor) and leaf.is_floating_point()


def _describe(leaf: Any) -> str:
    return f"{leaf.dtype} {list(leaf.shape)}" if isinstance(leaf, (Tensor, np.ndarray)) else type(leaf).__name__
