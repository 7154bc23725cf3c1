"""Lemma 3.3, repaired: the flow between clusters that optimal matchings follow, and the radius up to which they do.

Why the flow is exact for small balls: `kmixup.theory.clusters`, point 3.
"""

from __future__ import annotations

import math
from itertools import permutations

import numpy as np
import torch
from scipy.optimize import linprog
from scipy.sparse import block_diag, coo_array
from torch import Tensor

from kmixup.cost import cost_matrix

_MAX_CLUSTERS = 6
_PLANS = 64  # solved at once
_SCALES = 1e-4  # of the smallest distance of centres to the largest: below, costs are lost in the solver's tolerance


def cluster_flow(r: Tensor, s: Tensor, centres: Tensor) -> Tensor:
    r"""How many matches go from each cluster to each: the statement that replaces Lemma 3.3.

    .. math::
        \min_{F \ge 0} \sum_{ij} F_{ij} \|c_i - c_j\|^2 \quad\text{with}\quad
        \sum_j F_{ij} = r_i, \ \ \sum_i F_{ij} = s_j

    Exact for point clusters, and for balls up to the radius `exact_up_to`. Where several plans are optimal (a right
    angle between clusters), it is any of them.

    Args:
        r: Points per cluster in one k-sample, int64, shape ``[..., m]``.
        s: In the other, with the same sum.
        centres: Shape ``[m, d]``.

    Returns:
        F, int64, shape ``[..., m, m]``. Off its diagonal are the matches that cross.

    Raises:
        ValueError: If the shapes do not fit, r and s have different sums, or two centres are ten thousand times closer
            than two others.

    Paper: Lemma 3.3.
    """
    m = len(centres)
    if r.shape != s.shape or r.shape[-1] != m or not torch.equal(r.sum(-1), s.sum(-1)):
        raise ValueError(
            f"r and s must count the same number of points in the {m} clusters, shape [..., {m}], "
            f"got shapes {list(r.shape)} and {list(s.shape)} or different sums."
        )
    sq_distance = cost_matrix(centres.double(), centres.double())
    cost = (sq_distance / sq_distance.max().clamp_min(1e-300)).numpy().ravel()
    if (cost[cost > 0] < _SCALES**2).any():
        raise ValueError(f"centres must not be more than {1 / _SCALES:.0e} times closer than others. Merge close ones.")
    edge = np.arange(m * m)
    ends = np.concatenate([edge // m, m + edge % m])
    constraints = coo_array((np.ones(2 * m * m), (ends, np.tile(edge, 2))))
    supplies, which = torch.cat([r, s], dim=-1).reshape(-1, 2 * m).unique(dim=0, return_inverse=True)
    flows = []
    for part in supplies.split(_PLANS):
        # One program for many plans: most of a small one's time is its set-up.
        program = block_diag([constraints] * len(part), format="csr")
        # The constraint matrix is totally unimodular: the simplex method ends at a whole-numbered plan.
        supply, options = part.flatten().numpy(), {"dual_feasibility_tolerance": 1e-10}
        plan = linprog(np.tile(cost, len(part)), A_eq=program, b_eq=supply, method="highs-ds", options=options).x
        whole = np.rint(plan)
        assert np.abs(plan - whole).max() < 1e-6
        flows.append(torch.from_numpy(whole.astype(np.int64)).view(-1, m, m))
    return torch.cat(flows)[which].view(*r.shape[:-1], m, m)


def flow_cross_matches(flow: Tensor) -> Tensor:
    """Matches that cross under a plan between clusters ``[..., m, m]``: all that is off its diagonal, shape ``[...]``.

    Paper: Lemma 3.3.
    """
    return flow.sum((-2, -1)) - flow.diagonal(dim1=-2, dim2=-1).sum(-1)


def exact_up_to(centres: Tensor) -> float:
    r"""The radius below which balls match as their centres do: a sufficient condition for `cluster_flow` to be exact.

    A plan that is not optimal for the centres improves along a cycle of rows i_1..i_l and columns j_1..j_l: matches
    (i_a, j_a) are exchanged for (i_a, j_(a+1)). With gain G > 0 for the centres, the exchange also pays for points
    within radius Delta of the centres if

    - :math:`\sum_a (d_{i_a j_a} - 2\Delta)_+^2 > \sum_a (d_{i_a j_{a+1}} + 2\Delta)^2`, or
    - :math:`G > 2 \Delta \sum_a (d_{i_a i_{a+1}} + d_{j_a j_{a+1}}) + 4 l \Delta^2`.

    For two clusters at distance d this is d / 4, which is Lemma 3.3's separation.

    Args:
        centres: Shape ``[m, d]``, 2 <= m <= 6.

    Returns:
        The largest such radius, in units of the data.

    Raises:
        ValueError: If two centres are one point, or there are not two to six, for more have too many cycles.

    Paper: Lemma 3.3.
    """
    m = len(centres)
    if not 2 <= m <= _MAX_CLUSTERS:
        raise ValueError(f"centres must be between 2 and {_MAX_CLUSTERS} points, got {m}: all cycles are enumerated.")
    d = cost_matrix(centres.double(), centres.double(), "euclidean").numpy()
    if not d[~np.eye(m, dtype=bool)].all():
        raise ValueError("centres must differ from each other. Merge equal ones.")
    smallest = math.inf
    for length in range(2, m + 1):
        orders = np.array([rows for rows in permutations(range(m), length) if rows[0] == min(rows)])
        columns = np.array(list(permutations(range(m), length)))
        rows, columns = np.repeat(orders, len(columns), 0), np.tile(columns, (len(orders), 1))
        next_rows, next_columns = np.roll(rows, -1, 1), np.roll(columns, -1, 1)
        removed, added = d[rows, columns], d[rows, next_columns]
        gain = (removed**2).sum(1) - (added**2).sum(1)
        pays = gain > 1e-9 * (removed**2 + added**2).sum(1)
        removed, added, gain = removed[pays], added[pays], gain[pays]
        detour = (d[rows, next_rows].sum(1) + d[columns, next_columns].sum(1))[pays]
        by_detour = (np.sqrt(detour**2 + 4 * length * gain) - detour) / (4 * length)
        radii = np.maximum(by_detour, _radius_by_lengths(removed, added))
        smallest = min(smallest, float(radii.min()))
    return smallest


def _radius_by_lengths(removed: np.ndarray, added: np.ndarray) -> np.ndarray:
    """Per cycle, the radius at which the shortest removed matches cost as much as the longest added ones; bisection."""
    low, high = np.zeros(len(removed)), removed.max(1) / 2
    for _ in range(60):
        middle = ((low + high) / 2)[:, None]
        shortest = np.maximum(removed - 2 * middle, 0)
        pays = (shortest**2).sum(1) > ((added + 2 * middle) ** 2).sum(1)
        low, high = np.where(pays, middle[:, 0], low), np.where(pays, high, middle[:, 0])
    return low
