"""Cost matrices, and the exact optimal assignments that minimise them.

Everything here works on batches of small problems: ``[..., k, k]`` costs, one permutation each.
"""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import lru_cache
from itertools import permutations
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

Metric = Literal["sqeuclidean", "euclidean", "cosine"] | Callable[[Tensor, Tensor], Tensor]
Solver = Literal["auto", "enumerate", "lapcpp", "scipy"]

METRICS = ("sqeuclidean", "euclidean", "cosine")
SOLVERS = ("auto", "enumerate", "lapcpp", "scipy")

# Up to this k all k! permutations are summed on the tensor's own device: at most 24 of them, and no copy to the host.
ENUMERATE_UP_TO = 4

# Up to this many coordinates, or coordinate differences in all, the plain differences are as fast as a matrix product:
# of so little data some distance nearly always cancels, and to repair it costs more than the product.
_DIRECT_UP_TO = 16
_DIRECT_WORK = 2**18

# |x|^2 + |y|^2 - 2xy rounds off about 4 eps (|x|^2 + |y|^2), measured up to d = 12288. Entries below this share of
# |x|^2 + |y|^2 would keep fewer than six correct digits in float32 (eleven in float64).
_CANCELLATION = {torch.float32: 0.1, torch.float64: 1e-4}

# Entries that cancelled are computed again from differences, at the price of dozens of others each. If more than this
# share did, moving the origin to the data and starting again is cheaper.
_REPAIR_UP_TO = 0.02

# On one thread (that of a DataLoader worker) numpy's BLAS multiplies small blocks, larger ones in tiles of 16 points:
# with AVX-512, OpenBLAS takes products of up to a million multiplications as they are, where MKL packs them first. On
# an AMD EPYC that is up to 2.8 times as fast as MKL for k <= 16, 1.4 times at k = 32, 1.2 at k = 64, no slower beyond.
# Without AVX-512 OpenBLAS packs too, on several threads, and is slower.
_TILE = 16
_SMALL_UP_TO = 32 * 32
_SMALL_PRODUCT = 10**6

# From this k and this many entries on, to level the rows saves more time in the solver than it takes.
_LEVEL_FROM_K = 16
_LEVEL_FROM = 2**13

# From this many entries on, a second thread for the solver gains more than it costs to start.
_SOLVE_IN_THREADS = 2**17

# From this many numbers on, a look at a few distances beforehand costs less than one in a hundred of the product.
_PROBE_FROM = 2**19


def cost_matrix(x: Tensor, y: Tensor, metric: Metric = "sqeuclidean") -> Tensor:
    r"""Cost of moving each point of ``x`` to each point of ``y``.

    .. math:: C_{ij} = \|x_i - y_j\|^2, \quad \|x_i - y_j\| \quad\text{or}\quad 1 - \cos(x_i, y_j)

    Entries are accurate to a few units of rounding, also for data far from the origin: the expanded square is used
    only where it loses no digits. Half precision is computed in float32.

    Args:
        x: Points, shape ``[..., k, d]``.
        y: Points, shape ``[..., m, d]``, same dtype and device.
        metric: ``"sqeuclidean"`` (the paper's text), ``"euclidean"`` (its Figure 5), ``"cosine"`` (a zero vector is at
            cosine 0 from everything), or a function of ``x`` and ``y`` that returns costs ``[..., k, m]``.

    Returns:
        Costs, shape ``[..., k, m]``, float32 or float64; differentiable in the points.

    Raises:
        ValueError: If the shapes do not fit, the metric is unknown, or a metric function returns another shape.

    Paper: Section 2, the optimal map between two k-samples.
    """
    if x.ndim < 2 or y.ndim < 2 or x.shape[-1] != y.shape[-1] or x.shape[:-2] != y.shape[:-2]:
        raise ValueError(
            f"x and y must be [..., k, d] and [..., m, d] with equal leading shape and d, "
            f"got {list(x.shape)} and {list(y.shape)}. Flatten each point to one row first."
        )
    if callable(metric):
        return _checked_metric(metric, x, y)
    x, y = _at_least_float32(x), _at_least_float32(y)
    with _full_precision(x.device):
        if metric == "sqeuclidean":
            return _sq_distances(x, y)
        if metric == "euclidean":
            return _differences(x, y) if _directly(x, y) else _sq_distances(x, y).sqrt()
        if metric == "cosine":
            # 1 - cos = |x/|x| - y/|y||^2 / 2, which does not cancel for vectors of nearly the same direction.
            return _cosine(x, y)
    raise ValueError(f"metric must be one of {', '.join(METRICS)} or a function of (x, y), got {metric!r}.")


