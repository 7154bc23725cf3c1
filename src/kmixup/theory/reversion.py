r"""Theorem H.1 and Lemma H.2: k-mixup as a step towards a local mean, followed by a zero-mean perturbation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from kmixup.lam import ThetaMoments, theta_moments
from kmixup.theory.local import Couplings, all_couplings
from kmixup.theory.quadrature import theta_rule


@dataclass(frozen=True)
class MeanReversion:
    r"""Mean-reverted points and the perturbations around them, for every k-subset gamma and each of its points.

    Arrays are indexed by subset and position: ``[G, k, ...]`` with ``G = C(N, k)``.

    Attributes:
        alpha: Of lam ~ Beta(alpha, alpha).
        couplings: All matchings.
        x: Points, shape ``[N, d]``.
        y: Targets, shape ``[N, C]``.
        theta: Moments of theta.
        x_bar: Mean matched point over zeta, :math:`\bar x_i^\gamma`.
        y_bar: Mean matched target, :math:`\bar y_i^\gamma`.
        x_tilde: Mean-reverted point :math:`\bar x + \bar\theta (x - \bar x)`.
        y_tilde: Mean-reverted target.
    """

    alpha: float
    couplings: Couplings
    x: Tensor
    y: Tensor
    theta: ThetaMoments
    x_bar: Tensor
    y_bar: Tensor
    x_tilde: Tensor
    y_tilde: Tensor

    def perturbations(self, theta: float) -> tuple[Tensor, Tensor]:
        r"""The perturbations :math:`\tilde\delta, \tilde\epsilon` at one theta, for every pair of subsets.

        Args:
            theta: In [1/2, 1].

        Returns:
            ``delta``, shape ``[G, G, k, d]``, and ``epsilon``, shape ``[G, G, k, C]``: first gamma, then zeta.

        Paper: Theorem H.1.
        """
        shift, rest = theta - self.theta.mean, 1 - self.theta.mean

        def around(data: Tensor, bar: Tensor) -> Tensor:
            own = shift * data[self.couplings.gamma] - rest * bar
            return own.unsqueeze(1) + (1 - theta) * data[self.couplings.partner]

        return around(self.x, self.x_bar), around(self.y, self.y_bar)

    def covariances(self) -> tuple[Tensor, Tensor, Tensor]:
        r"""Covariances of the perturbations over theta and zeta, in closed form.

        .. math::
            E[\tilde\delta \tilde\delta^\top] = \frac{\sigma^2}{\bar\theta^2}
            (\tilde x - \bar x)(\tilde x - \bar x)^\top + \nu^2 c_{xx}, \qquad
            c_{xx} = \mathrm{Cov}_\zeta\big(x^\zeta_{\sigma_{\gamma\zeta}(i)}\big)

        and likewise for (epsilon, epsilon) and (delta, epsilon). The lemma prints
        :math:`\nu^2 \Sigma_{\tilde x \tilde x} / \bar\theta^2` for the last term: that is right if Sigma stands for
        :math:`\bar\theta^2 c_{xx}`, which the empirical covariance of the mean-reverted points is for k = 1 only.

        Returns:
            ``[G, k, d, d]``, ``[G, k, C, C]`` and ``[G, k, d, C]``.

        Paper: Lemma H.2.
        """
        scale = self.theta.var / self.theta.mean**2
        matched_x = self.x[self.couplings.partner] - self.x_bar.unsqueeze(1)
        matched_y = self.y[self.couplings.partner] - self.y_bar.unsqueeze(1)
        offset_x, offset_y = self.x_tilde - self.x_bar, self.y_tilde - self.y_bar

        def covariance(offset: Tensor, offset2: Tensor, matched: Tensor, matched2: Tensor) -> Tensor:
            across = torch.einsum("gzia,gzib->giab", matched, matched2) / matched.shape[1]
            return scale * torch.einsum("gia,gib->giab", offset, offset2) + self.theta.nu_sq * across

        return (
            covariance(offset_x, offset_x, matched_x, matched_x),
            covariance(offset_y, offset_y, matched_y, matched_y),
            covariance(offset_x, offset_y, matched_x, matched_y),
        )

    def objective(self, loss: Callable[[Tensor, Tensor], Tensor], *, nodes: int = 64) -> Tensor:
        r"""The k-mixup loss as Theorem H.1 writes it: at the perturbed mean-reverted points, over theta and zeta.

        .. math::
            \frac{1}{\binom Nk} \sum_\gamma E_{\theta, \zeta}\left[\frac1k \sum_i
            \ell(\tilde y_i^\gamma + \tilde\epsilon_i^\gamma,\ f(\tilde x_i^\gamma + \tilde\delta_i^\gamma))\right]

        Args:
            loss: From inputs ``[B, d]`` and targets ``[B, C]`` to losses ``[B]``: the model is inside.
            nodes: Quadrature nodes for theta.

        Returns:
            The loss, 0-dim.

        Paper: Theorem H.1.
        """
        total = torch.zeros((), dtype=self.x.dtype)
        for theta, weight in zip(*theta_rule(self.alpha, nodes), strict=True):
            delta, epsilon = self.perturbations(theta)
            inputs, targets = self.x_tilde.unsqueeze(1) + delta, self.y_tilde.unsqueeze(1) + epsilon
            total = total + weight * loss(inputs.flatten(0, 2), targets.flatten(0, 2)).mean()
        return total


def mean_reversion(x: Tensor, y: Tensor, k: int, alpha: float) -> MeanReversion:
    r"""The mean-reverted points of Theorem H.1, by enumeration of all pairs of k-subsets.

    The mean :math:`\bar x_i^\gamma` averages over zeta at fixed gamma, so it depends on who else is in gamma. The
    theorem calls it the mean of D_i: that is its average over all gamma that hold i.

    Args:
        x: Points, shape ``[N, ...]``, small N; samples are flattened. float64 recommended.
        y: Targets, shape ``[N, C]``.
        k: Points per k-subset.
        alpha: Of lam ~ Beta(alpha, alpha), >= 0, ``inf`` allowed.

    Returns:
        The points; `MeanReversion.perturbations` and `MeanReversion.covariances` go with them.

    Raises:
        ValueError: If an argument is out of range or there is too much to enumerate.

    Paper: Theorem H.1.
    """
    if y.ndim != 2 or len(y) != len(x):
        raise ValueError(f"y must be [{len(x)}, C] for {len(x)} points, got {list(y.shape)}. One-hot encode labels.")
    theta = theta_moments(alpha)
    couplings = all_couplings(x, k)
    x, y = x.flatten(1), y.to(x.dtype)
    x_bar, y_bar = x[couplings.partner].mean(1), y[couplings.partner].mean(1)
    x_tilde = x_bar + theta.mean * (x[couplings.gamma] - x_bar)
    y_tilde = y_bar + theta.mean * (y[couplings.gamma] - y_bar)
    return MeanReversion(alpha, couplings, x, y, theta, x_bar, y_bar, x_tilde, y_tilde)
