"""Quadrature for means over lam ~ Beta(alpha + own, alpha) and over theta = max(lam, 1 - lam)."""

from __future__ import annotations

import math

import numpy as np
from scipy.special import roots_jacobi, roots_legendre

from kmixup.lam import checked_alpha

Rule = tuple[list[float], list[float]]

# Beyond this alpha the law is a narrow bell, and the weights of Gauss-Jacobi rules soon overflow.
_BELL = 500.0
_WIDTH = 9.0  # standard deviations on each side: what lies beyond has a probability of 1e-19


def lam_rule(alpha: float, *, own: int, nodes: int) -> Rule:
    """Nodes and weights for the mean of a smooth function of lam ~ Beta(alpha + own, alpha); weights sum to one.

    Args:
        alpha: >= 0, ``inf`` allowed.
        own: 0, or 1 for the law of Theorem 4.1.
        nodes: How many.

    Raises:
        ValueError: If alpha is negative or NaN.
    """
    alpha = checked_alpha(alpha)
    if alpha == 0:
        return ([1.0], [1.0]) if own else ([0.0, 1.0], [0.5, 0.5])
    if math.isinf(alpha):
        return [0.5], [1.0]
    if alpha > _BELL:
        return _bell(alpha, own=own, low=-1.0, nodes=nodes)
    t, weights = roots_jacobi(nodes, alpha - 1, alpha - 1 + own)
    return ((1 + t) / 2).tolist(), (weights / weights.sum()).tolist()


def theta_rule(alpha: float, nodes: int) -> Rule:
    """The same for theta = max(lam, 1 - lam), lam ~ Beta(alpha, alpha)."""
    alpha = checked_alpha(alpha)
    if alpha == 0 or math.isinf(alpha):
        return [1.0 if alpha == 0 else 0.5], [1.0]
    if alpha > _BELL:
        return _bell(alpha, own=0, low=0.0, nodes=nodes)
    # The singular end at 1 is in the Jacobi weight, the rest is smooth.
    t, weights = roots_jacobi(nodes, alpha - 1, 0)
    theta = (3 + t) / 4
    log_weights = np.log(weights) + (alpha - 1) * np.log(theta)
    weights = np.exp(log_weights - log_weights.max())
    return theta.tolist(), (weights / weights.sum()).tolist()


def _bell(alpha: float, *, own: int, low: float, nodes: int) -> Rule:
    """Gauss-Legendre over s = 2 lam - 1, from ``low`` standard widths to one."""
    width = _WIDTH / math.sqrt(2 * alpha + 1)
    t, weights = roots_legendre(nodes)
    s = width * ((1 + low) / 2 + (1 - low) / 2 * t)
    weights = weights * np.exp((alpha - 1) * np.log1p(-(s**2))) * (1 + s) ** own
    return ((1 + s) / 2).tolist(), (weights / weights.sum()).tolist()
