"""What a mixing does to a batch: distances and label agreement of its pairs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from kmixup.structure import as_real, tensor_of


@dataclass(frozen=True)
class MixStats:
    """What one plan does to one batch.

    Attributes:
        matched_sq_distance: Mean squared Euclidean distance between a sample and its partner.
        unmatched_sq_distance: The same without the matching, under the identity pairing of the same blocks.
        self_share: Share of samples that are their own partner, in [0, 1].
        same_class_share: Share of pairs with equal labels, in [0, 1]; None without labels.
    """

    matched_sq_distance: float
    unmatched_sq_distance: float
    self_share: float
    same_class_share: float | None


def mean_sq_distance(x: Mapping[str, Any], partners: Mapping[str, Any]) -> float:
    """Mean squared Euclidean distance between samples and partners, leaves of one sample taken together.

    Args:
        x: What is mixed of the samples by name, batch first.
        partners: That of the sample that each is mixed with.
    """
    return float(sum((_flat(x[name]) - _flat(partners[name])).square().sum(1).mean() for name in x))


def same_class_share(y: Any, partners: Any) -> float:
    """Share of pairs with equal labels.

    Args:
        y: Class indices ``[b]``, or soft targets ``[b, C]`` whose largest entry counts.
        partners: The label of the sample that each is mixed with.
    """
    y, partners = tensor_of(y), tensor_of(partners)
    if y.is_floating_point() and y.ndim > 1:
        y, partners = y.argmax(1), partners.argmax(1)
    return float((y == partners).cpu().double().mean())


def _flat(x: Any) -> Tensor:
    x = as_real(tensor_of(x))
    return x.reshape(len(x), -1).to(torch.promote_types(x.dtype, torch.float32))
