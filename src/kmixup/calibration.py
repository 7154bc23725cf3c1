"""From perturbation size xi to alpha and back: which alpha keeps xi when k grows.

A larger k makes partners closer, so at equal alpha it perturbs less. `calibrate` finds the alpha_k that perturbs as
much as mixup with alpha does; it is Algorithm 1 of the paper with its Monte Carlo over lam replaced by a closed form,
and with the distances that the mixer brings about in its batches.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from kmixup.estimate import Estimate
from kmixup.lam import alpha_for, checked_alpha, drawn_on, min_lam_sq
from kmixup.matching import match_blocks
from kmixup.measure import (
    Data,
    as_data,
    draw_subsets,
    flat_rows,
    mean_sq_distance,
    paired_batches,
    sq_distances,
    whole_blocks,
)
from kmixup.mixup import KMixup
from kmixup.roles import NO_RULES

Rule = Literal["exact", "sqrt", "none"]
RULES: tuple[Rule, ...] = ("exact", "sqrt", "none")

_MIN_BATCHES = 16
# Numbers of the matched points that are held at once.
_CHUNK = 1 << 24


@dataclass(frozen=True)
class Calibration:
    r"""The alpha for one k that perturbs as much as mixup with ``alpha`` does.

    .. math:: \xi^2 = E[\min(\lambda, 1 - \lambda)^2] \; E\|x - x'\|^2

    Attributes:
        k: Points per k-batch.
        alpha: The alpha of mixup (k = 1) that sets xi.
        rule: How ``alpha_k`` was chosen, see `calibrate`.
        alpha_k: The alpha to train with at this k.
        alpha_interval: Where alpha_k lies given the 95 % interval of ``matched``; both ends at most ``max_alpha``.
        xi: Root mean squared perturbation of mixup with ``alpha``, in units of the data.
        xi_k: Root mean squared perturbation of k-mixup with ``alpha_k``.
        max_xi: The largest xi that this k can reach: lam = 1/2, half the matched distance.
        attainable: False if the rule asks for more than ``max_alpha``; ``alpha_k`` is then ``max_alpha``.
        sq_distance: Mean squared distance of two random points, :math:`D_1`.
        matched: Mean squared distance of partners at this k, :math:`D_k`, with its standard error. Exact for k = 1.
    """

    k: int
    alpha: float
    rule: Rule
    alpha_k: float
    alpha_interval: tuple[float, float]
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


def matched_sq_distance(x: Any, k: int, *, pairs: int = 4096, generator: torch.Generator | None = None) -> Estimate:
    r"""Mean squared distance of matched points of two independent k-samples: :math:`D_k = E\,W_2^2`.

    Independent samples can share points, which lowers the cost. Within a batch they cannot: `calibrate` measures that.

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
    data = as_data(x)
    _refuse_k(k, len(data))
    if k == 1:
        return Estimate.exact(mean_sq_distance(data))
    return Estimate.of(_independent_costs(data, k, max(_MIN_BATCHES, -(-pairs // k)), generator))


def calibrate(
    x: Any,
    k: int | KMixup,
    alpha: float,
    rule: Rule = "exact",
    *,
    batch_size: int | None = None,
    max_alpha: float = 100.0,
    pairs: int = 16_384,
    generator: torch.Generator | None = None,
) -> Calibration:
    r"""The alpha_k at which k-mixup perturbs as much as mixup with ``alpha`` does.

    With :math:`m(\alpha) = E[\min(\lambda, 1-\lambda)^2]`:

    - ``"exact"``: :math:`m(\alpha_k) = m(\alpha)\, D_1 / D_k`, Algorithm 1 of the paper;
    - ``"sqrt"``: :math:`m(\alpha_k) = m(\alpha)\, \sqrt{D_1 / D_k}`, what the released code searches for and logs;
    - ``"none"``: :math:`\alpha_k = \alpha`, what the released code trains with.

    :math:`D_k` is the mean squared distance of a sample and its partner in batches as the mixer pairs them: its
    pairing, its metric, its features; the distance is that of what is mixed, by its ``leaves``. :math:`D_1` is that of
    two independent draws, exactly.

    Example::

        mixer = KMixup(k=16, alpha=1.0, features=encoder)
        mixer.alpha = calibrate(x, mixer, alpha=0.2, batch_size=128).alpha_k

    Args:
        x: Data as the mixer will see them, shape ``[N, ...]``: a tensor, an array, a data frame of numbers, or what
            else the mixer takes.
        k: The mixer that is to be calibrated (its own alpha plays no part), or points per k-batch of ``KMixup(k)``.
        alpha: The alpha of mixup (k = 1) whose perturbation is to be kept.
        rule: See above.
        batch_size: Samples per batch in training; the whole data set if it is smaller. Where the last block of a batch
            is smaller than k, or two blocks do not fit, it plays a part. Default: whole blocks, about 256 samples.
        max_alpha: Largest alpha to answer with, under every rule, ``inf`` allowed. 100 is the released code's.
        pairs: Pairs to draw for :math:`D_k`, at least; never fewer than 16 batches.
        generator: Source of randomness for :math:`D_k`; default: torch's global generator. A mixer's own is left alone.

    Returns:
        The calibration. Read ``attainable`` and ``alpha_interval`` before you rely on ``alpha_k``.

    Raises:
        TypeError: If k is neither a number nor a mixer, or the data have a type that cannot be mixed.
        ValueError: If an argument is out of range, or rows hold NaN or inf.

    Paper: Algorithm 1.
    """
    checked_alpha(alpha)
    if rule not in RULES:
        raise ValueError(f"rule must be one of {', '.join(RULES)}, got {rule!r}.")
    if not max_alpha > 0:
        raise ValueError(f"max_alpha must be > 0 (inf allowed), got {max_alpha}.")
    data = as_data(x, leaves=k.leaves if isinstance(k, KMixup) else NO_RULES)
    n = len(data)
    _refuse_k(k.k if isinstance(k, KMixup) else k, n)
    mixer = k if isinstance(k, KMixup) else KMixup(k, 1.0)
    if batch_size is not None and batch_size < 1:
        raise ValueError(f"batch_size must be >= 1, got {batch_size}.")
    sq_distance = mean_sq_distance(data)
    if mixer.k == 1:  # the definition itself: the mixer, which pairs no point with itself, exceeds it by 1 / (N - 1)
        matched = Estimate.exact(sq_distance)
    else:
        size = whole_blocks(n, mixer.k) if batch_size is None else min(batch_size, n)
        batches = max(_MIN_BATCHES, -(-pairs // size))
        drawn = paired_batches(mixer, data, batch_size=size, batches=batches, generator=generator)
        matched = Estimate.of(torch.cat([sq_distances(data, pairs).mean(1) for pairs in drawn]))
    return calibrated(mixer.k, alpha, rule, sq_distance, matched, max_alpha=max_alpha)


def calibrated(
    k: int, alpha: float, rule: Rule, sq_distance: float, matched: Estimate, *, max_alpha: float = 100.0
) -> Calibration:
    """The calibration that measured distances lead to: the pure half of `calibrate`.

    Args:
        k: Points per k-batch.
        alpha: The alpha of mixup.
        rule: See `calibrate`.
        sq_distance: Mean squared distance of two random points.
        matched: That of partners at this k.
        max_alpha: Largest alpha to answer with.

    Returns:
        The calibration.

    Paper: Algorithm 1.
    """
    alpha_k, attainable = _alpha_k(alpha, _factor(rule, sq_distance, matched.mean), max_alpha)
    return _calibration(k, alpha, rule, alpha_k, attainable, sq_distance, matched, max_alpha)


def algorithm_1(
    x: Any,
    k: int,
    alpha: float,
    *,
    trials: int = 10_000,
    c: float = 1.01,
    gamma: float = 100.0,
    generator: torch.Generator | None = None,
) -> Calibration:
    """Algorithm 1 of the paper as printed: Monte Carlo throughout, alpha_k grown by a factor until xi is reached.

    For comparison. `calibrate` is exact in lam and faster, and measures the batches of a mixer where this draws
    independent k-samples: the same for k far below N, not for small data.

    Args:
        x: Data, shape ``[N, ...]``.
        k: Points per k-batch.
        alpha: The alpha of mixup, > 0.
        trials: Draws N: pairs of points, ``N / k`` pairs of k-samples, and values of lam.
        c: Growth factor, > 1: alpha_k overshoots by up to this factor.
        gamma: Where alpha_k stops to grow; its last step may go beyond. At an alpha_k that is larger, or does not reach
            xi, the calibration is not attainable.
        generator: Source of randomness; default: torch's global generator.

    Returns:
        The calibration, with the Monte Carlo mean distances. Its ``alpha_interval`` is that of the closed form at the
        distances of the k-samples: what the other draws and the steps of c add is not in it.

    Raises:
        ValueError: If an argument is out of range.

    Paper: Algorithm 1.
    """
    checked_alpha(alpha)
    if not 0 < alpha < math.inf:
        raise ValueError(f"alpha must be positive and finite for Algorithm 1, got {alpha}. Use calibrate instead.")
    if not c > 1:
        raise ValueError(f"c must be > 1, got {c}: alpha_k would never grow.")
    data = as_data(x)
    n = len(data)
    _refuse_k(k, n)

    first, second = (torch.randint(n, (trials,), generator=generator, device=drawn_on(generator)) for _ in range(2))
    sq_distance = float((flat_rows(data, first) - flat_rows(data, second)).square().sum(1).mean())
    matched = Estimate.of(_independent_costs(data, k, max(2, trials // k), generator))

    rng = np.random.default_rng(int(torch.randint(2**62, (), generator=generator, device=drawn_on(generator))))

    def sampled_moment(alpha: float) -> float:
        lam = rng.beta(alpha, alpha, trials)
        return float((np.minimum(lam, 1 - lam) ** 2).mean())

    alpha_k, moment = alpha, sampled_moment(alpha)
    target = sq_distance * moment
    while moment * matched.mean < target and alpha_k < gamma:
        alpha_k *= c
        moment = sampled_moment(alpha_k)
    attainable = alpha_k <= gamma and moment * matched.mean >= target
    return _calibration(k, alpha, "exact", alpha_k, attainable, sq_distance, matched, gamma)


def _calibration(
    k: int,
    alpha: float,
    rule: Rule,
    alpha_k: float,
    attainable: bool,
    sq_distance: float,
    matched: Estimate,
    max_alpha: float,
) -> Calibration:
    # Farther partners need a smaller alpha: the ends change places.
    far_to_near = [_factor(rule, sq_distance, max(0.0, end)) for end in reversed(matched.interval())]
    low, high = (_alpha_k(alpha, factor, max_alpha)[0] for factor in far_to_near)
    return Calibration(
        k=k,
        alpha=float(alpha),
        rule=rule,
        alpha_k=alpha_k,
        alpha_interval=(low, high),
        xi=math.sqrt(min_lam_sq(alpha) * sq_distance),
        xi_k=math.sqrt(min_lam_sq(alpha_k) * matched.mean),
        max_xi=math.sqrt(matched.mean) / 2,
        attainable=attainable,
        sq_distance=sq_distance,
        matched=matched,
    )


def _factor(rule: Rule, sq_distance: float, matched: float) -> float:
    """What the moment of lam is multiplied by."""
    if rule == "none" or sq_distance == matched:  # all points equal: no matching changes anything, nor should alpha
        return 1.0
    ratio = sq_distance / matched if matched > 0 else math.inf
    return ratio if rule == "exact" else math.sqrt(ratio)


def _alpha_k(alpha: float, factor: float, max_alpha: float) -> tuple[float, bool]:
    """The alpha whose moment is ``factor`` times that of ``alpha``, and whether it is at most ``max_alpha``."""
    if factor == 1 or alpha == 0:
        wanted = float(alpha)
    else:
        moment = min_lam_sq(alpha) * factor
        if moment > 0.25:  # more than lam = 1/2 does
            return float(max_alpha), False
        wanted = alpha_for(moment)
    return min(wanted, float(max_alpha)), wanted <= max_alpha


def _independent_costs(data: Data, k: int, n: int, generator: torch.Generator | None) -> Tensor:
    """Mean squared distances of the optimal matchings of n pairs of independent k-samples, shape ``[n]``."""
    first, second = (draw_subsets(n, len(data), k, generator) for _ in range(2))
    width = flat_rows(data, first[0, :1]).shape[1]
    costs = []
    for ours, theirs in zip(*(rows.split(max(1, _CHUNK // (k * width))) for rows in (first, second)), strict=True):
        x, y = (flat_rows(data, rows.flatten()).view(*rows.shape, width) for rows in (ours, theirs))
        sigma = match_blocks(x, y, k)
        costs.append((x - y.gather(1, sigma.unsqueeze(-1).expand_as(y))).square().sum(-1).mean(-1))
    return torch.cat(costs)


def _refuse_k(k: Any, n: int) -> None:
    if isinstance(k, bool) or not isinstance(k, (int, np.integer)):
        raise TypeError(f"k must be an integer or a KMixup, got {k!r}.")
    if not 1 <= k <= n:
        raise ValueError(f"k must be between 1 and the number of samples {n}, got {k}.")
