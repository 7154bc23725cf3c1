r"""Section 3.2: how many matches cross between clusters, and where they cross.

Write r_i and s_i for the number of points of the two k-samples in cluster i, and F_ij for the number of matches from
cluster i to cluster j. Lemma 3.3 says that :math:`\frac12 \sum_i |r_i - s_i|` matches cross. What holds for m balls of
radius Delta:

1. **Always** at least that many cross: cluster i can keep at most min(r_i, s_i) matches to itself.
2. **If balls are more than 2 Delta apart**, at most (m - 1) times as many cross, and for m = 2 exactly as many. Matches
   that cross in a cycle i -> j -> ... -> i cost more than (2 Delta)^2 each; matching every cluster of the cycle to
   itself costs at most (2 Delta)^2 each. So the crossing matches contain no cycle: they split into one path per surplus
   point, and a path visits a cluster at most once. Clusters in a line reach the factor m - 1, for squared costs prefer
   two short hops to a long one: (L + L)^2 > L^2 + L^2. The separation of the lemma does not save it even for three
   equidistant balls; `exact_up_to` says what separation does.
3. **If balls are small against the gaps** (`exact_up_to`), F is an optimal transport plan between the histograms r and
   s for the squared distances of the centres: a minimum-cost flow between clusters, `cluster_flow`. If F were not, the
   plan would improve along a cycle of at most m rows and m columns, and re-matching one point per edge of that cycle
   would lower the true cost, because the balls are too small to take back what the centres gain. The number that
   cross is then k - trace(F). It is the same for every optimal F unless the centres are in special position: two
   optimal plans differ by an N with <N, squared distances> = -2 <N, centres centres^T> = 0, for generic centres only if
   N is antisymmetric, and then its trace is 0. (At a right angle, two hops tie with one.)

By 2, Theorem 3.4 holds with the constant m - 1 in front: its rate in k is right.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import permutations

import numpy as np
import torch
from scipy.optimize import linprog
from scipy.sparse import block_diag, coo_array
from scipy.special import bdtr
from torch import Tensor

from kmixup.assignment import assign
from kmixup.calibration import Estimate
from kmixup.cost import cost_matrix

_MAX_CLUSTERS = 6
_PLANS = 64  # solved at once


@dataclass(frozen=True)
class Balls:
    r"""An (m, Delta)-clusterable distribution: m balls of one radius, uniform in each.

    Attributes:
        centres: Shape ``[m, d]``, float64.
        radius: Delta, >= 0.
        masses: Probabilities of the balls, shape ``[m]``, sum one; default: equal.

    Paper: Section 3.2, (m, Delta)-clusterable distributions.
    """

    centres: Tensor
    radius: float
    masses: Tensor | None = None

    @property
    def gap(self) -> float:
        """Smallest distance between two balls."""
        return float(torch.pdist(self.centres).min()) - 2 * self.radius

    def sample(self, draws: int, k: int, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
        """Draw k-samples.

        Args:
            draws: Number of k-samples.
            k: Points per sample.
            generator: Source of randomness; default: torch's global generator.

        Returns:
            Points, float64, shape ``[draws, k, d]``, and their clusters, int64, shape ``[draws, k]``.
        """
        m, d = self.centres.shape
        masses = torch.full((m,), 1 / m, dtype=torch.float64) if self.masses is None else self.masses.double()
        labels = torch.multinomial(masses, draws * k, replacement=True, generator=generator)
        direction = torch.randn(draws * k, d, generator=generator, dtype=torch.float64)
        reach = torch.rand(draws * k, 1, generator=generator, dtype=torch.float64) ** (1 / d)
        within = self.radius * reach * direction / direction.norm(dim=1, keepdim=True)
        return (self.centres.double()[labels] + within).view(draws, k, d), labels.view(draws, k)

    def distance(self, points: Tensor) -> Tensor:
        """Distance of points ``[..., d]`` to each ball, shape ``[..., m]``."""
        return ((points.unsqueeze(-2) - self.centres.double()).norm(dim=-1) - self.radius).clamp_min(0)


def cross_matches(x_labels: Tensor, y_labels: Tensor, sigma: Tensor) -> Tensor:
    """Number of matches whose ends lie in different clusters.

    Args:
        x_labels: Clusters of one k-sample, int64, shape ``[..., k]``.
        y_labels: Clusters of the other.
        sigma: Matching from the first to the second.

    Returns:
        Counts, int64, shape ``[...]``.

    Paper: Lemma 3.3.
    """
    return (x_labels != y_labels.gather(-1, sigma)).sum(-1)


def cluster_counts(labels: Tensor, m: int) -> Tensor:
    """Points per cluster: r or s. Labels int64 ``[..., k]`` to counts int64 ``[..., m]``.

    Paper: Lemma 3.3.
    """
    return torch.nn.functional.one_hot(labels, m).sum(-2)


def imbalance(r: Tensor, s: Tensor) -> Tensor:
    r"""The number of Lemma 3.3: the fewest matches that can cross, exact for two clusters.

    .. math:: \frac12 \sum_i |r_i - s_i|

    Args:
        r: Points per cluster in one k-sample, int64, shape ``[..., m]``.
        s: In the other.

    Returns:
        The number, int64, shape ``[...]``.

    Paper: Lemma 3.3.
    """
    return (r - s).abs().sum(-1) // 2


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
        ValueError: If the shapes do not fit or r and s have different sums.

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
    edge = np.arange(m * m)
    ends = np.concatenate([edge // m, m + edge % m])
    constraints = coo_array((np.ones(2 * m * m), (ends, np.tile(edge, 2))))
    supplies, which = torch.cat([r, s], dim=-1).reshape(-1, 2 * m).unique(dim=0, return_inverse=True)
    flows = []
    for part in supplies.split(_PLANS):
        # One program for many plans: most of a small one's time is its set-up.
        program = block_diag([constraints] * len(part), format="csr")
        # The constraint matrix is totally unimodular: the simplex method ends at a whole-numbered plan.
        plan = linprog(np.tile(cost, len(part)), A_eq=program, b_eq=part.flatten().numpy(), method="highs-ds").x
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
        ValueError: If there are fewer than two or more than six clusters, whose cycles would be too many.

    Paper: Lemma 3.3.
    """
    m = len(centres)
    if not 2 <= m <= _MAX_CLUSTERS:
        raise ValueError(f"centres must be between 2 and {_MAX_CLUSTERS} points, got {m}: all cycles are enumerated.")
    d = cost_matrix(centres.double(), centres.double(), "euclidean").numpy()
    smallest = math.inf
    for length in range(2, m + 1):
        orders = np.array([rows for rows in permutations(range(m), length) if rows[0] == min(rows)])
        columns = np.array(list(permutations(range(m), length)))
        rows, columns = np.repeat(orders, len(columns), 0), np.tile(columns, (len(orders), 1))
        next_rows, next_columns = np.roll(rows, -1, 1), np.roll(columns, -1, 1)
        removed, added = d[rows, columns], d[rows, next_columns]
        gain = (removed**2).sum(1) - (added**2).sum(1)
        pays = gain > 1e-9 * d.max() ** 2
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


