"""Where blocks meet: the one implementation of k-mixup's matching. Pure: order and k come from outside.

Whatever matches k points with k points calls one of the functions here: `partners` within a batch, `match_blocks`
between two, `match_parts` for blocks of any sizes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from kmixup import native
from kmixup.assignment import ENUMERATE_UP_TO, Solver, assign
from kmixup.cost import Metric, cost_matrix


def partners(
    x: Tensor, order: Tensor | None, k: int, *, metric: Metric = "sqeuclidean", solver: Solver = "auto"
) -> Tensor:
    r"""Match every block of k points with the block before it, in a given order; the first follows the last.

    With at least 2k points no point meets itself; always each is a partner exactly once. The last block may be smaller.

    Args:
        x: The points, floating point, shape ``[..., B, d]``: any number of batches at once.
        order: A permutation of each batch, int64, shape ``[B]`` or ``[..., B]``; None for the order they are in.
        k: Points per block, between 1 and B.
        metric: Cost of a pair, see `kmixup.cost_matrix`.
        solver: See `kmixup.assign`.

    Returns:
        ``partner``, int64, shape ``[..., B]``: point i of its batch is mixed with point ``partner[i]``.

    Raises:
        ValueError: If k is out of range, or points are not finite.

    Paper: Section 2, k-mixup.
    """
    _check_k(x, k)
    if _served(x, k, metric, solver):
        try:
            return native.roll(x, order, k, str(metric), threads=torch.get_num_threads())
        except native.NotFiniteError:
            largest(x, "x")  # says which rows
            raise
    order = _own_order(x) if order is None else order.expand(x.shape[:-1])
    return _meet(x, x, order, order.roll(k, -1), k, metric, solver)


def match_blocks(x: Tensor, x2: Tensor, k: int, *, metric: Metric = "sqeuclidean", solver: Solver = "auto") -> Tensor:
    r"""Match every block of k points of one set with the block at the same place in the other.

    Args:
        x: Points, floating point, shape ``[..., B, d]``: any number of sets at once.
        x2: Points of the other sets, same shape.
        k: Points per block, between 1 and B; the last block may be smaller.
        metric: Cost of a pair, see `kmixup.cost_matrix`.
        solver: See `kmixup.assign`.

    Returns:
        ``sigma``, int64, shape ``[..., B]``: point i of ``x`` goes with point ``sigma[i]`` of ``x2``.

    Raises:
        ValueError: If the shapes differ, k is out of range, or points are not finite.

    Paper: Figure 5, k-mixup implementation.
    """
    if x.shape != x2.shape:
        raise ValueError(f"x and x2 must have the same shape, got {list(x.shape)} and {list(x2.shape)}.")
    _check_k(x, k)
    if _served(x, k, metric, solver) and native.takes(x2, metric) and x.dtype == x2.dtype:
        try:
            return native.match(x, x2, None, None, k, str(metric), threads=torch.get_num_threads())
        except native.NotFiniteError:
            largest(x, "x")
            largest(x2, "x2")
            raise
    order = _own_order(x)
    return _meet(x, x2, order, order, k, metric, solver)


def match_parts(
    x: Tensor,
    parts: Sequence[tuple[Tensor, Tensor]],
    *,
    metric: Metric,
    solver: Solver,
    adjust: Callable[[Tensor, Tensor, Tensor], Tensor],
) -> list[Tensor]:
    r"""Match blocks of any sizes with each other, all with one copy to the host.

    Args:
        x: The points, floating point, shape ``[B, d]``.
        parts: For each size s the rows of n blocks and of those that they meet, int64, two tensors ``[n, s]``.
        metric: Cost of a pair, see `kmixup.cost_matrix`.
        solver: See `kmixup.assign`.
        adjust: Function from costs ``[n, s, s]`` and the rows ``[n, s]`` on either side to other costs.

    Returns:
        For each part the row that each of its rows on the left goes with, int64, shape ``[n, s]``.

    Raises:
        ValueError: If points are not finite.
    """
    return _match(x, x, largest(x, "x"), parts, metric, solver, adjust)


def _check_k(x: Tensor, k: int) -> None:
    if not 1 <= k <= x.shape[-2]:
        raise ValueError(f"k must be between 1 and the number of points {x.shape[-2]}, got {k}.")


def _served(x: Tensor, k: int, metric: Metric, solver: Solver) -> bool:
    """Whether the compiled core does the whole, costs and assignments of all blocks in one call."""
    return k > 1 and solver in ("auto", "native") and native.takes(x, metric)


def _own_order(x: Tensor) -> Tensor:
    return torch.arange(x.shape[-2], device=x.device).expand(x.shape[:-1])


def _meet(x: Tensor, x2: Tensor, left: Tensor, right: Tensor, k: int, metric: Metric, solver: Solver) -> Tensor:
    """Block b of k of ``left`` (places in x) meets block b of ``right`` (places in x2): costs, then assignments."""
    batch, d = x.shape[-2:]
    highest = largest(x, "x")
    if x2 is not x:
        highest = torch.maximum(highest, largest(x2, "x2"))
    if k == 1:
        matched = right
    else:
        first = batch * torch.arange(left[..., 0].numel(), device=x.device).view(*left.shape[:-1], 1)
        full = batch // k * k
        cuts = [(slice(full), k), (slice(full, batch), batch - full)][: 2 if batch > full else 1]
        parts = [
            ((left + first)[..., cut].reshape(-1, size), (right + first)[..., cut].reshape(-1, size))
            for cut, size in cuts
        ]
        blocks = _match(x.reshape(-1, d), x2.reshape(-1, d), highest, parts, metric, solver)
        matched = torch.cat([block.view(*left.shape[:-1], -1) for block in blocks], -1) - first
    return torch.empty_like(left).scatter_(-1, left, matched)


def _match(
    x: Tensor,
    x2: Tensor,
    highest: Tensor,
    parts: Sequence[tuple[Tensor, Tensor]],
    metric: Metric,
    solver: Solver,
    adjust: Callable[[Tensor, Tensor, Tensor], Tensor] = lambda cost, left, right: cost,
) -> list[Tensor]:
    """Rows of x2 that the rows of x on the left of each part go with; see `match_parts`."""
    rows, columns = (x, x2) if callable(metric) else (_comparable(x, highest), _comparable(x2, highest))
    costs = []
    for left, right in parts:
        cost = cost_matrix(
            rows.index_select(0, left.flatten()).view(*left.shape, -1),
            columns.index_select(0, right.flatten()).view(*right.shape, -1),
            metric,
        )
        costs.append(adjust(cost, left, right))
    sigmas = [assign(cost, solver).to(x.device, non_blocking=True) for cost in _on_host(costs)]
    return [right.gather(1, sigma) for (_, right), sigma in zip(parts, sigmas, strict=True)]


def _on_host(costs: list[Tensor]) -> list[Tensor]:
    """The costs where they are solved: on the host, with one copy for all; those of small blocks stay."""
    if all(cost.device.type == "cpu" or cost.shape[-1] <= ENUMERATE_UP_TO for cost in costs):
        return costs
    flat = torch.cat([cost.flatten() for cost in costs]).cpu()
    parts = flat.split([cost.numel() for cost in costs])
    return [part.view(cost.shape) for part, cost in zip(parts, costs, strict=True)]


def largest(x: Tensor, name: str) -> Tensor:
    """Largest absolute value of points; what is not finite is refused by row.

    Args:
        x: The points, shape ``[..., B, d]``.
        name: What they are called in messages.

    Returns:
        A scalar.

    Raises:
        ValueError: If a point is not finite (on a GPU a later error of its own).
    """
    low, high = torch.aminmax(x)
    highest = torch.maximum(-low, high)  # NaN if there is one
    finite = torch.isfinite(highest)
    if x.device.type == "cuda":  # reading the answer here would be a copy to the host
        torch._assert_async(finite, f"NaN or inf in {name}")  # pyright: ignore[reportPrivateImportUsage]
    elif not finite:
        bad = (~torch.isfinite(x)).any(-1)
        *batch, row = bad.nonzero()[0].tolist()
        raise ValueError(
            f"{name} has {int(bad.sum())} row(s) with NaN or infinite values, the first is row {row}"
            + (f" of batch {batch}" if batch else "")
            + ". Remove or impute them."
        )
    return highest


def _comparable(x: Tensor, highest: Tensor) -> Tensor:
    """Points whose squares neither vanish nor overflow, in float32 at least: no metric here minds a common factor."""
    x = x.float() if x.dtype.itemsize < 4 else x
    if x.device.type == "cpu" and 1e-15 < float(highest) < 1e15:
        return x
    exponent = torch.frexp(highest).exponent
    half = exponent // 2  # in two steps: the whole factor of tiny numbers is not a number
    return torch.ldexp(torch.ldexp(x, -half), half - exponent)
