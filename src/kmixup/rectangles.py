"""Matchings of rectangular, padded and masked cost matrices: what is not k points with k points.

Detections with objects, sources with estimates, tracks with measurements: `kmixup.assignment` is the square case.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from kmixup import native
from kmixup.assignment import Solver, check_solver
from kmixup.structure import given_tensor


def match(
    cost: Tensor | np.ndarray,
    *,
    forbidden: Tensor | np.ndarray | None = None,
    rows: Tensor | np.ndarray | Sequence[int] | int | None = None,
    columns: Tensor | np.ndarray | Sequence[int] | int | None = None,
    maximize: bool = False,
    solver: Solver = "auto",
) -> Tensor:
    r"""Matchings of least cost between n rows and m columns; any number of problems, in one call.

    .. math:: \min_\sigma \sum_{i:\, \sigma(i) \ge 0} C_{i, \sigma(i)}, \qquad \sigma \text{ one to one, with }
        \min(n, m) \text{ pairs}

    As in scipy, min(n, m) pairs are made, whatever they cost; a problem whose forbidden pairs leave fewer is
    infeasible. Where a row may stay without a column at a price, give it a column of its own:
    ``torch.nn.functional.pad(cost, (0, n), value=price)``.

    Args:
        cost: Cost matrices, a tensor or an array, floating point, shape ``[..., n, m]``. An infinite entry forbids its
            pair: +inf, to maximise -inf.
        forbidden: Pairs that must not be, bool, shape ``[..., n, m]`` or one that broadcasts to it; their costs may be
            anything, NaN included.
        rows: How many rows of each problem count, the first ones, shape ``[...]``; default all. What is beyond is
            padding: never looked at, and -1 in the answer.
        columns: The same for the columns.
        maximize: Whether the largest sum is wanted.
        solver: ``"native"`` (the compiled core: one call for all problems) or ``"scipy"``; ``"auto"``: native if it was
            built. The costs are copied to the host once.

    Returns:
        The column of each row, -1 where it has none, int64, shape ``[..., n]``. Ties break arbitrarily: compare costs.

    Raises:
        TypeError: If costs or forbidden pairs are neither a tensor nor an array.
        ValueError: If an entry that counts is NaN or infinite with the wrong sign, a problem is infeasible (the message
            names it, and rows that have too few columns between them), or shapes do not fit.
        RuntimeError: If the solver ``"native"`` is asked for and was not built.
    """
    cost = given_tensor(cost, "cost")
    if cost.ndim < 2 or not cost.dtype.is_floating_point:
        raise ValueError(
            f"cost must be floating-point matrices [..., n, m], got {cost.dtype} {list(cost.shape)}. "
            "Convert it with cost.float()."
        )
    if forbidden is not None:
        forbidden = given_tensor(forbidden, "forbidden")
        _check_mask(forbidden, cost)
    check_solver(solver)
    if solver == "enumerate":
        raise ValueError("solver 'enumerate' pairs all with all: match takes 'auto', 'native' or 'scipy'.")
    counts = _counts("rows", rows, cost), _counts("columns", columns, cost)
    if not native.readable(cost):
        return torch.ops.kmixup.match(cost.detach(), forbidden, *counts, maximize, solver)
    return _match(cost, forbidden, *counts, maximize, solver)


def _check_mask(forbidden: Tensor, cost: Tensor) -> None:
    if forbidden.dtype != torch.bool:
        raise ValueError(f"forbidden must be bool, got {forbidden.dtype}. Costs of +inf forbid pairs, too.")
    try:
        forbidden.expand(cost.shape)
    except RuntimeError:
        raise ValueError(
            f"forbidden must have the costs' shape {list(cost.shape)}, got {list(forbidden.shape)}."
        ) from None


def _counts(name: str, given: Tensor | np.ndarray | Sequence[int] | int | None, cost: Tensor) -> Tensor | None:
    if given is None:
        return None
    counts, batch = given if isinstance(given, Tensor) else torch.as_tensor(given, device="cpu"), cost.shape[:-2]
    counts = counts if counts.numel() else counts.long()  # an empty list has no dtype of its own
    if counts.is_floating_point() or counts.dtype == torch.bool or counts.shape != batch:
        raise ValueError(
            f"{name} must be integers, one for each problem, shape {list(batch)}, "
            f"got {counts.dtype} {list(counts.shape)}."
        )
    return counts


def _match(
    cost: Tensor, forbidden: Tensor | None, rows: Tensor | None, columns: Tensor | None, maximize: bool, solver: str
) -> Tensor:
    device = cost.device
    cost = cost.detach().resolve_neg()
    cost = cost if cost.dtype.itemsize >= 4 else cost.float()
    cost = -cost if maximize else cost
    if forbidden is not None:
        cost = cost.masked_fill(forbidden.to(device), torch.inf)
    cost, sizes = _on_host(cost, rows, columns)
    if solver == "scipy" or (solver == "auto" and not native.available()):
        return _match_scipy(cost, sizes, maximize).to(device)
    native.require()
    try:
        return native.solve(cost, sizes).to(device)
    except (native.NotFiniteError, native.InfeasibleError) as error:
        raise _refusal(cost, sizes, error.problem, maximize) from None


def _on_host(cost: Tensor, rows: Tensor | None, columns: Tensor | None) -> tuple[Tensor, Tensor | None]:
    """The costs, and how many rows and columns count, ``[..., 2]``; in one copy, for which counts become floats."""
    if rows is columns is None:
        return cost.cpu(), None
    shape, limits = cost.shape, cost.shape[-2:]
    counts = [
        torch.full(shape[:-2], limit, device=cost.device) if given is None else given.to(cost.device)
        for given, limit in zip((rows, columns), limits, strict=True)
    ]
    sizes = torch.stack(counts, -1)
    if cost.device.type != "cpu":
        flat = torch.cat([cost.flatten(), sizes.flatten().to(cost.dtype)]).cpu()
        cost, sizes = flat[: cost.numel()].view(shape), flat[cost.numel() :].view(sizes.shape)
    sizes = sizes.long()
    for name, most, limit in zip(("rows", "columns"), sizes.unbind(-1), limits, strict=True):
        if not ((most >= 0) & (most <= limit)).all():
            raise ValueError(f"{name} must be between 0 and {limit}, as many as cost has, got {most.tolist()}.")
    return cost, sizes


def _match_scipy(cost: Tensor, sizes: Tensor | None, maximize: bool) -> Tensor:
    from scipy.optimize import linear_sum_assignment  # imported where used: it takes a while

    matched = torch.full(cost.shape[:-1], -1, device="cpu")
    numbers = matched.numpy()
    for problem, index in enumerate(np.ndindex(cost.shape[:-2])):
        try:
            rows, columns = linear_sum_assignment(_problem(cost, sizes, index))
        except ValueError:
            raise _refusal(cost, sizes, problem, maximize) from None
        numbers[index][rows] = columns
    return matched


def _problem(cost: Tensor, sizes: Tensor | None, index: tuple[int, ...]) -> np.ndarray:
    """The costs of one problem that count."""
    rows, columns = cost.shape[-2:] if sizes is None else sizes[index].tolist()
    return cost[index][:rows, :columns].numpy()


def _refusal(cost: Tensor, sizes: Tensor | None, problem: int, maximize: bool) -> ValueError:
    """Why a problem has no matching."""
    index = tuple(int(at) for at in np.unravel_index(problem, cost.shape[:-2]))
    costs, which = _problem(cost, sizes, index), list(index)
    bad = np.argwhere(~(costs > -np.inf))
    if len(bad):
        value = float(costs[tuple(bad[0])]) * (-1 if maximize else 1)
        return ValueError(
            f"cost must not be NaN or {'+' if maximize else '-'}inf, got {value} at {[*which, *bad[0].tolist()]}. "
            "Forbid a pair whose cost is unknown: forbidden=cost.isnan()."
        )
    few, many = ("rows", "columns") if costs.shape[0] <= costs.shape[1] else ("columns", "rows")
    stuck, reach = _without_enough(np.isfinite(costs if few == "rows" else costs.T))
    return ValueError(
        f"problem{f' {which}' if which else ''} is infeasible: of {len(costs)} rows and {costs.shape[1]} columns, "
        f"{few} {_first(stuck)} may only meet {many} {_first(reach)}. "
        "To leave a row alone at a price, give it a column of its own: "
        "torch.nn.functional.pad(cost, (0, n), value=price)."
    )


def _first(indices: list[int], count: int = 10) -> str:
    more = f", and {len(indices) - count} more" * (len(indices) > count)
    return f"[{', '.join(map(str, indices[:count]))}{more}]"


def _without_enough(allowed: np.ndarray) -> tuple[list[int], list[int]]:
    """Rows that have fewer columns between them than they are, and these columns (Hall's theorem)."""
    from scipy.sparse import csr_matrix
    from scipy.sparse.csgraph import maximum_bipartite_matching

    column = maximum_bipartite_matching(csr_matrix(allowed), perm_type="column")
    matched = np.flatnonzero(column >= 0)
    row_of, reach = np.empty(allowed.shape[1], np.int64), np.zeros(allowed.shape[1], bool)
    row_of[column[matched]] = matched
    stuck = [int(np.argmin(column))]
    for row in stuck:  # which grows: all that alternating paths lead to from a row that is left over
        new = np.flatnonzero(allowed[row] & ~reach)
        reach[new] = True
        stuck += row_of[new].tolist()
    return sorted(stuck), np.flatnonzero(reach).tolist()


@torch.library.custom_op(
    "kmixup::match",
    mutates_args=(),
    schema="(Tensor cost, Tensor? forbidden, Tensor? rows, Tensor? columns, bool maximize, str solver) -> Tensor",
)
def _match_op(
    cost: Tensor, forbidden: Tensor | None, rows: Tensor | None, columns: Tensor | None, maximize: bool, solver: str
) -> Tensor:
    return _match(cost, forbidden, rows, columns, maximize, solver)


@torch.library.register_fake("kmixup::match")
def _(
    cost: Tensor, forbidden: Tensor | None, rows: Tensor | None, columns: Tensor | None, maximize: bool, solver: str
) -> Tensor:
    return cost.new_empty(cost.shape[:-1], dtype=torch.int64)
