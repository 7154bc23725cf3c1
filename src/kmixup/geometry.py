"""The shape of labelled data: whether mixing runs into a class of neither, and the dimension of the data."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from kmixup.cost import cost_matrix


def intrusions(
    ends: tuple[Tensor, Tensor],
    labels: tuple[Tensor, Tensor],
    reference: Tensor,
    reference_labels: Tensor,
    own: Tensor,
) -> Tensor:
    """Whether the midpoint of each pair lies nearest to a sample of neither's class: manifold intrusion.

    There mixup teaches a label that the data contradict (Guo et al., "MixUp as Locally Linear Out-Of-Manifold
    Regularization", AAAI 2019).

    Args:
        ends: Both points of each pair, shape ``[B, D]`` each.
        labels: Their classes, int64, shape ``[B]`` each.
        reference: Samples among which the nearest is sought, shape ``[R, D]``.
        reference_labels: Their classes, int64, shape ``[R]``.
        own: Which of them are the pair's own points and do not count, bool, shape ``[B, R]``; one at least counts.

    Returns:
        bool, shape ``[B]``.
    """
    centre = reference.mean(0)
    midpoints = ((ends[0] - centre) + (ends[1] - centre)) / 2
    distance = cost_matrix(midpoints, reference - centre)
    nearest = reference_labels[distance.masked_fill(own, math.inf).argmin(1)]
    return (nearest != labels[0]) & (nearest != labels[1])


def intrinsic_dimension(points: Tensor, *, neighbours: int = 10) -> float | None:
    r"""Dimension of the surface that the points lie on, from how fast neighbours gather around them.

    .. math:: \hat d^{-1} = \frac{1}{n (m - 1)} \sum_i \sum_{j < m} \log \frac{T_m(x_i)}{T_j(x_i)}

    with T_j the distance of the j-th neighbour: the maximum likelihood estimate of Levina and Bickel (NIPS 2004),
    averaged as MacKay and Ghahramani (2005) corrected it. Edges of the data bias it down, noise up.

    Args:
        points: Shape ``[n, D]``; of equal points one counts.
        neighbours: m, fewer if there are fewer.

    Returns:
        The dimension; None if fewer than four different points are left, or all neighbours are equally far.
    """
    points = torch.unique(points - points.mean(0), dim=0)
    m = min(neighbours, len(points) - 1)
    if m < 3:
        return None
    distance = cost_matrix(points, points, "euclidean").fill_diagonal_(math.inf)
    nearest = distance.topk(m, largest=False).values
    inverse = float((nearest[:, -1:] / nearest[:, :-1]).log().mean())
    return 1 / inverse if inverse > 0 else None
