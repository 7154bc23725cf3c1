"""What the library is compared with, each written from its published description."""

from __future__ import annotations

from itertools import cycle

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
    Every call meets the second batch one sample further on: the processor would learn the branches of one matching by
    heart, and solve it three times as fast as one that is new to it.

    Args:
        x1: Rows ``[B, d]``, B a multiple of k.
        x2: Rows of the second batch.
        k: Points per block.
        sets: Different sets of costs for `solve`.
    """

    def __init__(self, x1: Tensor, x2: Tensor, k: int, sets: int = 1) -> None:
        self.k, self.x1, self.twice = k, x1, torch.cat([x2, x2])
        self.blocks = x1.view(-1, k, x1.shape[1])
        self.norms = self.twice.square().sum(-1)
        self.cost = torch.empty(len(x1) // k, k, k, dtype=x1.dtype)
        self.product = torch.empty_like(self.cost)
        self.first = np.arange(0, len(x1), k)[:, None]
        self.out = torch.empty_like(x1)
        self.shift = 0
        self.costs = cycle([self.match().numpy().copy() for _ in range(sets)])

    def __call__(self) -> Tensor:
        columns = _assign(self.match().numpy())
        index = torch.from_numpy((np.array(columns) + self.first).ravel() + self.shift)
        return torch.index_select(self.twice, 0, index, out=self.out).lerp_(self.x1, 0.3)

    def match(self) -> Tensor:
        """Costs against the second batch, one sample further on: less the norms of x1, which decide nothing."""
        self.shift = (self.shift + 1) % len(self.x1)
        here = slice(self.shift, self.shift + len(self.x1))
        norms, blocks = self.norms[here].view(-1, 1, self.k), self.twice[here].view_as(self.blocks)
        return torch.baddbmm(norms, self.blocks, blocks.mT, alpha=-2, out=self.cost)

    # The three things that no implementation avoids, one at a time, on the same data.

    def multiply(self) -> Tensor:
        """One batched matrix product."""
        return torch.bmm(self.blocks, self.twice[: len(self.x1)].view_as(self.blocks).mT, out=self.product)

    def solve(self) -> list[np.ndarray]:
        """The assignments of the next set of costs, on one thread."""
        return _assign(next(self.costs))

    def copy(self) -> Tensor:
        """One read and one write of the batch."""
        return self.out.copy_(self.x1)


def _assign(cost: np.ndarray) -> list[np.ndarray]:
    return lapcpp.lapjv_batch(cost, return_cost=False, n_threads=1)[1]