def chained_cost(x: Tensor, chain: Tensor, k: int, metric: Metric = "sqeuclidean") -> Tensor:
    """Cost of moving each block of k points of a chain to the block before it, reading every point once.

    Equal to ``cost_matrix(blocks[1:], blocks[:-1])`` for ``blocks = x[chain].view(n + 1, k, d)``.

    Args:
        x: Points, shape ``[B, d]``.
        chain: Indices of points, int64, shape ``[(n + 1) * k]``.
        k: Points per block.
        metric: As for `cost_matrix`.

    Returns:
        Costs, shape ``[n, k, k]``, float32 or float64.
    """
    blocks = _at_least_float32(x.index_select(0, chain)).view(-1, k, x.shape[1])
    later, earlier = blocks[1:], blocks[:-1]
    if metric not in ("sqeuclidean", "euclidean") or _directly(later, earlier):
        return cost_matrix(later, earlier, metric)
    with _full_precision(x.device):
        norms, centred = _sq_norms(blocks), blocks
        if blocks.numel() >= _PROBE_FROM and _far_from_origin(blocks, norms):
            centred = blocks - blocks[0].mean(0)  # any point amid the data will do
            norms = _sq_norms(centred)
        cost, cancelled = _expanded(centred[1:], centred[:-1], norms[1:], norms[:-1])
        if cancelled is not None:
            cost = _repaired(cost, cancelled, later, earlier)
        return cost if metric == "sqeuclidean" else cost.sqrt()


def assign(cost: Tensor, solver: Solver = "auto") -> Tensor:
    r"""Permutations that minimise the transport cost of uniform k-batches.

    .. math:: \sigma^* = \arg\min_{\sigma \in S_k} \sum_i C_{i, \sigma(i)}

    Args:
        cost: Cost matrices, shape ``[..., k, k]``, every entry finite.
        solver: ``"enumerate"`` sums all k! permutations on the tensor's device (k <= 8), ``"lapcpp"`` and ``"scipy"``
            copy the costs to the host once. ``"auto"``: enumerate for k <= 4, else lapcpp if installed, else scipy.

    Returns:
        ``sigma``, int64, shape ``[..., k]``. Ties break arbitrarily: compare costs, not assignments.

    Raises:
        ValueError: If an entry is infinite or NaN, the matrices are not square, or the solver is unknown.
        ImportError: If the solver ``"lapcpp"`` is asked for and not installed.

    Paper: Section 2, the optimal map between two k-samples.
    """
    if cost.ndim < 2 or cost.shape[-1] != cost.shape[-2] or cost.shape[-1] == 0:
        raise ValueError(f"cost must be square matrices [..., k, k] with k >= 1, got shape {list(cost.shape)}.")
    if not cost.dtype.is_floating_point:
        raise ValueError(f"cost must be floating point, got {cost.dtype}. Convert it with cost.float().")
    if solver not in SOLVERS:
        raise ValueError(f"solver must be one of {', '.join(SOLVERS)}, got {solver!r}.")
    if torch.compiler.is_compiling():
        return torch.ops.kmixup.assign(cost, solver)
    return _assign(cost, solver)


