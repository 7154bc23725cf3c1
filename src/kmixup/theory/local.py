"""The locally-informed distributions D_i: whom k-mixup mixes each point with, and how often."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import combinations

import torch
from torch import Tensor

from kmixup.matching import match_blocks

# Every pair of k-subsets is one assignment and k partners in memory.
_MAX_PARTNERS = 50_000_000
_CHUNK = 1 << 22


@dataclass(frozen=True)
class Couplings:
    """The optimal matchings of every k-subset of the data with every other.

    Attributes:
        gamma: All k-subsets, as indices into the data, int64, shape ``[G, k]`` with ``G = C(N, k)``.
        partner: ``partner[g, z, i]`` is the index of the point that ``gamma[g, i]`` is matched with in subset ``z``,
            int64, shape ``[G, G, k]``.
        n: Number of data points, N.
    """

    gamma: Tensor
    partner: Tensor
    n: int


def all_couplings(x: Tensor, k: int) -> Couplings:
    r"""Enumerate the matchings :math:`\sigma_{\gamma\zeta}` of all pairs of k-subsets.

    The matching of (zeta, gamma) is the inverse of that of (gamma, zeta), and that of a subset with itself the
    identity. Generic points have no other optimal matchings; under ties this choice keeps the symmetry that the
    theorems of Section 4 rest on.

    Args:
        x: Data, shape ``[N, ...]``; samples are flattened.
        k: Points per subset, between 1 and N.

    Returns:
        The couplings: :math:`\binom Nk^2` matchings.

    Raises:
        ValueError: If k is out of range, or there are too many pairs of subsets to enumerate.

    Paper: Section 2, the k-mixup loss over all k-subsets.
    """
    points = _points(x, k)
    subsets = math.comb(len(points), k)
    if subsets * subsets * k > _MAX_PARTNERS:
        raise ValueError(
            f"k must leave at most {_MAX_PARTNERS:.0e} partners to enumerate, got C({len(points)}, {k})^2 * {k} = "
            f"{subsets**2 * k:.1e}. Pass draws=... to local_distributions to sample them instead."
        )
    gamma = torch.tensor(list(combinations(range(len(points)), k)))
    partner = gamma.new_empty(subsets, subsets, k)
    diagonal = torch.arange(subsets)
    partner[diagonal, diagonal] = gamma
    upper = torch.triu_indices(subsets, subsets, offset=1)
    for g, z in upper.split(max(1, _CHUNK // k**2), dim=1) if subsets > 1 else ():
        sigma = match_blocks(points[gamma[g]], points[gamma[z]], k)
        partner[g, z] = gamma[z].gather(1, sigma)
        partner[z, g] = gamma[g].gather(1, sigma.argsort(1))
    return Couplings(gamma, partner, len(points))


def local_distributions(
    x: Tensor, k: int, *, draws: int | None = None, generator: torch.Generator | None = None
) -> Tensor:
    r"""The locally-informed distributions :math:`\mathcal D_1, \dots, \mathcal D_N`, one a row.

    .. math::
        \mathcal D_i = \frac{1}{\binom{N-1}{k-1}\binom Nk} \sum_{\gamma \ni i} \sum_\zeta
        \delta_{\sigma_{\gamma\zeta}(x_i)}

    Exact rows and columns sum to one and the matrix is symmetric. For k = 1 every entry is 1/N; for k = N every point
    is its own partner.

    Args:
        x: Data, shape ``[N, ...]``; samples are flattened.
        k: Points per k-subset, between 1 and N.
        draws: None enumerates all pairs of k-subsets. Otherwise the least number of pairs to sample: an entry D has a
            standard error of about ``sqrt(D N / (2 k draws))``, up to sqrt(2) times that on the diagonal.
        generator: Source of randomness when sampling; default: torch's global generator.

    Returns:
        ``D``, float64, shape ``[N, N]``: ``D[i, j]`` is the probability that i is mixed with j.

    Raises:
        ValueError: If k or draws is out of range, there is too much to enumerate, or a point is in none of the draws.

    Paper: Section 4, the locally-informed distribution D_i.
    """
    if draws is None:
        couplings = all_couplings(x, k)
        counts = _count(couplings.gamma.unsqueeze(1).expand_as(couplings.partner), couplings.partner, couplings.n)
        return counts / (math.comb(couplings.n - 1, k - 1) * math.comb(couplings.n, k))
    points = _points(x, k)
    n = len(points)
    if draws < 1:
        raise ValueError(f"draws must be >= 1, got {draws}. Leave it out to enumerate all pairs of k-subsets.")
    counts = torch.zeros(n, n, dtype=torch.float64)
    # Cutting one random order of the data into blocks gives n // k subsets, each of them uniform.
    blocks = n // k
    rounds = -(-draws // blocks)
    for size in _chunks(rounds, blocks * k * k):
        gamma, zeta = (_random_subsets(size, n, blocks * k, generator).reshape(-1, k) for _ in range(2))
        partner = zeta.gather(1, match_blocks(points[gamma], points[zeta], k))
        counts += _count(gamma, partner, n)
    counts += counts.T.clone()  # (zeta, gamma) is as likely as (gamma, zeta), and matched alike
    drawn = counts.sum(1, keepdim=True)
    if (missed := int((drawn == 0).sum())) > 0:
        raise ValueError(f"draws={draws} left {missed} of {n} points out of every k-subset. Draw more.")
    return counts / drawn


def local_distribution(
    x: Tensor, k: int, index: int, *, draws: int, generator: torch.Generator | None = None
) -> Tensor:
    r"""One locally-informed distribution :math:`\mathcal D_i`, by Monte Carlo: the paper's Figure 3.

    Every draw is a k-subset that holds the point, and an independent k-subset it is matched with.

    Args:
        x: Data, shape ``[N, ...]``; samples are flattened.
        k: Points per k-subset, between 1 and N.
        index: Which point, i.
        draws: Number of independent draws of its partner.
        generator: Source of randomness; default: torch's global generator.

    Returns:
        Relative frequencies of the partners, float64, shape ``[N]``, with sum one.

    Raises:
        ValueError: If an argument is out of range.

    Paper: Figure 3.
    """
    points = _points(x, k)
    n = len(points)
    if not 0 <= index < n:
        raise ValueError(f"index must be between 0 and {n - 1}, got {index}.")
    if draws < 1:
        raise ValueError(f"draws must be >= 1, got {draws}.")
    counts = torch.zeros(n, dtype=torch.float64)
    for size in _chunks(draws, max(n, k * k)):
        others = _random_subsets(size, n - 1, k - 1, generator)
        others = others + (others >= index)  # skip the point itself
        gamma = torch.cat([torch.full((size, 1), index), others], dim=1)
        zeta = _random_subsets(size, n, k, generator)
        sigma = match_blocks(points[gamma], points[zeta], k)
        counts += torch.bincount(zeta.gather(1, sigma[:, :1]).flatten(), minlength=n)
    return counts / draws


def _points(x: Tensor, k: int) -> Tensor:
    if x.ndim < 2 or not x.is_floating_point():
        raise ValueError(f"x must be floating-point data [N, ...] with N >= 1, got {x.dtype} {list(x.shape)}.")
    if not 1 <= k <= len(x):
        raise ValueError(f"k must be between 1 and the number of points {len(x)}, got {k}.")
    return x.detach().flatten(1)


def _count(start: Tensor, partner: Tensor, n: int) -> Tensor:
    """How often each point (row) was matched with each (column), float64 ``[n, n]``."""
    return torch.bincount((start * n + partner).flatten(), minlength=n * n).view(n, n).double()


def _random_subsets(rows: int, n: int, size: int, generator: torch.Generator | None) -> Tensor:
    """Uniform subsets of ``range(n)`` in random order, int64 ``[rows, size]``."""
    # float64 keys: in float32, ties among many keys would favour some subsets.
    return torch.rand(rows, n, generator=generator, dtype=torch.float64).topk(size, dim=1).indices


def _chunks(total: int, cost_each: int) -> list[int]:
    """Sizes that sum to ``total``, each small enough for its cost matrices to fit in memory."""
    size = max(1, _CHUNK // cost_each)
    return [min(size, total - start) for start in range(0, total, size)]