def expected_imbalance(k: int, masses: Tensor) -> float:
    r"""Exact mean of the number of Lemma 3.3, where the paper bounds it by Jensen's inequality.

    The counts R, S of one cluster in the two samples are independent binomials with distribution function F, so

    .. math:: \tfrac12 \sum_i E|R_i - S_i| = \sum_i \sum_{t=0}^{k-1} F_i(t) (1 - F_i(t)).

    Args:
        k: Points per sample.
        masses: Probabilities of the clusters, shape ``[m]``.

    Returns:
        The mean number: of crossing matches for two clusters, of surplus points in general.

    Raises:
        ValueError: If the masses are not probabilities with sum one.

    Paper: Theorem 3.4.
    """
    p = _checked_masses(masses)
    cdf = bdtr(np.arange(k, dtype=float)[None], k, p[:, None])
    return float((cdf * (1 - cdf)).sum())


def cross_share_bound(k: int, masses: Tensor, *, hops: int = 1) -> float:
    r"""The bound of Theorem 3.4 on the expected share of matches that cross, with its constant.

    .. math:: \text{hops} \cdot (2k)^{-1/2} \sum_i \sqrt{p_i (1 - p_i)}

    Args:
        k: Points per sample.
        masses: Probabilities of the clusters, shape ``[m]``.
        hops: 1 is the theorem's, right for two clusters; m - 1 is right for m balls more than 2 Delta apart, wherever
            they are.

    Returns:
        The bound on the share; times k, on the number.

    Raises:
        ValueError: If the masses are not probabilities with sum one.

    Paper: Theorem 3.4.
    """
    p = _checked_masses(masses)
    return hops * float(np.sqrt(p * (1 - p)).sum()) / math.sqrt(2 * k)


@dataclass(frozen=True)
class ClusterStudy:
    """Crossing matches at one k: what the optimal matching does, and what each statement says about it.

    Attributes:
        k: Points per sample.
        optimal: Mean number in real optimal matchings.
        flow: Mean of `flow_cross_matches` over the same draws.
        lemma: Mean of `imbalance` over the same draws.
        lemma_exact: `expected_imbalance`.
        bound: k times `cross_share_bound`, as the theorem has it.
        bound_hops: The same with m - 1 hops.
    """

    k: int
    optimal: Estimate
    flow: Estimate
    lemma: Estimate
    lemma_exact: float
    bound: float
    bound_hops: float


