"""Section 3.1: matched points stay near the manifold that carries the data, for k large enough."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from kmixup.estimate import Estimate
from kmixup.matching import match_blocks
from kmixup.theory.manifolds import Manifold

# Entries of the cost matrices that are held at once.
_CHUNK = 1 << 24


def excursion(x: Tensor, y: Tensor, distance: Callable[[Tensor], Tensor], *, steps: int = 17) -> Tensor:
    r"""How far the segment between two points of a manifold leaves it.

    .. math:: \max_{\lambda \in [0, 1]} d\big(\lambda x + (1-\lambda) y,\ S\big) \le \tfrac12 \|x - y\|

    The largest over ``steps`` values of lam, midpoint included; at most ``|x - y| / (2 steps - 2)`` too small.

    Args:
        x: Points on the manifold, shape ``[..., d]``.
        y: Points on the manifold, same shape.
        distance: Distance to the manifold, ``[..., d] -> [...]``.
        steps: Odd number of values of lam, >= 3.

    Returns:
        The excursions, shape ``[...]``.

    Raises:
        ValueError: If steps is even or too small.

    Paper: Proposition 3.2.
    """
    if steps < 3 or steps % 2 == 0:
        raise ValueError(f"steps must be odd and >= 3, so that the midpoint is among them, got {steps}.")
    lam = torch.linspace(0, 1, steps, dtype=x.dtype)[1:-1]
    return torch.stack([distance(value * x + (1 - value) * y) for value in lam]).amax(0)


def manifold_share(x: Tensor, y: Tensor, distance: Callable[[Tensor], Tensor], eps: float) -> Tensor:
    r"""Share of the matched pairs whose segment stays within :math:`B_\epsilon(S)`.

    Args:
        x: One k-sample, shape ``[..., k, d]``.
        y: The other, same shape.
        distance: Distance to the manifold.
        eps: Radius of the neighbourhood, > 0; `Manifold.injectivity_radius` is the paper's choice.

    Returns:
        Shares, float64, shape ``[...]``.

    Paper: Proposition 3.2.
    """
    return _share_and_cost(x, y, distance, eps)[0]


def manifold_share_bound(sq_cost: float | Tensor, eps: float) -> float | Tensor:
    r"""Proposition 3.2 made quantitative, for every pair of k-samples: Markov's inequality on the matched distances.

    A segment that leaves the neighbourhood is at least :math:`2\epsilon` long, so

    .. math:: \text{share within } B_\epsilon(S) \ \ge\ 1 - \frac{W_2^2}{4 \epsilon^2}.

    Args:
        sq_cost: :math:`W_2^2` of the two k-samples.
        eps: Radius of the neighbourhood, > 0.

    Returns:
        The lower bound, not below 0.

    Paper: Proposition 3.2.
    """
    bound = 1 - sq_cost / (4 * eps**2)
    return bound.clamp_min(0) if isinstance(bound, Tensor) else max(0.0, bound)


@dataclass(frozen=True)
class SupportStudy:
    """Matchings of independent k-samples of a manifold, over a range of k.

    Attributes:
        manifold: The manifold.
        eps: Radius of the neighbourhood.
        ks: Values of k.
        shares: Share of pairs within the neighbourhood, over independent matchings, per k.
        sq_costs: W_2^2, over the same matchings, per k.
    """

    manifold: Manifold
    eps: float
    ks: tuple[int, ...]
    shares: tuple[Estimate, ...]
    sq_costs: tuple[Estimate, ...]

    @property
    def draws(self) -> tuple[int, ...]:
        """Independent matchings per k."""
        return tuple(share.n for share in self.shares)

    @property
    def share(self) -> tuple[float, ...]:
        """Mean share of pairs within the neighbourhood, per k."""
        return tuple(share.mean for share in self.shares)

    @property
    def share_error(self) -> tuple[float, ...]:
        """Its standard error."""
        return tuple(share.std_error for share in self.shares)

    @property
    def bound(self) -> tuple[float, ...]:
        """`manifold_share_bound` at the mean squared cost, per k."""
        return tuple(float(manifold_share_bound(cost.mean, self.eps)) for cost in self.sq_costs)

    @property
    def sq_cost(self) -> tuple[float, ...]:
        """Mean of W_2^2, per k."""
        return tuple(cost.mean for cost in self.sq_costs)

    @property
    def sq_cost_error(self) -> tuple[float, ...]:
        """Its standard error."""
        return tuple(cost.std_error for cost in self.sq_costs)

    def slope(self, from_k: int = 1) -> float:
        """Slope of log W_2^2 against log k, least squares over the ks from ``from_k`` on.

        Raises:
            ValueError: If fewer than two ks are left.
        """
        kept = [(k, cost) for k, cost in zip(self.ks, self.sq_cost, strict=True) if k >= from_k]
        if len(kept) < 2:
            raise ValueError(f"from_k must leave at least two of the ks {list(self.ks)}, got {from_k}.")
        log_k, log_cost = np.log(np.array(kept)).T
        return float(np.polyfit(log_k, log_cost, 1)[0])


def study_support(
    manifold: Manifold,
    ks: Sequence[int],
    *,
    eps: float | None = None,
    pairs: int = 4096,
    min_draws: int = 8,
    generator: torch.Generator | None = None,
) -> SupportStudy:
    """Measure Proposition 3.2: match independent k-samples of a manifold and count the segments that stay near it.

    Args:
        manifold: Where the samples come from.
        ks: Values of k.
        eps: Radius of the neighbourhood; default: a quarter of the injectivity radius.
        pairs: Matched pairs per k, at least.
        min_draws: Matchings per k, at least.
        generator: Source of randomness; default: torch's global generator.

    Returns:
        The study.

    Paper: Proposition 3.2.
    """
    eps = manifold.injectivity_radius / 4 if eps is None else eps
    shares, costs = [], []
    for k in ks:
        draws = max(min_draws, -(-pairs // k))
        parts = []
        at_once = max(1, _CHUNK // k**2)
        for start in range(0, draws, at_once):
            n = min(at_once, draws - start)
            x, y = (manifold.sample(n * k, generator).view(n, k, -1) for _ in range(2))
            parts.append(_share_and_cost(x, y, manifold.distance, eps))
        share, cost = (torch.cat(column) for column in zip(*parts, strict=True))
        shares.append(Estimate.of(share))
        costs.append(Estimate.of(cost))
    return SupportStudy(manifold, eps, tuple(ks), tuple(shares), tuple(costs))


def matching_rate(k: Tensor, dim: int) -> Tensor:
    r"""Order of :math:`E\,W_2^2` between two k-samples of a smooth positive density on a compact connected manifold.

    .. math:: k^{-1} \ (d = 1), \qquad k^{-1} \log k \ (d = 2), \qquad k^{-2/d} \ (d \ge 3)

    The proof of Proposition 3.2 takes :math:`k^{-2/d}` in every dimension, which is too fast for d = 1 and, by a
    logarithm, for d = 2. (On several clusters no dimension does better than :math:`k^{-1/2}`, by Theorem 3.4; where the
    support is not compact, heavy tails are slower still.)

    Args:
        k: Sample sizes, > 1.
        dim: Intrinsic dimension, >= 1.

    Returns:
        The rate without its constant, same shape as ``k``.

    Paper: Proposition 3.2.
    """
    if dim < 1:
        raise ValueError(f"dim must be >= 1, got {dim}.")
    if dim == 1:
        return 1 / k
    return k.log() / k if dim == 2 else k ** (-2 / dim)


def _share_and_cost(x: Tensor, y: Tensor, distance: Callable[[Tensor], Tensor], eps: float) -> tuple[Tensor, Tensor]:
    sigma = match_blocks(x, y, x.shape[-2])
    matched = y.gather(-2, sigma.unsqueeze(-1).expand_as(y))
    share = (excursion(x, matched, distance) < eps).double().mean(-1)
    return share, (x - matched).square().sum(-1).mean(-1)
