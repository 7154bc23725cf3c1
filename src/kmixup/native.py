"""The compiled core, if it was built: costs, assignments and whole orders of detached CPU tensors.

The one file that loads ``_native``. It prepares tensors for the core and says what went wrong; who calls it decides
whether the core serves (`available`), and has checked shapes, dtypes and the metric's name.

The environment variable ``KMIXUP_CORE`` may lower the instruction set (``baseline``, ``avx2``) or switch the core off
(``off``); it is read once, on import.
"""

import os
import threading
from typing import Any

import torch
from torch import Tensor

#: Metrics that the core knows.
METRICS = ("sqeuclidean", "euclidean")
#: Types of numbers that it takes.
DTYPES = (torch.float32, torch.float64)

# About 0.3 ms of work, in coordinate differences: beyond it a second thread gains more than it costs to start.
_THREADS_FROM = 2**24


class NotFiniteError(ValueError):
    """Points or costs hold NaN (costs: or -inf). ``problem`` is the index of the first problem that does."""

    problem: int


class InfeasibleError(ValueError):
    """Forbidden pairs leave no matching. ``problem`` is the index of the first problem without one."""

    problem: int


def _load() -> tuple[Any, int, str]:
    """The extension, the number of the instruction set in use, and its name, or why the core is absent."""
    asked = os.environ.get("KMIXUP_CORE", "")
    if asked == "off":
        return None, 0, "switched off by KMIXUP_CORE=off"
    try:
        from kmixup._native import core  # pyright: ignore[reportAttributeAccessIssue, reportMissingImports]
    except ImportError as error:
        return None, 0, f"not built ({error})"
    levels = core.levels()
    if asked and asked not in levels:
        raise ImportError(f"KMIXUP_CORE must be off or one of {', '.join(levels)} on this processor, got {asked!r}.")
    level = levels.index(asked) if asked else len(levels) - 1
    return core, level, levels[level]


_core, _level, _description = _load()


def available() -> bool:
    """Whether the compiled core serves."""
    return _core is not None


def description() -> str:
    """The instruction set in use (``"baseline"``, ``"avx2"``, ``"avx512"``), or the reason why there is no core."""
    return _description


def costs(x: Tensor, y: Tensor, metric: str = "sqeuclidean") -> Tensor:
    """Costs from differences, every entry accurate; beyond the range of squares they are inf or 0.

    Args:
        x: Points, float32 or float64 on the CPU, detached, shape ``[..., k, d]``, d >= 1.
        y: Points of the same dtype, shape ``[..., m, d]``.
        metric: ``"sqeuclidean"`` or ``"euclidean"``.

    Returns:
        Costs of the same dtype, shape ``[..., k, m]``.
    """
    out = x.new_empty((*x.shape[:-1], y.shape[-2]))
    if out.numel():
        batches = (_points(x.unsqueeze(0)), _points(y.unsqueeze(0)))
        _core.costs(_level, *batches, metric == "euclidean", out.view(-1, *out.shape[-2:]).numpy())
    return out


def solve(cost: Tensor) -> Tensor:
    """Matchings of least cost between rows and columns, min(k, m) pairs each.

    Args:
        cost: Cost matrices, float32 or float64 on the CPU, detached, shape ``[..., k, m]``; +inf forbids a pair.

    Returns:
        The column of each row, -1 where it has none, int64, shape ``[..., k]``.

    Raises:
        NotFiniteError: If an entry is NaN or -inf.
        InfeasibleError: If no matching of min(k, m) pairs avoids the forbidden ones.
    """
    column = torch.full(cost.shape[:-1], -1, dtype=torch.int64)
    if cost.numel():
        problems = cost.reshape(-1, *cost.shape[-2:])
        _raise(_core.solve(_level, problems.numpy(), column.view(-1, cost.shape[-2]).numpy()))
    return column


def match(
    x: Tensor,
    y: Tensor,
    left: Tensor | None,
    right: Tensor | None,
    k: int,
    metric: str = "sqeuclidean",
    *,
    threads: int = 1,
) -> Tensor:
    """Partners of least cost, block by block: block b of k of ``left`` with block b of ``right``, the last one smaller.

    Args:
        x: Points, float32 or float64 on the CPU, detached, shape ``[..., B, d]``, d >= 1.
        y: Points of the same dtype, shape ``[..., B, d]``; may be ``x``.
        left: A permutation of the points of ``x``, int64, shape ``[..., B]`` or ``[B]``; None: as they stand.
        right: The same for ``y``.
        k: Points per block.
        metric: ``"sqeuclidean"`` or ``"euclidean"``.
        threads: At most so many threads, for work of more than about 0.3 ms.

    Returns:
        ``partner``, int64, shape ``[..., B]``: the index in ``y`` that each index of ``x`` goes with.

    Raises:
        NotFiniteError: If points hold NaN or inf.
        IndexError: If an order holds no indices of points.
    """
    return _match(x, y, left, right, k, 0, metric, threads)


def roll(points: Tensor, order: Tensor | None, k: int, metric: str = "sqeuclidean", *, threads: int = 1) -> Tensor:
    """Partners of each block of k of an order in the block before it: `match` with ``order.roll(k)``."""
    return _match(points, None, order, order, k, k, metric, threads)


def _match(
    x: Tensor,
    y: Tensor | None,
    left: Tensor | None,
    right: Tensor | None,
    k: int,
    shift: int,
    metric: str,
    threads: int,
) -> Tensor:
    shape = x.shape[:-1]
    for order in (left, right):
        if order is not None and order.ndim > len(shape):
            shape = order.shape
    partner = torch.empty(shape, dtype=torch.int64)
    if not partner.numel():
        return partner
    to = None if y is None or y is x else _points(y)
    left_indices = None if left is None else _order(left)
    right_indices = left_indices if right is left else None if right is None else _order(right)
    arguments = (_level, _points(x), to, left_indices, right_indices, _order(partner), k, shift, metric == "euclidean")
    size, d = x.shape[-2:]
    if threads > 1 and partner.numel() * min(k, size) * d >= _THREADS_FROM:
        answers = _in_threads(threads, arguments)
    else:
        answers = [_core.match(*arguments, 0, 1)]
    for answer in answers:
        if answer is not None:
            _raise(answer)
    return partner


def _in_threads(threads: int, arguments: tuple) -> list:
    answers: list = [None] * threads

    def serve(part: int) -> None:
        try:
            answers[part] = _core.match(*arguments, part, threads)
        except BaseException as error:
            answers[part] = error

    others = [threading.Thread(target=serve, args=(part,)) for part in range(1, threads)]
    for thread in others:
        thread.start()
    serve(0)
    for thread in others:
        thread.join()
    return answers


def _points(x: Tensor) -> Any:
    if x.ndim > 3:
        x = x.flatten(0, -3)
    if x.stride(-1) != 1 and x.shape[-1] > 1:
        x = x.contiguous()
    return x.numpy()


def _order(order: Tensor) -> Any:
    if order.ndim > 2:
        order = order.flatten(0, -2)
    return order.contiguous().numpy()


def _raise(answer: Any) -> None:
    """The error that the core reports: which kind, and in which problem."""
    if answer is None:
        return
    if isinstance(answer, BaseException):
        raise answer
    infeasible, problem = answer
    if infeasible:
        error = InfeasibleError(f"problem {problem}: the forbidden pairs leave no matching.")
    else:
        error = NotFiniteError(f"problem {problem}: NaN or infinite.")
    error.problem = problem
    raise error