def study_clusters(
    balls: Balls, ks: Sequence[int], *, draws: int = 400, generator: torch.Generator | None = None
) -> list[ClusterStudy]:
    """Measure Lemma 3.3 and Theorem 3.4 on a clusterable distribution.

    Args:
        balls: The distribution.
        ks: Values of k.
        draws: Independent pairs of k-samples per k.
        generator: Source of randomness; default: torch's global generator.

    Returns:
        One study per k.

    Paper: Theorem 3.4.
    """
    m = len(balls.centres)
    masses = torch.full((m,), 1 / m, dtype=torch.float64) if balls.masses is None else balls.masses
    studies = []
    for k in ks:
        (x, x_labels), (y, y_labels) = balls.sample(draws, k, generator), balls.sample(draws, k, generator)
        r, s = cluster_counts(x_labels, m), cluster_counts(y_labels, m)
        sigma = assign(cost_matrix(x, y))
        studies.append(
            ClusterStudy(
                k=k,
                optimal=_estimate(cross_matches(x_labels, y_labels, sigma)),
                flow=_estimate(flow_cross_matches(cluster_flow(r, s, balls.centres))),
                lemma=_estimate(imbalance(r, s)),
                lemma_exact=expected_imbalance(k, masses),
                bound=k * cross_share_bound(k, masses),
                bound_hops=k * cross_share_bound(k, masses, hops=m - 1),
            )
        )
    return studies


def printed_band(radius_a: float, radius_b: float, gap: float) -> float:
    r"""The epsilon of Theorem 3.5 as printed: :math:`\max(R_A, R_B)^2 / D^2`.

    Its proof bounds what a match within a cluster can gain by the squared radius; two points of a ball can be a
    diameter apart. See `safe_band`.

    Args:
        radius_a: R_A, radius of A.
        radius_b: R_B, radius of B.
        gap: D, distance between A and B, > 0.

    Returns:
        epsilon.

    Paper: Theorem 3.5.
    """
    return max(radius_a, radius_b) ** 2 / gap**2


def safe_band(diameter_a: float, diameter_b: float, gap: float) -> float:
    r"""Theorem 3.5 holds for every epsilon above this one, for all compact clusters, connected or not.

    .. math:: \epsilon = \sqrt{1 + (\mathrm{diam}_A^2 + \mathrm{diam}_B^2) / D^2} - 1

    Let (a0, b0) be nearest points of A and B. For k large, more matches than those that cross start near a0 and stay
    in A, and as many end near b0 and stay in B. Let (a, b) cross with a outside A_epsilon, and take (p, q) in A with p
    near a0, (p', q') in B with q' near b0. The matches (p, q'), (a, q), (p', b) cost at most about
    :math:`D^2 + \mathrm{diam}_A^2 + \mathrm{diam}_B^2`; (a, b) alone costs :math:`D^2 (1 + \epsilon)^2` at least.

    For connected clusters every epsilon > 0 will do as k grows: the surplus can be handed on within A in many short
    hops, whose squared lengths sum to as little as one likes.

    Args:
        diameter_a: Largest distance of two points of A.
        diameter_b: Of B.
        gap: D, distance between A and B, > 0.

    Returns:
        epsilon.

    Paper: Theorem 3.5.
    """
    return math.sqrt(1 + (diameter_a**2 + diameter_b**2) / gap**2) - 1


def band_matches(
    x: Tensor, y: Tensor, distance: Callable[[Tensor], Tensor], gap: float, eps: float
) -> tuple[Tensor, Tensor]:
    r"""Matches between two clusters A and B, and those with both ends in the bands :math:`A_\epsilon, B_\epsilon`.

    A_epsilon is the part of A less than D(1 + epsilon) from B, and B_epsilon likewise.

    Args:
        x: One k-sample, shape ``[..., k, d]``.
        y: The other.
        distance: Distances of points ``[..., d]`` to A and to B, shape ``[..., 2]``.
        gap: D, distance between A and B.
        eps: Width of the bands, for example `printed_band`.

    Returns:
        Number of crossing matches in the bands, and of all crossing matches, int64, shape ``[...]`` each.

    Paper: Theorem 3.5.
    """
    sigma = assign(cost_matrix(x, y))
    to_x, to_y = distance(x), distance(y)
    to_y = to_y.gather(-2, sigma.unsqueeze(-1).expand_as(to_y))
    cross = to_x.argmin(-1) != to_y.argmin(-1)
    # A point is in one cluster, at distance 0; the larger of its two distances is to the other.
    in_band = (to_x.amax(-1) < gap * (1 + eps)) & (to_y.amax(-1) < gap * (1 + eps))
    return (cross & in_band).sum(-1), cross.sum(-1)


def _estimate(values: Tensor) -> Estimate:
    values = values.double()
    return Estimate(float(values.mean()), float(values.std()) / math.sqrt(len(values)), len(values))


def _checked_masses(masses: Tensor) -> np.ndarray:
    p = masses.double().numpy()
    if p.ndim != 1 or (p < 0).any() or abs(p.sum() - 1) > 1e-6:
        raise ValueError(f"masses must be probabilities [m] with sum one, got {p.tolist()}. Divide them by their sum.")
    return p
