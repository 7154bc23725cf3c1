"""The compiled core, if it was built: costs, assignments and whole orders of detached CPU tensors.

The one file that loads ``_native``. It prepares tensors for the core and says what went wrong; who calls it decides
whether the core serves (`available`), and has checked shapes, dtypes and the metric's name.

The environment variable ``KMIXUP_CORE`` may lower the instruction set (``baseline``, ``avx2``) or switch the core off
(``off``); it is read once, on import.
"""

import os
import threading
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch._subclasses import FakeTensor

#: Metrics that the core knows.
METRICS = ("sqeuclidean", "euclidean")
#: Types of numbers that it takes.
DTYPES = (torch.float32, torch.float64)

# Of what the core takes: the same number stands in module.c.
_INTERFACE = 2

# Coordinate differences that a thread should have to compute: about a millisecond, ten times what it takes to start.
_PER_THREAD = 2**25


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
    if getattr(core, "INTERFACE", 1) != _INTERFACE:
        return None, 0, "built from another version of the sources: build it again"
    levels = core.levels()
    if asked and asked not in levels:
        raise ImportError(f"KMIXUP_CORE must be off or one of {', '.join(levels)} on this processor, got {asked!r}.")
    level = levels.index(asked) if asked else len(levels) - 1
    return core, level, levels[level]


_core, _level, _description = _load()


def available() -> bool:
    """Whether the compiled core serves."""
    return _core is not None


def require() -> None:
    """Refuse to go on without the core.

    Raises:
        RuntimeError: With the reason why it does not serve.
    """
    if _core is None:
        raise RuntimeError(f"the compiled core does not serve: {_description}. Use solver='auto'.")


def description() -> str:
    """The instruction set in use (``"baseline"``, ``"avx2"``, ``"avx512"``), or the reason why there is no core."""
    return _description


def readable(x: Tensor) -> bool:
    """Whether the numbers of a tensor can be read: it is not traced, transformed by `torch.func`, on meta, or fake."""
    if torch.compiler.is_compiling() or torch._C._are_functorch_transforms_active() or x.is_meta:
        return False
    return type(x) is Tensor or not isinstance(x, FakeTensor)


def takes(x: Tensor, metric: Any) -> bool:
    """Whether the core serves these points: plain tensors of float32 or float64 on the CPU, without a gradient."""
    return (
        _core is not None
        and metric in METRICS
        and x.device.type == "cpu"
        and x.dtype in DTYPES
        and x.shape[-1] > 0
        and not x.requires_grad
        and readable(x)
        and not x.is_neg()
    )


def costs(x: Tensor, y: Tensor, metric: str = "sqeuclidean") -> Tensor:
    """Costs from differences, every entry accurate; beyond the range of squares they are inf or 0.

    Args:
        x: Points, float32 or float64 on the CPU, detached, shape ``[..., k, d]``, d >= 1.
        y: Points of the same dtype, shape ``[..., m, d]``.
        metric: ``"sqeuclidean"`` or ``"euclidean"``.

    Returns:
        Costs of the same dtype, shape ``[..., k, m]``.
    """
    out = np.empty((*x.shape[:-1], y.shape[-2]), x.numpy().dtype)
    if out.size:
        arrays = (_stacked(x.numpy()), _stacked(y.numpy()))
        settings = (metric == "euclidean", _stacked(out))
        try:
            _core.costs(_level, *arrays, *settings)
        except BufferError:
            _core.costs(_level, *map(np.ascontiguousarray, arrays), *settings)
    return torch.from_numpy(out)


def _stacked(array: np.ndarray) -> np.ndarray:
    """One leading dimension."""
    return array if array.ndim == 3 else array.reshape(-1, *array.shape[-2:])


def solve(cost: Tensor, sizes: Tensor | None = None, *, may_forbid: bool = True) -> Tensor:
    """Matchings of least cost between rows and columns, min(k, m) pairs each.

    Args:
        cost: Cost matrices, float32 or float64 on the CPU, detached, shape ``[..., k, m]``.
        sizes: How many rows and columns of each problem count, the first ones, int64, shape ``[..., 2]``; None for all.
        may_forbid: Whether +inf forbids a pair; else it is not finite.

    Returns:
        The column of each row, -1 where it has none, int64, shape ``[..., k]``.

    Raises:
        NotFiniteError: If an entry is NaN or -inf, or +inf without ``may_forbid``.
        InfeasibleError: If no matching of all rows or all columns avoids the forbidden pairs.
    """
    column = np.full(cost.shape[:-1], -1, np.int64)
    if cost.numel():
        counts = None if sizes is None else np.ascontiguousarray(sizes.numpy()).reshape(-1, 2)
        flat = column.reshape(-1, cost.shape[-2])
        _raise(_core.solve(_level, _stacked(cost.numpy()), counts, may_forbid, flat))
    return torch.from_numpy(column)


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
        threads: At most so many threads, each with about a millisecond of work or more.

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
    # In a batch of 64 points each operation on a tensor takes as long as a block: on an array it takes a third of that.
    from_x = x.numpy()
    to_y = None if y is None or y is x else y.numpy()
    from_left = None if left is None else left.numpy()
    to_right = from_left if right is left else None if right is None else right.numpy()
    shape = from_x.shape[:-1]
    for order in (from_left, to_right):
        if order is not None and order.ndim > len(shape):
            shape = order.shape
    partner = np.empty(shape, np.int64)
    if partner.size:
        size, d = from_x.shape[-2:]
        parts = min(threads, partner.size * min(k, size) * d // _PER_THREAD) if threads > 1 else 1
        settings = (k, shift, metric == "euclidean")
        try:
            answer = _in_parts(parts, (from_x, to_y, from_left, to_right, partner), settings)
        except BufferError:  # several leading dimensions, or numbers that do not lie side by side
            plain = [_plain(from_x, 3), _plain(to_y, 3), *(_plain(a, 2) for a in (from_left, to_right, partner))]
            answer = _in_parts(parts, plain, settings)
        _raise(answer)
    return torch.from_numpy(partner)


def _plain(array: np.ndarray | None, dims: int) -> np.ndarray | None:
    """The array contiguous, and with at most one leading dimension: a copy if need be."""
    if array is None:
        return None
    array = np.ascontiguousarray(array)
    return array.reshape(-1, *array.shape[1 - dims :]) if array.ndim > dims else array


def _in_parts(parts: int, arrays: Sequence[np.ndarray | None], settings: tuple) -> Any:
    """The core's answer on all blocks, or the first that is not None; each part but one in a thread of its own."""
    if parts <= 1:
        return _core.match(_level, *arrays, *settings, 0, 1)
    answers: list = [None] * parts

    def serve(part: int) -> None:
        try:
            answers[part] = _core.match(_level, *arrays, *settings, part, parts)
        except Exception as error:
            answers[part] = error

    others = [threading.Thread(target=serve, args=(part,)) for part in range(1, parts)]
    for thread in others:
        thread.start()
    serve(0)
    for thread in others:
        thread.join()
    answer = next((answer for answer in answers if answer is not None), None)
    if isinstance(answer, Exception):
        raise answer
    return answer


def _raise(answer: Any) -> None:
    """The error that the core reports, if any: which kind, and in which problem."""
    if answer is None:
        return
    infeasible, problem = answer
    if infeasible:
        error = InfeasibleError(f"problem {problem}: the forbidden pairs leave no matching.")
    else:
        error = NotFiniteError(f"problem {problem}: NaN or infinite.")
    error.problem = problem
    raise error