def transport_cost(cost: Tensor, sigma: Tensor) -> Tensor:
    r"""Mean cost of a matching; with squared Euclidean costs and the optimal matching, :math:`W_2^2`.

    .. math:: \frac1k \sum_i C_{i, \sigma(i)}

    Args:
        cost: Cost matrices, shape ``[..., k, k]``.
        sigma: Permutations, int64, shape ``[..., k]``.

    Returns:
        Mean costs, shape ``[...]``.

    Paper: Section 2, the squared Wasserstein-2 distance.
    """
    return cost.gather(-1, sigma.unsqueeze(-1)).squeeze(-1).mean(-1)


def _at_least_float32(x: Tensor) -> Tensor:
    return x if x.dtype in (torch.float32, torch.float64) else x.float()


def _checked_metric(metric: Callable[[Tensor, Tensor], Tensor], x: Tensor, y: Tensor) -> Tensor:
    cost = metric(x, y)
    expected = [*x.shape[:-1], y.shape[-2]]
    if not isinstance(cost, Tensor) or list(cost.shape) != expected:
        got = list(cost.shape) if isinstance(cost, Tensor) else type(cost).__name__
        raise ValueError(
            f"metric must return a tensor of costs {expected} for points {list(x.shape)} and {list(y.shape)}, "
            f"got {got}. "
            "Return one cost per pair and keep the leading dimensions."
        )
    return _at_least_float32(cost)


def _full_precision(device: torch.device) -> AbstractContextManager[Any]:
    """Under autocast a matrix product would run in half precision and lose the digits that decide the matching."""
    on = torch.is_autocast_enabled(device.type)
    return torch.autocast(device.type, enabled=False) if on else nullcontext()


def _directly(x: Tensor, y: Tensor) -> bool:
    if x.shape[-1] <= _DIRECT_UP_TO or x.numel() * y.shape[-2] <= _DIRECT_WORK:
        return True
    # Looking for cancellation reads a number back, which would stall a GPU: there, take differences at once.
    return x.device.type != "cpu" or torch.compiler.is_compiling()


def _differences(x: Tensor, y: Tensor) -> Tensor:
    """Euclidean distances from coordinate differences: every entry accurate, no cancellation, no k * k * d buffer."""
    return torch.cdist(x, y, compute_mode="donot_use_mm_for_euclid_dist")


def _sq_norms(x: Tensor) -> Tensor:
    norms = torch.linalg.vector_norm(x, dim=-1)  # with the square three times as fast as vecdot
    return norms * norms


def _sq_distances(x: Tensor, y: Tensor) -> Tensor:
    """Squared distances, every entry accurate; from matrix products if those are faster."""
    if _directly(x, y):
        return _differences(x, y).square()
    cost, cancelled = _expanded(x, y, _sq_norms(x), _sq_norms(y))
    return cost if cancelled is None else _repaired(cost, cancelled, x, y)


def _expanded(x: Tensor, y: Tensor, x_sq: Tensor, y_sq: Tensor) -> tuple[Tensor, Tensor | None]:
    """|x|^2 + |y|^2 - 2xy, and where it cancelled (None: nowhere)."""
    norms = x_sq.unsqueeze(-1) + y_sq.unsqueeze(-2)
    product = _inner_products(x, y)
    reuse = not product.requires_grad  # two matrices of costs at a time, not four
    cost = torch.sub(norms, product, alpha=2, out=product if reuse else None)  # baddbmm would copy the norms first
    kept = torch.div(cost.detach(), norms.detach(), out=norms if reuse else None)
    limit = _CANCELLATION[x.dtype]
    return cost, None if float(kept.amin()) >= limit else kept < limit


