"""The exact optimal assignments that minimise cost matrices, many small problems at a time.

k points with k points, all of them; `kmixup.rectangles` has the general case.
"""

from __future__ import annotations

import math
from functools import lru_cache
from itertools import permutations
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from kmixup import native
from kmixup.structure import given_tensor

Solver = Literal["auto", "enumerate", "native", "scipy"]

SOLVERS = ("auto", "enumerate", "native", "scipy")

# Up to this k all k! permutations are summed on the tensor's own device: at most 24 of them, and no copy to the host.
ENUMERATE_UP_TO = 4


def assign(cost: Tensor | np.ndarray, solver: Solver = "auto") -> Tensor:
    r"""Permutations that minimise the transport cost of uniform k-batches.

    .. math:: \sigma^* = \arg\min_{\sigma \in S_k} \sum_i C_{i, \sigma(i)}

    Args:
        cost: Cost matrices, a tensor or an array, shape ``[..., k, k]``, every entry finite.
        solver: ``"enumerate"`` sums all k! permutations on the tensor's device (k <= 8); ``"native"`` (the compiled
            core) and ``"scipy"`` copy the costs to the host once. ``"auto"``: enumerate for k <= 4 on other devices
            than the CPU, else native if it was built, else enumerate for k <= 4 and scipy beyond.

    Returns:
        ``sigma``, int64, shape ``[..., k]``. Ties break arbitrarily: compare costs, not assignments.

    Raises:
        TypeError: If ``cost`` is neither a tensor nor an array.
        ValueError: If an entry is infinite or NaN, the matrices are not square, or the solver is unknown.
        RuntimeError: If the solver ``"native"`` is asked for and was not built.

    Paper: Section 2, the optimal map between two k-samples.
    """
    cost = given_tensor(cost, "cost")
    if cost.ndim < 2 or cost.shape[-1] != cost.shape[-2] or cost.shape[-1] == 0:
        raise ValueError(f"cost must be square matrices [..., k, k] with k >= 1, got shape {list(cost.shape)}.")
    if not cost.dtype.is_floating_point:
        raise ValueError(f"cost must be floating point, got {cost.dtype}. Convert it with cost.float().")
    check_solver(solver)
    if not native.readable(cost):
        return torch.ops.kmixup.assign(cost.detach(), solver)
    return _assign(cost, solver)


def transport_cost(cost: Tensor | np.ndarray, sigma: Tensor | np.ndarray) -> Tensor:
    r"""Mean cost of a matching; with squared Euclidean costs and the optimal matching, :math:`W_2^2`.

    .. math:: \frac1k \sum_i C_{i, \sigma(i)}

    Args:
        cost: Cost matrices, shape ``[..., k, k]``.
        sigma: Permutations, int64, shape ``[..., k]``.

    Returns:
        Mean costs, shape ``[...]``.

    Paper: Section 2, the squared Wasserstein-2 distance.
    """
    cost, sigma = given_tensor(cost, "cost"), given_tensor(sigma, "sigma")
    return cost.gather(-1, sigma.unsqueeze(-1)).squeeze(-1).mean(-1)


def check_solver(solver: str) -> None:
    """Refuse a solver that does not exist.

    Raises:
        ValueError: With the solvers there are.
    """
    if solver == "lapcpp":
        raise ValueError("solver 'lapcpp' is gone since 0.2. Use solver='auto', which is faster.")
    if solver not in SOLVERS:
        raise ValueError(f"solver must be one of {', '.join(SOLVERS)}, got {solver!r}.")


def _assign(cost: Tensor, solver: str) -> Tensor:
    k = cost.shape[-1]
    if solver == "auto":
        few = k <= ENUMERATE_UP_TO and not (cost.device.type == "cpu" and native.available())
        solver = "enumerate" if few else "native" if native.available() else "scipy"
    if solver == "enumerate" and k > 8:
        raise ValueError(f"solver 'enumerate' sums k! permutations and takes k <= 8, got k={k}. Use 'auto'.")
    cost = cost.detach().resolve_neg()
    cost = cost if cost.dtype.itemsize >= 4 else cost.float()
    if solver == "enumerate":
        _refuse_nonfinite(cost)
        perms = _permutations(k, cost.device)
        totals = cost[..., torch.arange(k, device=cost.device), perms].sum(-1)
        return perms[totals.argmin(-1)]
    host = cost.cpu().contiguous()
    if solver == "scipy":
        _refuse_nonfinite(host)
        return _solve_scipy(host).to(cost.device)
    native.require()
    try:
        return native.solve(host, may_forbid=False).to(cost.device)
    except native.NotFiniteError:
        _refuse_nonfinite(host)  # says which entries
        raise


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


@lru_cache(maxsize=32)
def _permutations(k: int, device: torch.device) -> Tensor:
    return torch.tensor(list(permutations(range(k))), device=device)


def _solve_scipy(cost: Tensor) -> Tensor:
    from scipy.optimize import linear_sum_assignment  # imported where used: a third of the time of `import kmixup`

    problems = cost.numpy().reshape(-1, *cost.shape[-2:])
    columns = [linear_sum_assignment(problem)[1] for problem in problems]
    return torch.from_numpy(np.array(columns, np.int64)).view(cost.shape[:-1])


@torch.library.custom_op("kmixup::assign", mutates_args=())
def _assign_op(cost: Tensor, solver: str) -> Tensor:
    return _assign(cost, solver)


@torch.library.register_fake("kmixup::assign")
def _(cost: Tensor, solver: str) -> Tensor:
    return cost.new_empty(cost.shape[:-1], dtype=torch.int64)
