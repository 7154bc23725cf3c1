"""Section 3.1: matched points stay near the manifold that carries the data, for k large enough."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from kmixup.assignment import assign, transport_cost
from kmixup.cost import cost_matrix

# Entries of the cost matrices that are held at once.
_CHUNK = 1 << 24


@dataclass(frozen=True)
class Manifold:
    """An embedded submanifold with a distribution on it.

    Attributes:
        name: For plots.
        dim: Intrinsic dimension d.
        sample: Draws ``n`` points from a positive density, float64, shape ``[n, ambient]``.
        distance: Euclidean distance to the manifold of points ``[..., ambient]``, shape ``[...]``.
        injectivity_radius: The smallest epsilon at which the epsilon-neighbourhood changes its homotopy type.

    Paper: Definition 3.1.
    """

    name: str
    dim: int
    sample: Callable[[int, torch.Generator | None], Tensor]
    distance: Callable[[Tensor], Tensor]
    injectivity_radius: float


def sphere(dim: int = 2, *, ambient: int | None = None, seed: int = 0) -> Manifold:
    """The unit sphere of the given dimension, uniform; ``sphere(1)`` is the circle.

    Its neighbourhoods keep their type until they reach the centre: the injectivity radius is 1.

    Args:
        dim: Intrinsic dimension, >= 1.
        ambient: Dimension of the space, >= dim + 1: the sphere lies in a random subspace. Default: dim + 1.
        seed: Of the random subspace.

    Returns:
        The manifold.

    Raises:
        ValueError: If a dimension is too small.

    Paper: Definition 3.1.
    """
    frame = _frame(dim + 1, ambient, seed)

    def sample(n: int, generator: torch.Generator | None = None) -> Tensor:
        flat = torch.randn(n, dim + 1, generator=generator, dtype=torch.float64)
        return flat / flat.norm(dim=-1, keepdim=True) @ frame

    def distance(points: Tensor) -> Tensor:
        flat, off = _split(points, frame)
        return torch.hypot(flat.norm(dim=-1) - 1, off)

    return Manifold("circle" if dim == 1 else f"{dim}-sphere", dim, sample, distance, 1.0)


def torus(dim: int = 2) -> Manifold:
    """The flat torus, a product of unit circles in twice as many dimensions, uniform; injectivity radius 1.

    Args:
        dim: Intrinsic dimension, >= 1.

    Returns:
        The manifold.

    Paper: Definition 3.1.
    """
    if dim < 1:
        raise ValueError(f"dim must be >= 1, got {dim}.")

    def sample(n: int, generator: torch.Generator | None = None) -> Tensor:
        angle = 2 * math.pi * torch.rand(n, dim, generator=generator, dtype=torch.float64)
        return torch.cat([angle.cos(), angle.sin()], dim=-1)

    def distance(points: Tensor) -> Tensor:
        return (torch.hypot(points[..., :dim], points[..., dim:]) - 1).norm(dim=-1)

    return Manifold(f"{dim}-torus", dim, sample, distance, 1.0)


def swiss_roll(*, ambient: int | None = None, height: float = 21.0, seed: int = 0) -> Manifold:
    r"""The swiss roll :math:`(t \cos t,\ h,\ t \sin t)`, t in [3 pi / 2, 9 pi / 2]: a rolled-up rectangle.

    Its neighbourhoods first close a tunnel where the inner edge meets the next sheet: half the distance between them.

    Args:
        ambient: Dimension of the space, >= 3: the roll lies in a random subspace. Default: 3.
        height: Range of h, from 0.
        seed: Of the random subspace.

    Returns:
        The manifold.

    Raises:
        ValueError: If ambient is too small.

    Paper: Definition 3.1.
    """
    frame = _frame(3, ambient, seed)
    low, high = 1.5 * math.pi, 4.5 * math.pi

    def sample(n: int, generator: torch.Generator | None = None) -> Tensor:
        u = torch.rand(n, 2, generator=generator, dtype=torch.float64)
        t = (low**2 + u[:, 0] * (high**2 - low**2)).sqrt()  # density proportional to t: nearly uniform in area
        return torch.stack([t * t.cos(), height * u[:, 1], t * t.sin()], dim=-1) @ frame

    def distance(points: Tensor) -> Tensor:
        flat, off = _split(points, frame)
        beyond = flat[..., 1] - flat[..., 1].clamp(0, height)
        in_plane = _spiral_distance(flat[..., [0, 2]].reshape(-1, 2), low, high).view(off.shape)
        return (in_plane.square() + beyond.square() + off.square()).sqrt()

    end = low * np.array([math.cos(low), math.sin(low)])
    t = low + 2 * math.pi + np.linspace(-1, 1, 20_001)
    to_next_sheet = np.hypot(t * np.cos(t) - end[0], t * np.sin(t) - end[1])  # flat at its minimum: 1e-9 exact here
    return Manifold("swiss roll", 2, sample, distance, float(to_next_sheet.min()) / 2)


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
        draws: Independent matchings per k.
        share: Mean share of pairs within the neighbourhood, per k.
        share_error: Its standard error.
        bound: `manifold_share_bound` at the mean squared cost.
        sq_cost: Mean of W_2^2, per k.
        sq_cost_error: Its standard error.
    """

    manifold: Manifold
    eps: float
    ks: tuple[int, ...]
    draws: tuple[int, ...]
    share: tuple[float, ...]
    share_error: tuple[float, ...]
    bound: tuple[float, ...]
    sq_cost: tuple[float, ...]
    sq_cost_error: tuple[float, ...]

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
        shares.append(share)
        costs.append(cost)
    return SupportStudy(
        manifold=manifold,
        eps=eps,
        ks=tuple(ks),
        draws=tuple(len(s) for s in shares),
        share=tuple(float(s.mean()) for s in shares),
        share_error=tuple(float(s.std()) / math.sqrt(len(s)) for s in shares),
        bound=tuple(float(manifold_share_bound(c.mean(), eps)) for c in costs),
        sq_cost=tuple(float(c.mean()) for c in costs),
        sq_cost_error=tuple(float(c.std()) / math.sqrt(len(c)) for c in costs),
    )


