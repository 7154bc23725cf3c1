"""From perturbation size xi to alpha and back: which alpha keeps xi when k grows.

A larger k makes partners closer, so at equal alpha it perturbs less. `calibrate` finds the alpha_k that perturbs as
much as mixup with alpha does; it is Algorithm 1 of the paper with its Monte Carlo over lam replaced by a closed form.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from kmixup.assignment import assign, transport_cost
from kmixup.cost import cost_matrix
from kmixup.lam import alpha_for, checked_alpha, min_lam_sq

Rule = Literal["exact", "sqrt", "none"]
RULES = ("exact", "sqrt", "none")


@dataclass(frozen=True)
class Estimate:
    """A Monte Carlo mean.

    Attributes:
        mean: The estimate.
        std_error: Its standard error; 0 for an exact value.
        n: Number of independent draws; 0 for an exact value.
    """

    mean: float
    std_error: float
    n: int


@dataclass(frozen=True)
class Calibration:
    r"""The alpha for one k that perturbs as much as mixup with ``alpha`` does.

    .. math:: \xi^2 = E[\min(\lambda, 1 - \lambda)^2] \; E\|x - x'\|^2

    Attributes:
        k: Points per k-batch.
        alpha: The alpha of mixup (k = 1) that sets xi.
        rule: How ``alpha_k`` was chosen, see `calibrate`.
        alpha_k: The alpha to train with at this k.
        xi: Root mean squared perturbation of mixup with ``alpha``, in units of the data.
        xi_k: Root mean squared perturbation of k-mixup with ``alpha_k``.
        max_xi: The largest xi that this k can reach: lam = 1/2, half the matched distance.
        attainable: False if no alpha up to ``max_alpha`` reaches the target; ``alpha_k`` is then ``max_alpha``.
        sq_distance: Mean squared distance of two random points, :math:`D_1`.
        matched: Mean squared distance of matched points, :math:`D_k`, with its standard error.
    """

    k: int
    alpha: float
    rule: Rule
    alpha_k: float
    xi: float
    xi_k: float
    max_xi: float
    attainable: bool
    sq_distance: float
    matched: Estimate

    @property
    def printed_xi(self) -> float:
        """The xi that the paper's tables print: half of the definition, as the released code measures it."""
        return self.xi / 2


def mean_sq_distance(x: Tensor) -> float:
    r"""Mean squared distance of two independent draws from the data, exactly: twice the total variance.

    .. math:: D_1 = E\|x - x'\|^2 = 2 \sum_j \mathrm{Var}(x_j)

    Args:
        x: Data, shape ``[N, ...]``; samples are flattened.

    Returns:
        The mean, in squared units of the data.

    Paper: Algorithm 1, step 1.
    """
    points = _points(x)
    # Centred in double precision a slice at a time: no double copy of a large data set.
    mean = torch.stack([part.double().sum(0) for part in points.split(4096)]).sum(0) / len(points)
    total = sum(float((part.double() - mean).square().sum()) for part in points.split(4096))
    return 2 * total / len(points)


