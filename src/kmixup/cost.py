"""Cost matrices: what it costs to move each point of one set to each point of another, every entry accurate."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from kmixup import native
from kmixup.structure import given_tensor

Metric = Literal["sqeuclidean", "euclidean", "cosine"] | Callable[[Tensor, Tensor], Tensor]

METRICS = ("sqeuclidean", "euclidean", "cosine")

# |x|^2 + |y|^2 - 2xy rounds off about 4 eps (|x|^2 + |y|^2). Entries below this share of |x|^2 + |y|^2 would keep fewer
# than six correct digits in float32 (eleven in float64).
_CANCELLATION = {torch.float32: 0.1, torch.float64: 1e-4}

# Up to this many coordinates, distances are taken from differences at once.
_FEW = 16


def cost_matrix(x: Tensor | np.ndarray, y: Tensor | np.ndarray, metric: Metric = "sqeuclidean") -> Tensor:
    r"""Cost of moving each point of ``x`` to each point of ``y``.

    .. math:: C_{ij} = \|x_i - y_j\|^2, \quad \|x_i - y_j\| \quad\text{or}\quad 1 - \cos(x_i, y_j)

    Entries are accurate to a few units of rounding, also for data far from the origin. Half precision is computed in
    float32.

    Args:
        x: Points, a tensor or an array, shape ``[..., k, d]``.
        y: Points, shape ``[..., m, d]``.
        metric: ``"sqeuclidean"``, ``"euclidean"``, ``"cosine"`` (a zero vector is at distance 1 from everything), or a
            function of ``x`` and ``y`` that returns costs ``[..., k, m]``.

    Returns:
        Costs, shape ``[..., k, m]``, float32 or float64; differentiable in the points.

    Raises:
        TypeError: If points are neither a tensor nor an array.
        ValueError: If the shapes do not fit, the metric is unknown, or a metric function returns another shape.

    Paper: Section 2, the optimal map between two k-samples.
    """
    x, y = given_tensor(x, "x"), given_tensor(y, "y")
    if x.ndim < 2 or y.ndim < 2 or x.shape[-1] != y.shape[-1] or x.shape[:-2] != y.shape[:-2]:
        raise ValueError(
            f"x and y must be [..., k, d] and [..., m, d] with equal leading shape and d, "
            f"got {list(x.shape)} and {list(y.shape)}. Flatten each point to one row first."
        )
    if callable(metric):
        return _of_function(metric, x, y)
    if metric not in METRICS:
        raise ValueError(f"metric must be one of {', '.join(METRICS)} or a function of (x, y), got {metric!r}.")
    x, y = (_at_least_float32(points.resolve_neg()) for points in (x, y))
    if native.takes(x, metric) and native.takes(y, metric) and x.dtype == y.dtype:
        return native.costs(x, y, metric)
    with _full_precision(x.device):
        if metric == "cosine":
            return _cosine(x, y)
        if metric == "euclidean":
            return _distances(x, y) if x.shape[-1] <= _FEW else _root(_sq_distances(x, y))
        return _sq_distances(x, y)


def _of_function(metric: Callable[[Tensor, Tensor], Tensor], x: Tensor, y: Tensor) -> Tensor:
    cost = metric(x, y)
    expected = [*x.shape[:-1], y.shape[-2]]
    if not isinstance(cost, Tensor) or list(cost.shape) != expected:
        got = list(cost.shape) if isinstance(cost, Tensor) else type(cost).__name__
        raise ValueError(
            f"metric must return a tensor of costs {expected} for points {list(x.shape)} and {list(y.shape)}, "
            f"got {got}. Return one cost per pair and keep the leading dimensions."
        )
    return _at_least_float32(cost)


def _at_least_float32(x: Tensor) -> Tensor:
    return x if x.dtype in (torch.float32, torch.float64) else x.float()


def _full_precision(device: torch.device) -> AbstractContextManager[Any]:
    """Under autocast a matrix product would run in half precision and lose the digits that decide the matching."""
    on = torch.is_autocast_enabled(device.type)
    return torch.autocast(device.type, enabled=False) if on else nullcontext()


def _distances(x: Tensor, y: Tensor) -> Tensor:
    """Euclidean distances from coordinate differences: nothing can cancel, and no k * m * d buffer."""
    return torch.cdist(x, y, compute_mode="donot_use_mm_for_euclid_dist")


def _root(sq: Tensor) -> Tensor:
    """Square roots whose gradient at 0 is 0, as that of torch.cdist is, not NaN."""
    if not sq.requires_grad:
        return sq.sqrt()
    zero = sq == 0
    return torch.where(zero, 0.0, torch.where(zero, 1.0, sq).sqrt())


def _sq_norms(x: Tensor) -> Tensor:
    return torch.linalg.vector_norm(x, dim=-1).square()


def _sq_distances(x: Tensor, y: Tensor) -> Tensor:
    """Squared distances without the compiled core: centred, expanded, and repaired where the expansion cancelled."""
    # In few dimensions close pairs, which cancel, are the rule. To look for them would stall a GPU.
    if x.shape[-1] <= _FEW or x.device.type != "cpu" or not native.readable(x):
        return _distances(x, y).square()
    # Centre first: far from the origin, |x|^2 + |y|^2 - 2xy loses in float32 the digits that decide the matching.
    centre = x.detach().mean(-2, keepdim=True)
    to_x, to_y = x - centre, y - centre
    norms = _sq_norms(to_x).unsqueeze(-1) + _sq_norms(to_y).unsqueeze(-2)
    cost = norms - 2 * (to_x @ to_y.mT)
    cancelled = cost.detach() < _CANCELLATION[x.dtype] * norms.detach()
    return _repaired(cost, cancelled, x, y) if cancelled.any() else cost


def _repaired(cost: Tensor, cancelled: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """The costs with some of them computed again, from coordinate differences."""
    (k, d), m = x.shape[-2:], y.shape[-2]
    x, y, flat = x.reshape(-1, d), y.reshape(-1, d), cost.flatten()
    for part in cancelled.flatten().nonzero().squeeze(1).split(len(x)):  # never more than a copy of the data at once
        gaps = x.index_select(0, part // m) - y.index_select(0, part // (k * m) * m + part % m)
        flat = flat.index_copy(0, part, _sq_norms(gaps))
    return flat.view_as(cost)


def _cosine(x: Tensor, y: Tensor) -> Tensor:
    """1 - cos = |x/|x| - y/|y||^2 / 2, which does not cancel for vectors of nearly the same direction."""

    def directions(points: Tensor) -> tuple[Tensor, Tensor]:
        # A direction in float32 is off by more than the angle between two points far from the origin.
        points = points.to(widest_float(points.device))
        largest = points.abs().amax(-1, keepdim=True)
        zero = largest == 0
        points = points / torch.where(zero, 1.0, largest)  # norms of tiny or huge points must not under- or overflow
        return torch.nn.functional.normalize(points, dim=-1), zero.squeeze(-1)

    dtype = x.dtype
    (x, x_zero), (y, y_zero) = directions(x), directions(y)
    either_zero = x_zero.unsqueeze(-1) | y_zero.unsqueeze(-2)
    return torch.where(either_zero, 1.0, _sq_distances(x, y) / 2).to(dtype)


def widest_float(device: torch.device) -> torch.dtype:
    """float64 where the device has it: Apple's GPUs have not."""
    return torch.float32 if device.type == "mps" else torch.float64
