r"""The law of lam ~ Beta(alpha, alpha): its one check, its draw, and the moments that the paper needs.

lam is the weight of the sample itself. How much a sample is perturbed depends on min(lam, 1 - lam) alone, for mixing
i with j at lam and j with i at 1 - lam is the same.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from numbers import Real
from typing import Any

import numpy as np
import torch
from torch import Tensor

# Beyond this alpha, lam - 1/2 is normal, to a relative 1e-8; scipy before 1.17 loses there the digits of the exact law.
_NORMAL = 1e8

# Below this alpha, lam is 0 or 1 as far as float64 can tell; scipy before 1.17 loses the law of far smaller ones.
_TINY = 1e-100


_CPU = torch.device("cpu")


def checked_alpha(alpha: Any) -> float:
    """Alpha as a float.

    Args:
        alpha: A real number, >= 0, ``inf`` allowed.

    Raises:
        TypeError: If it is not a number.
        ValueError: If it is negative or NaN.
    """
    if isinstance(alpha, bool) or not isinstance(alpha, Real):
        raise TypeError(f"alpha must be a number, got {alpha!r}.")
    if not float(alpha) >= 0:
        raise ValueError(f"alpha must be >= 0 (inf allowed), got {alpha}. Use alpha=0 to switch mixing off.")
    return float(alpha)


def drawn_on(generator: torch.Generator | None) -> torch.device:
    """Where draws happen: on the generator's device, or on the CPU, whatever torch's default device is."""
    return generator.device if generator is not None else _CPU


def draw_lam(alpha: float, shape: tuple[int, ...], generator: torch.Generator | None = None) -> Tensor:
    """Independent draws from Beta(alpha, alpha), by inversion: ratios of gamma draws underflow for small alpha.

    The generator advances alike whatever alpha is.

    Args:
        alpha: >= 0; 0 gives ones (no mixing), ``inf`` gives 1/2.
        shape: Of the result.
        generator: Source of randomness; default: torch's global generator.

    Returns:
        lam, float64 on the CPU, shape ``shape``.

    Raises:
        ValueError: If alpha is negative or NaN.

    Paper: Section 2, lam ~ Beta(alpha, alpha).
    """
    alpha = checked_alpha(alpha)
    on = drawn_on(generator)
    # For small alpha many lam lie closer to 1 than float32 can tell: 22 % of them at alpha = 0.05, 8 % in float64.
    uniform = torch.rand(shape, generator=generator, device=on, dtype=torch.float64).cpu()
    if alpha == 0:
        return torch.ones_like(uniform)
    from scipy.special import betaincinv, ndtri  # imported where used: half the time of `import kmixup` otherwise

    if alpha > _NORMAL:
        lam = 0.5 + math.sqrt(_variance(alpha)) * ndtri(uniform.clamp(min=2.0**-54).numpy())
    else:
        lam = betaincinv(max(alpha, _TINY), max(alpha, _TINY), uniform.numpy())
    return torch.from_numpy(np.asarray(lam))


def _variance(alpha: float) -> float:
    return 0.125 / (alpha + 0.5)


def min_lam_sq(alpha: float) -> float:
    r"""Second moment of the perturbation weight, for lam ~ Beta(alpha, alpha); in closed form.

    .. math:: E[\min(\lambda, 1-\lambda)^2] = \frac{\alpha + 1}{2\alpha + 1}\, I_{1/2}(\alpha + 2, \alpha)

    with I the regularised incomplete beta function. Increases from 0 (alpha = 0) to 1/4 (alpha = inf).

    Args:
        alpha: Parameter of the Beta distribution, >= 0, ``inf`` allowed.

    Returns:
        The moment, in [0, 1/4].

    Raises:
        ValueError: If alpha is negative or NaN.

    Paper: Algorithm 1, the empirical average of min(lam^2, (1 - lam)^2).
    """
    alpha = checked_alpha(alpha)
    if alpha == 0:
        return 0.0
    if alpha > _NORMAL:
        return 0.25 - math.sqrt(2 / math.pi * _variance(alpha)) + _variance(alpha)
    from scipy.special import betainc

    return (alpha + 1) / (2 * alpha + 1) * float(betainc(alpha + 2, alpha, 0.5))


def alpha_for(moment: float) -> float:
    """The alpha whose `min_lam_sq` is ``moment``: its inverse.

    Args:
        moment: Wanted value of E[min(lam, 1 - lam)^2], in [0, 1/4].

    Returns:
        alpha >= 0; ``inf`` for 1/4.

    Raises:
        ValueError: If no alpha has this moment.
    """
    if not 0 <= moment <= 0.25:
        raise ValueError(f"moment must be in [0, 1/4], got {moment}. Larger perturbations need a smaller k.")
    low, high = 1e-12, 1e12
    if moment <= min_lam_sq(low):
        return 0.0
    if moment >= min_lam_sq(high):
        return math.inf
    from scipy.optimize import brentq

    log_alpha = brentq(lambda t: min_lam_sq(math.exp(t)) - moment, math.log(low), math.log(high), xtol=1e-13)
    return math.exp(log_alpha)  # pyright: ignore[reportArgumentType]


def mean_label_entropy(alpha: float) -> float:
    r"""Mean entropy of the mixed target of two classes, for lam ~ Beta(alpha, alpha); in closed form.

    .. math:: E[-\lambda \log \lambda - (1-\lambda) \log (1-\lambda)] = \psi(2\alpha + 1) - \psi(\alpha + 1)

    with psi the digamma function.

    Args:
        alpha: >= 0, ``inf`` allowed.

    Returns:
        The mean, in nats, in [0, log 2].

    Raises:
        ValueError: If alpha is negative or NaN.
    """
    alpha = checked_alpha(alpha)
    if math.isinf(2 * alpha):
        return math.log(2)
    from scipy.special import digamma

    return float(digamma(2 * alpha + 1) - digamma(alpha + 1))


@dataclass(frozen=True)
class ThetaMoments:
    r"""Moments of :math:`\theta = \max(\lambda, 1-\lambda)`, that is :math:`\beta_{[1/2,1]}(\alpha, \alpha)`.

    Attributes:
        mean: :math:`\bar\theta`.
        var: :math:`\sigma^2`.
        nu_sq: :math:`\nu^2 = \sigma^2 + (1-\bar\theta)^2 = E[\min(\lambda, 1-\lambda)^2]`: `kmixup.min_lam_sq`.
    """

    mean: float
    var: float
    nu_sq: float


def theta_moments(alpha: float) -> ThetaMoments:
    r"""Moments of theta in closed form, through the mean absolute deviation of Beta(alpha, alpha).

    .. math:: \bar\theta = \frac12 + \frac{4^{-\alpha}}{\alpha\, B(\alpha, \alpha)}

    Args:
        alpha: >= 0, ``inf`` allowed.

    Returns:
        The moments.

    Raises:
        ValueError: If alpha is negative or NaN.

    Paper: Lemma H.2.
    """
    nu_sq = min_lam_sq(alpha)
    if alpha == 0:
        return ThetaMoments(1.0, 0.0, nu_sq)
    from scipy.special import betaln

    if alpha > _NORMAL:
        mean = 0.5 + math.sqrt(2 / math.pi * _variance(alpha))
    else:
        mean = 0.5 + math.exp(-alpha * math.log(4) - math.log(alpha) - float(betaln(alpha, alpha)))
    # Both are exact: the first keeps its digits where theta is near 1, the second where it is near 1/2.
    var = nu_sq - (1 - mean) ** 2 if alpha < 1 else _variance(alpha) - (mean - 0.5) ** 2
    return ThetaMoments(mean, max(0.0, var), nu_sq)


def local_lam_moments(alpha: float) -> tuple[float, float]:
    r"""First two moments of :math:`1 - \lambda` for :math:`\lambda \sim \mathrm{Beta}(\alpha+1, \alpha)`.

    .. math:: E[1-\lambda] = \frac{\alpha}{2\alpha+1}, \qquad E[(1-\lambda)^2] = \frac{\alpha}{2(2\alpha+1)}

    Their ratio is 1/2 at every alpha, and that of the third to the second moment tends to 2/3 as alpha tends to 0: lam
    concentrates at 1 in probability, yet higher orders of the expansion do not become negligible against the second.

    Args:
        alpha: >= 0, ``inf`` allowed.

    Returns:
        The two moments.

    Raises:
        ValueError: If alpha is negative or NaN.

    Paper: Theorem 4.1.
    """
    alpha = checked_alpha(alpha)
    mean = 1 / (2 + 1 / alpha) if alpha else 0.0
    return mean, mean / 2
