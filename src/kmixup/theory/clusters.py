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
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy.special import bdtr
from torch import Tensor

from kmixup.estimate import Estimate
from kmixup.matching import match_blocks
from kmixup.theory.flow import cluster_flow, flow_cross_matches


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
        sigma = match_blocks(x, y, k)
        studies.append(
            ClusterStudy(
                k=k,
                optimal=Estimate.of(cross_matches(x_labels, y_labels, sigma)),
                flow=Estimate.of(flow_cross_matches(cluster_flow(r, s, balls.centres))),
                lemma=Estimate.of(imbalance(r, s)),
                lemma_exact=expected_imbalance(k, masses),
                bound=k * cross_share_bound(k, masses),
                bound_hops=k * cross_share_bound(k, masses, hops=m - 1),
            )
        )
    return studies


def _checked_masses(masses: Tensor) -> np.ndarray:
    p = masses.double().numpy()
    if p.ndim != 1 or (p < 0).any() or abs(p.sum() - 1) > 1e-6:
        raise ValueError(f"masses must be probabilities [m] with sum one, got {p.tolist()}. Divide them by their sum.")
    return p
