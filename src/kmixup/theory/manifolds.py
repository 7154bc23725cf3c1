"""Definition 3.1: manifolds that carry data, with their distances and injectivity radii in closed form."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor


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
