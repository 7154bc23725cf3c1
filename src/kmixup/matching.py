"""Where blocks meet: the one implementation of k-mixup's matching. Pure: order and k come from outside.

Whatever matches k points with k points calls one of the two functions here: `partners` within a batch, `match_blocks`
between two.
"""

from __future__ import annotations

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
        rows, columns = x.reshape(-1, d), x2.reshape(-1, d)
        if not callable(metric):
            rows, columns = _comparable(rows, highest), _comparable(columns, highest)
        first = batch * torch.arange(left[..., 0].numel(), device=x.device).view(*left.shape[:-1], 1)
        full = batch // k * k
        parts = [(slice(full), k), (slice(full, batch), batch - full)][: 2 if batch > full else 1]
        costs = [
            cost_matrix(
                rows.index_select(0, (left + first)[..., part].flatten()).view(-1, block, d),
                columns.index_select(0, (right + first)[..., part].flatten()).view(-1, block, d),
                metric,
            )
            for part, block in parts
        ]
        sigmas = [assign(cost, solver).to(x.device, non_blocking=True) for cost in _on_host(costs, k)]
        blocks = [
            right[..., part].reshape(-1, block).gather(1, sigma).view(*left.shape[:-1], -1)
            for (part, block), sigma in zip(parts, sigmas, strict=True)
        ]
        matched = torch.cat(blocks, -1)
    return torch.empty_like(left, memory_format=torch.contiguous_format).scatter_(-1, left, matched)


def _on_host(costs: list[Tensor], k: int) -> list[Tensor]:
    """The costs where they are solved: on the host, with one copy for all; those of small blocks stay."""
    if costs[0].device.type == "cpu" or k <= ENUMERATE_UP_TO:
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