def _inner_products(x: Tensor, y: Tensor) -> Tensor:
    """Inner products of each point of x with each point of y, ``[..., k, m]``."""
    (k, d), m = x.shape[-2:], y.shape[-2]
    tiled = k * m > _TILE * _TILE and k % _TILE == 0 and m % _TILE == 0
    by_numpy = (tiled or k * m <= _SMALL_UP_TO) and torch.get_num_threads() == 1 and _has_small_kernels()
    if not by_numpy or x.requires_grad or y.requires_grad:
        return torch.bmm(x, y.mT) if x.ndim == 3 else x @ y.mT  # bmm: six operations less on the way
    left, right = x.numpy(), y.numpy()
    if tiled:  # each tile of x with each tile of y
        left = left.reshape(*x.shape[:-2], k // _TILE, 1, _TILE, d)
        right = right.reshape(*y.shape[:-2], 1, m // _TILE, _TILE, d)
    product = torch.from_numpy(_small_products(left, right.swapaxes(-1, -2)))
    return product.transpose(-3, -2).reshape(*x.shape[:-1], m) if tiled else product


def _small_products(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """``left @ right``, of as many columns and rows at a time as OpenBLAS takes without packing."""
    width = _SMALL_PRODUCT // (left.shape[-2] * right.shape[-1])
    product = left[..., :width] @ right[..., :width, :]
    for start in range(width, left.shape[-1], width):
        product += left[..., start : start + width] @ right[..., start : start + width, :]
    return product


@lru_cache(maxsize=1)
def _has_small_kernels() -> bool:
    return torch.backends.cpu.get_cpu_capability() == "AVX512"


def _repaired(cost: Tensor, cancelled: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """The cost with its cancelled entries computed again, from coordinate differences, which cannot cancel."""
    if cancelled.count_nonzero() > _REPAIR_UP_TO * cost.numel():
        centre = x.mean(-2, keepdim=True)
        to_x, to_y = x - centre, y - centre
        cost, again = _expanded(to_x, to_y, _sq_norms(to_x), _sq_norms(to_y))
        if again is None:
            return cost
        cancelled = again
    k, m = cost.shape[-2:]
    entries = cancelled.flatten().nonzero().squeeze(1)
    x, y = x.reshape(-1, x.shape[-1]), y.reshape(-1, y.shape[-1])
    for part in entries.split(-(-len(x) // 2)):  # never more than a copy of the data at once
        gaps = x.index_select(0, part // m)
        gaps -= y.index_select(0, part // (k * m) * m + part % m)
        cost.view(-1)[part] = _sq_norms(gaps)
    return cost


def _far_from_origin(blocks: Tensor, norms: Tensor) -> bool:
    """Whether distances from the very first point to its next ones nearly cancel, so that others will."""
    points, sums = blocks.numpy()[0, :17], norms.numpy()[0, :17]
    sums = sums[1:] + sums[0]
    dots = (points[1:, None] @ points[0])[:, 0]  # point by point: for all at once BLAS would wake a second thread
    return bool((sums - 2 * dots < 1.5 * _CANCELLATION[blocks.dtype] * sums).any())


def _cosine(x: Tensor, y: Tensor) -> Tensor:
    def directions(points: Tensor) -> tuple[Tensor, Tensor]:
        largest = points.abs().amax(-1, keepdim=True)
        zero = largest == 0
        points = points / torch.where(zero, 1.0, largest)  # norms of tiny or huge points must not under- or overflow
        return torch.nn.functional.normalize(points, dim=-1), zero.squeeze(-1)

    (x, x_zero), (y, y_zero) = directions(x), directions(y)
    either_zero = x_zero.unsqueeze(-1) | y_zero.unsqueeze(-2)
    return torch.where(either_zero, 1.0, _sq_distances(x, y) / 2)


def _assign(cost: Tensor, solver: str) -> Tensor:
    k = cost.shape[-1]
    if solver == "auto":
        solver = "enumerate" if k <= ENUMERATE_UP_TO else "lapcpp" if _has_lapcpp() else "scipy"
    if solver == "enumerate":
        if k > 8:
            raise ValueError(f"solver 'enumerate' sums k! permutations and takes k <= 8, got k={k}. Use 'auto'.")
        _refuse_nonfinite(cost)
        return _enumerate(cost)
    host = _at_least_float32(cost.detach()).cpu().contiguous()
    if k >= _LEVEL_FROM_K and host.numel() >= _LEVEL_FROM:
        host = _levelled(host)
    else:
        _refuse_nonfinite(host)
    solve = _solve_lapcpp if solver == "lapcpp" else _solve_scipy
    sigma = solve(host.numpy().reshape(-1, k, k))
    return torch.from_numpy(sigma.reshape(cost.shape[:-1])).to(cost.device)


def _refuse_nonfinite(cost: Tensor) -> None:
    if cost.device.type == "cuda":
        # Raises on the device, when it gets there: reading the answer here would be a copy to the host.
        torch._assert_async(torch.isfinite(cost).all(), "cost has infinite or NaN entries")  # pyright: ignore[reportPrivateImportUsage]
        return
    # One cheap sum finds every NaN and infinity; finite costs whose sum overflows are then looked at one by one.
    if not math.isfinite(cost.sum()) and (bad := ~torch.isfinite(cost)).any():
        first = bad.nonzero()[0].tolist()
        raise ValueError(
            f"cost must be finite, got {int(bad.sum())} infinite or NaN entries, the first at {first}. "
            "Remove NaN from the data, or rescale it if squares overflow."
        )


def _levelled(cost: Tensor) -> Tensor:
    """Costs less one number per row: all matchings cost as much less, and the solver has half as much to do.

    Solvers start from the minimum of each column. The minima of the rows, once all columns have one mean, are close to
    the rows' potentials at the optimum. The difference is float64, where a float32 cost loses no digit.
    """
    columns = cost.sum(-2, keepdim=True)
    if not math.isfinite(columns.sum()):  # an entry is not, or a sum overflowed
        _refuse_nonfinite(cost)
        return cost
    share = 1 / cost.shape[-1]
    level = torch.sub(cost, columns, alpha=share).amin(-1, keepdim=True)
    level.add_(columns.amin(-1, keepdim=True), alpha=share)  # as a constant of each problem it decides nothing
    return cost.to(torch.float64, copy=True).sub_(level.clamp_(min=0))


@lru_cache(maxsize=32)
def _permutations(k: int, device: torch.device) -> Tensor:
    return torch.tensor(list(permutations(range(k))), device=device)


def _enumerate(cost: Tensor) -> Tensor:
    perms = _permutations(cost.shape[-1], cost.device)
    totals = cost.detach()[..., torch.arange(cost.shape[-1], device=cost.device), perms].sum(-1)
    return perms[totals.argmin(-1)]


@lru_cache(maxsize=1)
def _has_lapcpp() -> bool:
    return importlib.util.find_spec("lapcpp") is not None


def _solve_lapcpp(cost: np.ndarray) -> np.ndarray:
    if not _has_lapcpp():
        raise ImportError("solver 'lapcpp' needs the package lapcpp: pip install kmixup[fast], or use solver='auto'.")
    import lapcpp

    threads = torch.get_num_threads() if cost.size >= _SOLVE_IN_THREADS else 1
    _, columns = lapcpp.lapjv_batch(cost, return_cost=False, n_threads=threads)
    return np.array(columns, np.int64).reshape(cost.shape[:2])


def _solve_scipy(cost: np.ndarray) -> np.ndarray:
    from scipy.optimize import linear_sum_assignment

    sigma = np.empty(cost.shape[:2], np.int64)
    # scipy starts from potentials of zero. Those of the columns save half of its work.
    cost = cost - cost.min(-2, keepdims=True).astype(np.float64)
    for b, matrix in enumerate(cost):
        sigma[b] = linear_sum_assignment(matrix)[1]
    return sigma


@torch.library.custom_op("kmixup::assign", mutates_args=())
def _assign_op(cost: Tensor, solver: str) -> Tensor:
    return _assign(cost, solver)


@torch.library.register_fake("kmixup::assign")
def _(cost: Tensor, solver: str) -> Tensor:
    return cost.new_empty(cost.shape[:-1], dtype=torch.int64)
