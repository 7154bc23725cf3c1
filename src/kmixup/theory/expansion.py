r"""Theorem 4.1: k-mixup as the standard loss plus three regularisers, informed by the D_i.

Losses have the form :math:`\ell(u, y) = h(u) - y \cdot u`. Models may have several outputs; derivatives enter only
along the directions :math:`r - x_i`, so no gradient matrix and no Hessian is ever formed.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from kmixup.lam import local_lam_moments
from kmixup.theory.quadrature import lam_rule

Model = Callable[[Tensor], Tensor]
Loss = Literal["cross_entropy", "logistic", "squared"] | Callable[[Tensor], Tensor]

# h of l(u, y) = h(u) - y.u, from outputs [..., C] to losses [...].
LOSSES: dict[str, Callable[[Tensor], Tensor]] = {
    "cross_entropy": lambda u: torch.logsumexp(u, -1),
    "logistic": lambda u: torch.nn.functional.softplus(u).sum(-1),
    "squared": lambda u: u.square().sum(-1) / 2,  # 1/2 |u - y|^2 without its 1/2 |y|^2, which no model can change
}

# Pairs of points that are pushed through the model at once.
_CHUNK = 4096


@dataclass(frozen=True)
class Expansion:
    r"""The parts of Theorem 4.1 that do not depend on alpha, each averaged over the data and the D_i.

    .. math::
        E_k^{mix}(\lambda) = \text{standard} + (1-\lambda)\,\text{slope}
        + \tfrac12 (1-\lambda)^2 (\text{curvature}_h + \text{curvature}_f) + o((1-\lambda)^2)

    Attributes:
        standard: The standard (ERM) loss.
        slope: Mean of :math:`(\nabla h(f_i) - y_i) \cdot \partial_{r - x_i} f`.
        curvature_h: Mean of :math:`\partial_{r-x_i} f^\top \, \nabla^2 h(f_i)\, \partial_{r-x_i} f`.
        curvature_f: Mean of :math:`(\nabla h(f_i) - y_i) \cdot \partial^2_{r-x_i} f`.
    """

    standard: Tensor
    slope: Tensor
    curvature_h: Tensor
    curvature_f: Tensor

    def terms(self, alpha: float) -> tuple[Tensor, Tensor, Tensor]:
        r"""The regularisers R_1, R_2, R_3 for lam ~ Beta(alpha + 1, alpha).

        Paper: Theorem 4.1.
        """
        first, second = local_lam_moments(alpha)
        return first * self.slope, second / 2 * self.curvature_h, second / 2 * self.curvature_f

    def objective(self, alpha: float) -> Tensor:
        """The k-mixup loss up to second order: the standard loss plus R_1, R_2 and R_3."""
        return self.standard + sum(self.terms(alpha))

    def at(self, lam: float) -> Tensor:
        """The same at one fixed lam; compare with `objective_at`."""
        return self.standard + (1 - lam) * self.slope + (1 - lam) ** 2 / 2 * (self.curvature_h + self.curvature_f)


def expand(f: Model, x: Tensor, y: Tensor, partners: Tensor, loss: Loss = "cross_entropy") -> Expansion:
    r"""Expand the k-mixup loss around the training points, to second order in :math:`1 - \lambda`.

    .. math::
        R_1 &= \tfrac{E[1-\lambda]}{N} \sum_i (\nabla h(f_i) - y_i)^\top \nabla f_i^\top\, E_{r \sim D_i}[r - x_i] \\
        R_2 &= \tfrac{E[(1-\lambda)^2]}{2N} \sum_i E_{r \sim D_i}\!\left[
            (\nabla f_i^\top (r - x_i))^\top\, \nabla^2 h(f_i)\, \nabla f_i^\top (r - x_i)\right] \\
        R_3 &= \tfrac{E[(1-\lambda)^2]}{2N} \sum_i (\nabla h(f_i) - y_i)^\top
            E_{r \sim D_i}\!\left[(r - x_i)^\top \nabla^2 f_i\, (r - x_i)\right]

    Exact when h is quadratic and f linear. Otherwise the remainder at fixed lam is of third order in 1 - lam for a
    thrice differentiable model; its mean over lam shrinks with the perturbations r - x_i, not with alpha (see
    `local_lam_moments`). Against R_2 and R_3 it is small where all partners are close: on clusters far apart a larger k
    makes matches that cross rarer, not shorter, and both shrink alike.

    Args:
        f: Twice differentiable model, ``[B, ...] -> [B, C]`` or ``[B]``, one sample at a time: put modules with
            BatchNorm or Dropout into eval mode.
        x: Training points, shape ``[N, ...]``; float64 for differences this small.
        y: Targets, shape ``[N, C]`` (one-hot or soft), or ``[N]`` for one output.
        partners: D, shape ``[N, N]``, from `local_distributions`.
        loss: A name of `LOSSES`, or the function h from outputs ``[B, C]`` to ``[B]``.

    Returns:
        The expansion; `Expansion.terms` gives R_1, R_2, R_3 for an alpha.

    Raises:
        ValueError: If shapes do not fit or the loss is unknown.

    Paper: Theorem 4.1.
    """
    h = _h(loss)
    f, y, weights = _checked(f, x, y, partners)
    n = len(x)
    # The slope is linear in the direction: one derivative per point, along the mean of its partners.
    mean_step = torch.einsum("ij,j...->i...", weights, x) * n - x
    outputs, mean_change = _jvp(f, (x,), (mean_step,))
    slope = ((_gradient(h, outputs) - y) * mean_change).sum(-1).mean()
    curvature_h = curvature_f = torch.zeros((), dtype=x.dtype, device=x.device)
    for i, j, weight in _pairs(weights):
        start, step = x[i], x[j] - x[i]
        change, bend = _two_derivatives(f, start, step)
        u = outputs[i]
        curvature_h = curvature_h + (weight * _two_derivatives(h, u, change)[1]).sum()
        curvature_f = curvature_f + (weight * ((_gradient(h, u) - y[i]) * bend).sum(-1)).sum()
    standard = (h(outputs) - (y * outputs).sum(-1)).mean()
    return Expansion(standard, slope, curvature_h, curvature_f)


def objective_at(
    f: Model,
    x: Tensor,
    y: Tensor,
    partners: Tensor,
    lam: float,
    loss: Loss = "cross_entropy",
    *,
    mix_targets: bool = False,
) -> Tensor:
    r"""The k-mixup loss at one fixed lam, exactly.

    .. math::
        \frac1N \sum_i E_{r \sim D_i}\left[ h(f(\tilde x)) - y_i \cdot f(\tilde x) \right], \qquad
        \tilde x = \lambda x_i + (1-\lambda)\, r

    Args:
        f: Model, as in `expand`.
        x: Training points, shape ``[N, ...]``.
        y: Targets, shape ``[N, C]`` or ``[N]``.
        partners: D, shape ``[N, N]``.
        lam: Weight of the point itself, in [0, 1].
        loss: As in `expand`.
        mix_targets: True mixes the targets as well, as training does; False keeps :math:`y_i`.

    Returns:
        The loss, 0-dim.

    Raises:
        ValueError: If shapes do not fit or the loss is unknown.

    Paper: Theorem 4.1.
    """
    h = _h(loss)
    f, y, weights = _checked(f, x, y, partners)
    total = torch.zeros((), dtype=x.dtype, device=x.device)
    for i, j, weight in _pairs(weights):
        outputs = f(lam * x[i] + (1 - lam) * x[j])
        targets = lam * y[i] + (1 - lam) * y[j] if mix_targets else y[i]
        total = total + (weight * (h(outputs) - (targets * outputs).sum(-1))).sum()
    return total


def objective(
    f: Model,
    x: Tensor,
    y: Tensor,
    partners: Tensor,
    alpha: float,
    loss: Loss = "cross_entropy",
    *,
    form: Literal["pairs", "local"] = "local",
    nodes: int = 32,
) -> Tensor:
    r"""The k-mixup loss, in either of the two forms that Theorem 4.1 proves equal.

    - ``"pairs"``: lam ~ Beta(alpha, alpha), inputs and targets mixed, as training does;
    - ``"local"``: lam ~ Beta(alpha + 1, alpha), inputs mixed, the target is the point's own.

    They are equal because D is symmetric. The mean over lam is a Gauss-Jacobi quadrature: exact for polynomials of
    degree below ``2 * nodes``, and spectrally accurate for smooth models.

    Args:
        f: Model, as in `expand`.
        x: Training points, shape ``[N, ...]``.
        y: Targets, shape ``[N, C]`` or ``[N]``.
        partners: D, shape ``[N, N]``; exact (enumerated) if the two forms are to agree to rounding.
        alpha: >= 0, ``inf`` allowed.
        loss: As in `expand`.
        form: Which of the two forms.
        nodes: Quadrature nodes.

    Returns:
        The loss, 0-dim.

    Raises:
        ValueError: If an argument is out of range.

    Paper: Theorem 4.1.
    """
    if form not in ("pairs", "local"):
        raise ValueError(f"form must be 'pairs' or 'local', got {form!r}.")
    lams, weights = lam_rule(alpha, own=1 if form == "local" else 0, nodes=nodes)
    values = [objective_at(f, x, y, partners, lam, loss, mix_targets=form == "pairs") for lam in lams]
    return torch.stack([weight * value for weight, value in zip(weights, values, strict=True)]).sum()


def _h(loss: Loss) -> Callable[[Tensor], Tensor]:
    if callable(loss):
        return loss
    if loss not in LOSSES:
        raise ValueError(f"loss must be one of {', '.join(LOSSES)} or a function h of the outputs, got {loss!r}.")
    return LOSSES[loss]


def _checked(f: Model, x: Tensor, y: Tensor, partners: Tensor) -> tuple[Model, Tensor, Tensor]:
    """The model with outputs ``[B, C]``, targets ``[N, C]``, and the weight ``D / N`` of every pair."""
    n = len(x)
    if partners.shape != (n, n):
        raise ValueError(f"partners must be D of shape [{n}, {n}] for {n} points, got {list(partners.shape)}.")
    targets = y.to(x.dtype).reshape(n, -1) if len(y) == n else y
    with torch.no_grad():
        shape = f(x[:1]).shape
    outputs = shape[1] if len(shape) == 2 else 1
    if len(shape) not in (1, 2) or targets.shape != (n, outputs):
        raise ValueError(
            f"y must be [{n}, {outputs}] for {n} points and model outputs {list(shape)} of one point, "
            f"got {list(y.shape)}. One-hot encode integer labels."
        )
    return lambda z: f(z).reshape(len(z), outputs), targets, partners.to(x) / n


def _pairs(weights: Tensor) -> list[tuple[Tensor, Tensor, Tensor]]:
    """Chunks of (i, j, weight) over the pairs that occur."""
    i, j = weights.nonzero(as_tuple=True)
    return [(a, b, weights[a, b]) for a, b in zip(i.split(_CHUNK), j.split(_CHUNK), strict=True)]


def _jvp(g: Model, at: tuple[Tensor], along: tuple[Tensor]) -> tuple[Tensor, Tensor]:
    with warnings.catch_warnings():
        # torch sets up its forward-mode rules on first use, with a call that it has itself deprecated.
        warnings.filterwarnings("ignore", message=".*torch.jit.script.*", category=FutureWarning)
        value, derivative, *_ = torch.func.jvp(g, at, along)
    return value, derivative


def _two_derivatives(g: Model, start: Tensor, step: Tensor) -> tuple[Tensor, Tensor]:
    """First and second derivative of ``g(start + t step)`` in t at 0, per sample."""
    return _jvp(lambda z: _jvp(g, (z,), (step,))[1], (start,), (step,))


def _gradient(h: Callable[[Tensor], Tensor], outputs: Tensor) -> Tensor:
    return torch.func.grad(lambda u: h(u).sum())(outputs)
