"""What the library is compared with, each written from its published description; and the packages that solve."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from scipy.spatial import distance_matrix
from torch import Tensor


def figure_5_matching(x1: np.ndarray, x2: np.ndarray, k: int) -> np.ndarray:
    """The paper's Figure 5, the inner loop: index of each sample's partner in the second batch."""
    index = np.zeros(len(x1), np.int64)
    for i in range(len(x1) // k):
        cost = distance_matrix(x1[i * k : (i + 1) * k], x2[i * k : (i + 1) * k])
        _, columns = linear_sum_assignment(cost)
        index[i * k : (i + 1) * k] = columns + i * k
    return index


def figure_5(
    x1: np.ndarray, y1: np.ndarray, x2: np.ndarray, y2: np.ndarray, k: int, alpha: float, rng: np.random.Generator
) -> tuple[Tensor, Tensor]:
    """The paper's Figure 5 up to the network: samples as flat rows, labels one-hot."""
    index = figure_5_matching(x1, x2, k)
    lam = rng.beta(alpha, alpha)
    return (
        torch.from_numpy((lam * x1 + (1 - lam) * x2[index]).astype(x1.dtype)),
        torch.from_numpy((lam * y1 + (1 - lam) * y2[index]).astype(y1.dtype)),
    )


def solvers() -> dict[str, Callable[[np.ndarray], list[np.ndarray]]]:
    """Packages that are installed here: from cost matrices ``[n, k, k]`` to the column of each row, ``[n, k]``."""

    def one_by_one(solve: Callable[[np.ndarray], np.ndarray]) -> Callable[[np.ndarray], list[np.ndarray]]:
        return lambda costs: [solve(cost) for cost in costs]

    found = {"scipy": one_by_one(lambda cost: linear_sum_assignment(cost)[1])}
    if find_spec("lapcpp"):
        lapcpp = import_module("lapcpp")
        found["lapcpp"] = lambda costs: lapcpp.lapjv_batch(costs, return_cost=False, n_threads=1)[1]
    if find_spec("lap"):
        lap = import_module("lap")
        found["lapx"] = one_by_one(lambda cost: lap.lapjv(cost, return_cost=False)[0])
    if find_spec("ot"):
        ot = import_module("ot")
        found["POT"] = one_by_one(lambda cost: ot.emd([], [], cost.astype(np.float64)).argmax(1))
    return found
