"""Theorem 3.5: crossing matches gather where two clusters face each other."""

from __future__ import annotations

import math
from collections.abc import Callable

from torch import Tensor

from kmixup.matching import match_blocks


def printed_band(radius_a: float, radius_b: float, gap: float) -> float:
    r"""The epsilon of Theorem 3.5 as printed: :math:`\max(R_A, R_B)^2 / D^2`.

    Its proof bounds what a match within a cluster can gain by the squared radius; two points of a ball can be a
    diameter apart. See `safe_band`.

    Args:
        radius_a: R_A, radius of A.
        radius_b: R_B, radius of B.
        gap: D, distance between A and B, > 0.

    Returns:
        epsilon.

    Paper: Theorem 3.5.
    """
    return max(radius_a, radius_b) ** 2 / gap**2


def safe_band(diameter_a: float, diameter_b: float, gap: float) -> float:
    r"""Theorem 3.5 holds for every epsilon above this one, for all compact clusters, connected or not.

    .. math:: \epsilon = \sqrt{1 + (\mathrm{diam}_A^2 + \mathrm{diam}_B^2) / D^2} - 1

    Let (a0, b0) be nearest points of A and B. For k large, more matches than those that cross start near a0 and stay
    in A, and as many end near b0 and stay in B. Let (a, b) cross with a outside A_epsilon, and take (p, q) in A with p
    near a0, (p', q') in B with q' near b0. The matches (p, q'), (a, q), (p', b) cost at most about
    :math:`D^2 + \mathrm{diam}_A^2 + \mathrm{diam}_B^2`; (a, b) alone costs :math:`D^2 (1 + \epsilon)^2` at least.

    For connected clusters every epsilon > 0 will do as k grows: the surplus can be handed on within A in many short
    hops, whose squared lengths sum to as little as one likes.

    Args:
        diameter_a: Largest distance of two points of A.
        diameter_b: Of B.
        gap: D, distance between A and B, > 0.

    Returns:
        epsilon.

    Paper: Theorem 3.5.
    """
    return math.sqrt(1 + (diameter_a**2 + diameter_b**2) / gap**2) - 1


def band_matches(
    x: Tensor, y: Tensor, distance: Callable[[Tensor], Tensor], gap: float, eps: float
) -> tuple[Tensor, Tensor]:
    r"""Matches between two clusters A and B, and those with both ends in the bands :math:`A_\epsilon, B_\epsilon`.

    A_epsilon is the part of A less than D(1 + epsilon) from B, and B_epsilon likewise.

    Args:
        x: One k-sample, shape ``[..., k, d]``.
        y: The other.
        distance: Distances of points ``[..., d]`` to A and to B, shape ``[..., 2]``.
        gap: D, distance between A and B.
        eps: Width of the bands, for example `printed_band`.

    Returns:
        Number of crossing matches in the bands, and of all crossing matches, int64, shape ``[...]`` each.

    Paper: Theorem 3.5.
    """
    sigma = match_blocks(x, y, x.shape[-2])
    to_x, to_y = distance(x), distance(y)
    to_y = to_y.gather(-2, sigma.unsqueeze(-1).expand_as(to_y))
    cross = to_x.argmin(-1) != to_y.argmin(-1)
    # A point is in one cluster, at distance 0; the larger of its two distances is to the other.
    in_band = (to_x.amax(-1) < gap * (1 + eps)) & (to_y.amax(-1) < gap * (1 + eps))
    return (cross & in_band).sum(-1), cross.sum(-1)
