"""What the library is compared with, each written from its published description."""

from __future__ import annotations

import lapcpp
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


class ByHand:
    """What a specialist would write for one fixed shape: four calls into buffers made beforehand.

    Two batches that are already in order, no random pairing, no labels, no checks of the input or of the precision.
    """

    def __init__(self, x1: Tensor, x2: Tensor, k: int) -> None:
        self.x1, self.x2 = x1, x2
        self.blocks1, self.blocks2 = x1.view(-1, k, x1.shape[1]), x2.view(-1, k, x2.shape[1])
        self.norms = self.blocks1.square().sum(-1, keepdim=True) + self.blocks2.square().sum(-1).unsqueeze(-2)
        self.cost = torch.empty(len(x1) // k, k, k, dtype=x1.dtype)
        self.product = torch.empty_like(self.cost)
        self.first = np.arange(0, len(x1), k)[:, None]
        self.out = torch.empty_like(x1)
        self.__call__()

    def __call__(self) -> Tensor:
        torch.baddbmm(self.norms, self.blocks1, self.blocks2.mT, alpha=-2, out=self.cost)
        index = torch.from_numpy((np.array(self.solve()) + self.first).ravel())
        return torch.index_select(self.x2, 0, index, out=self.out).lerp_(self.x1, 0.3)

    # The three things that no implementation avoids, one at a time, on the same data.

    def multiply(self) -> Tensor:
        """One batched matrix product."""
        return torch.bmm(self.blocks1, self.blocks2.mT, out=self.product)

    def solve(self) -> list[np.ndarray]:
        """The assignments, on one thread."""
        return lapcpp.lapjv_batch(self.cost.numpy(), return_cost=False, n_threads=1)[1]

    def copy(self) -> Tensor:
        """One read and one write of the batch."""
        return self.out.copy_(self.x1)