def matched_sq_distance(x: Tensor, k: int, *, pairs: int = 4096, generator: torch.Generator | None = None) -> Estimate:
    r"""Mean squared distance of matched points of two independent k-samples: :math:`D_k = E\,W_2^2`.

    Args:
        x: Data, shape ``[N, ...]`` with N >= k; samples are flattened.
        k: Points per k-sample, drawn without replacement.
        pairs: Matched pairs to draw, at least; ``ceil(pairs / k)`` k-samples, never fewer than 16.
        generator: Source of randomness; default: torch's global generator.

    Returns:
        The mean and its standard error over ``n`` independent matchings, in squared units of the data. Exact for k = 1.

    Raises:
        ValueError: If k < 1 or the data have fewer than k samples.

    Paper: Algorithm 1, step 2.
    """
    points = _points(x)
    if not 1 <= k <= len(points):
        raise ValueError(f"k must be between 1 and the number of samples {len(points)}, got {k}.")
    if k == 1:
        return Estimate(mean_sq_distance(x), 0.0, 0)
    n = max(16, -(-pairs // k))
    costs = torch.cat([_matched_cost(points, k, generator) for _ in range(n)]).double()
    return Estimate(float(costs.mean()), float(costs.std()) / math.sqrt(n), n)


def calibrate(
    x: Tensor,
    k: int,
    alpha: float,
    rule: Rule = "exact",
    *,
    max_alpha: float = 100.0,
    pairs: int = 4096,
    generator: torch.Generator | None = None,
) -> Calibration:
    r"""The alpha_k at which k-mixup perturbs as much as mixup with ``alpha`` does.

    With :math:`m(\alpha) = E[\min(\lambda, 1-\lambda)^2]`:

    - ``"exact"``: :math:`m(\alpha_k) = m(\alpha)\, D_1 / D_k`, Algorithm 1 of the paper;
    - ``"sqrt"``: :math:`m(\alpha_k) = m(\alpha)\, \sqrt{D_1 / D_k}`, what the released code searches for and logs;
    - ``"none"``: :math:`\alpha_k = \alpha`, what the released code trains with.

    Args:
        x: Data as the mixer will see them, shape ``[N, ...]``.
        k: Points per k-batch.
        alpha: The alpha of mixup (k = 1) whose perturbation is to be kept.
        rule: See above.
        max_alpha: Largest alpha to answer with, ``inf`` allowed. 100 is the released code's.
        pairs: Matched pairs to draw for :math:`D_k`.
        generator: Source of randomness for :math:`D_k`; default: torch's global generator.

    Returns:
        The calibration. Read ``attainable`` before you rely on ``alpha_k``.

    Raises:
        ValueError: If an argument is out of range.

    Paper: Algorithm 1.
    """
    checked_alpha(alpha)
    if rule not in RULES:
        raise ValueError(f"rule must be one of {', '.join(RULES)}, got {rule!r}.")
    if not max_alpha > 0:
        raise ValueError(f"max_alpha must be > 0 (inf allowed), got {max_alpha}.")
    sq_distance = mean_sq_distance(x)
    matched = matched_sq_distance(x, k, pairs=pairs, generator=generator)
    ratio = _ratio(sq_distance, matched.mean)
    factor = {"exact": ratio, "sqrt": math.sqrt(ratio), "none": 1.0}[rule]
    moment = min_lam_sq(alpha) * factor if alpha else 0.0
    if factor == 1:
        alpha_k, attainable = float(alpha), True
    else:
        attainable = moment <= min_lam_sq(max_alpha)
        alpha_k = alpha_for(moment) if attainable else float(max_alpha)
    return _calibration(k, alpha, rule, alpha_k, attainable, sq_distance, matched)


def algorithm_1(
    x: Tensor,
    k: int,
    alpha: float,
    *,
    trials: int = 10_000,
    c: float = 1.01,
    gamma: float = 100.0,
    generator: torch.Generator | None = None,
) -> Calibration:
    """Algorithm 1 of the paper as printed: Monte Carlo throughout, alpha_k grown by a factor until xi is reached.

    For comparison; `calibrate` gives the same answer exactly and faster.

    Args:
        x: Data, shape ``[N, ...]``.
        k: Points per k-batch.
        alpha: The alpha of mixup, > 0.
        trials: Draws N: pairs of points, ``N / k`` pairs of k-samples, and values of lam.
        c: Growth factor, > 1: alpha_k overshoots by up to this factor.
        gamma: Largest alpha_k; reaching it is reported as not attainable.
        generator: Source of randomness; default: torch's global generator.

    Returns:
        The calibration, with the Monte Carlo mean distances.

    Raises:
        ValueError: If an argument is out of range.

    Paper: Algorithm 1.
    """
    checked_alpha(alpha)
    if not 0 < alpha < math.inf:
        raise ValueError(f"alpha must be positive and finite for Algorithm 1, got {alpha}. Use calibrate instead.")
    if not c > 1:
        raise ValueError(f"c must be > 1, got {c}: alpha_k would never grow.")
    points = _points(x)
    if not 1 <= k <= len(points):
        raise ValueError(f"k must be between 1 and the number of samples {len(points)}, got {k}.")

    first, second = (torch.randint(len(points), (trials,), generator=generator) for _ in range(2))
    sq_distance = float((points[first] - points[second]).double().square().sum(1).mean())
    n = max(2, trials // k)
    costs = torch.cat([_matched_cost(points, k, generator) for _ in range(n)]).double()
    matched = Estimate(float(costs.mean()), float(costs.std()) / math.sqrt(n), n)

    rng = np.random.default_rng(int(torch.randint(2**62, (), generator=generator)))

    def sampled_moment(alpha: float) -> float:
        lam = rng.beta(alpha, alpha, trials)
        return float((np.minimum(lam, 1 - lam) ** 2).mean())

    target = sq_distance * sampled_moment(alpha)
    alpha_k, moment = alpha, sampled_moment(alpha)
    while moment * matched.mean < target and alpha_k < gamma:
        alpha_k *= c
        moment = sampled_moment(alpha_k)
    return _calibration(k, alpha, "exact", alpha_k, moment * matched.mean >= target, sq_distance, matched)


def _calibration(
    k: int, alpha: float, rule: Rule, alpha_k: float, attainable: bool, sq_distance: float, matched: Estimate
) -> Calibration:
    return Calibration(
        k=k,
        alpha=float(alpha),
        rule=rule,
        alpha_k=alpha_k,
        xi=math.sqrt(min_lam_sq(alpha) * sq_distance),
        xi_k=math.sqrt(min_lam_sq(alpha_k) * matched.mean),
        max_xi=math.sqrt(matched.mean) / 2,
        attainable=attainable,
        sq_distance=sq_distance,
        matched=matched,
    )


def _matched_cost(points: Tensor, k: int, generator: torch.Generator | None) -> Tensor:
    """Mean squared distance of one optimal matching of two independent k-samples, shape ``[1]``."""
    first, second = (points[torch.randperm(len(points), generator=generator)[:k].to(points.device)] for _ in range(2))
    cost = cost_matrix(first, second)
    return transport_cost(cost, assign(cost)).view(1)


def _ratio(sq_distance: float, matched: float) -> float:
    # All points equal: no matching changes anything, so neither should alpha.
    return sq_distance / matched if matched > 0 else (math.inf if sq_distance > 0 else 1.0)


def _points(x: Tensor) -> Tensor:
    x = torch.as_tensor(x)
    if x.ndim == 0 or len(x) == 0 or not x.is_floating_point():
        raise ValueError(f"x must be a floating-point batch [N, ...] with N >= 1, got {x.dtype} {list(x.shape)}.")
    points = x.detach().reshape(len(x), -1)
    return points if points.dtype == torch.float64 else points.float()