def matching_rate(k: Tensor, dim: int) -> Tensor:
    r"""Order of :math:`E\,W_2^2` between two k-samples of a smooth positive density on a connected manifold.

    .. math:: k^{-1} \ (d = 1), \qquad k^{-1} \log k \ (d = 2), \qquad k^{-2/d} \ (d \ge 3)

    The proof of Proposition 3.2 takes :math:`k^{-2/d}` in every dimension, which is too fast for d = 1 and, by a
    logarithm, for d = 2. (On several clusters no dimension does better than :math:`k^{-1/2}`, by Theorem 3.4.)

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
    cost = cost_matrix(x, y)
    sigma = assign(cost)
    matched = y.gather(-2, sigma.unsqueeze(-1).expand_as(y))
    return (excursion(x, matched, distance) < eps).double().mean(-1), transport_cost(cost, sigma)


def _frame(dim: int, ambient: int | None, seed: int) -> Tensor:
    """Orthonormal rows that span a random subspace; the identity if the space has no room for it."""
    ambient = dim if ambient is None else ambient
    if dim < 2 or ambient < dim:
        raise ValueError(f"ambient must be >= {max(dim, 2)} for this manifold, got {ambient}.")
    if ambient == dim:
        return torch.eye(dim, dtype=torch.float64)
    gaussian = torch.randn(ambient, dim, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return torch.linalg.qr(gaussian)[0].T.contiguous()


def _split(points: Tensor, frame: Tensor) -> tuple[Tensor, Tensor]:
    """Coordinates in the subspace, and the distance from it."""
    flat = points @ frame.T
    return flat, (points - flat @ frame).norm(dim=-1)


def _spiral_distance(points: Tensor, low: float, high: float) -> Tensor:
    """Distance of points in the plane to the spiral r = t, t in [low, high]: Newton's method from every sheet."""
    rho, phi = torch.hypot(points[:, 0], points[:, 1]), torch.atan2(points[:, 1], points[:, 0])
    # |c(t) - p|^2 / 2 is stationary where sin(t - phi) = cos(t - phi) / t - 1 / rho; minimal on the branch near 0.
    first = phi - torch.asin((1 / rho.clamp_min(1e-300)).clamp_max(1))
    sheets = 2 * math.pi * torch.arange(1 + math.ceil(high / (2 * math.pi)), dtype=points.dtype)
    ends = torch.tensor([low, high], dtype=points.dtype).expand(len(points), 2)
    t = torch.cat([first.unsqueeze(1) + sheets, ends], dim=1).clamp(low, high)
    rho, phi = rho.unsqueeze(1), phi.unsqueeze(1)
    for _ in range(6):
        sin, cos = (t - phi).sin(), (t - phi).cos()
        slope = t - rho * cos + t * rho * sin
        curvature = (1 + 2 * rho * sin + t * rho * cos).clamp_min(1)
        t = (t - (slope / curvature).clamp(-0.3, 0.3)).clamp(low, high)  # a longer step could leave the sheet
    foot = torch.stack([t * t.cos(), t * t.sin()], dim=-1)
    return (foot - points.unsqueeze(1)).norm(dim=-1).amin(1)
