"""Inputs made worse: white-box attacks by the fast gradient sign method, and Gaussian noise."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from kmixup.experiments.datasets.data import normalise

__all__ = ["EPSILONS", "Normalised", "fgsm", "fgsm_errors", "noise_errors"]

EPSILONS = (0.5, 1.0, 2.0, 4.0, 8.0, 16.0)
"""The paper's six attack sizes, in 1/255 of the pixel range. Paper: Table 7."""

_BATCH = 1000


class Normalised(nn.Module):
    """A model that takes pixels in [0, 1]: normalisation belongs to the model, so that an attack is one on pixels.

    Args:
        model: Takes normalised inputs.
        mean: Of each channel; None for no normalisation.
        std: Of each channel, with ``mean``.
    """

    def __init__(self, model: nn.Module, mean: Tensor | None = None, std: Tensor | None = None) -> None:
        super().__init__()
        self.model = model
        self.mean, self.std = mean, std

    def forward(self, x: Tensor) -> Tensor:
        """Outputs (logits) of the model for pixels ``x``, ``[n, channels, ...]``."""
        return self.model(normalise(x, self.mean, self.std))


def fgsm(model: nn.Module, x: Tensor, y: Tensor, epsilon: float) -> Tensor:
    r"""Adversarial images: one step of size epsilon along the sign of the loss's gradient, clamped to valid pixels.

    .. math:: x' = \mathrm{clamp}\big(x + \tfrac{\epsilon}{255}\, \mathrm{sign}\, \nabla_x \ell(f(x), y),\; 0,\; 1\big)

    Args:
        model: Takes pixels in [0, 1], gives logits, and is in eval mode.
        x: Images, pixels in [0, 1], ``[n, ...]``.
        y: Their classes, ``[n]``.
        epsilon: Size in 1/255 of the pixel range, >= 0.

    Returns:
        Images of the same shape, in [0, 1].

    Raises:
        ValueError: If epsilon is negative, pixels lie outside [0, 1], or the model is in train mode, in which images
            of one batch would influence each other.

    Paper: Section 5, FGSM.
    """
    _refuse(model, x, epsilon)
    return _step(x, _gradient_sign(model, x, y), epsilon)


def fgsm_errors(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    epsilons: Iterable[float] = EPSILONS,
    mean: Tensor | None = None,
    std: Tensor | None = None,
) -> dict[float, float]:
    """Share of images that a model gets wrong under `fgsm`, for each epsilon; the model's mode is put back.

    Args:
        model: Takes normalised inputs, gives logits.
        x: Images, pixels in [0, 1].
        y: Their classes.
        epsilons: Sizes in 1/255 of the pixel range.
        mean: Of each channel, as in training; None for no normalisation.
        std: Of each channel.

    Returns:
        Error rate in [0, 1] by epsilon. One gradient serves them all.

    Paper: Table 7.
    """
    was_training = model.training
    attacked = Normalised(model, mean, std).eval()
    wrong = dict.fromkeys(epsilons, 0)
    try:
        for epsilon in wrong:
            _refuse(attacked, x, epsilon)
        for images, classes in zip(x.split(_BATCH), y.split(_BATCH), strict=True):
            sign = _gradient_sign(attacked, images, classes)
            with torch.no_grad():
                for epsilon in wrong:
                    outputs = attacked(_step(images, sign, epsilon))
                    wrong[epsilon] += int((outputs.argmax(1) != classes).sum())
    finally:
        model.train(was_training)
    return {epsilon: count / len(y) for epsilon, count in wrong.items()}


@torch.no_grad()
def noise_errors(
    model: nn.Module, x: Tensor, y: Tensor, sigmas: Sequence[float], generator: Generator | None = None
) -> dict[float, float]:
    """Share of inputs that a model gets wrong under Gaussian noise, for each standard deviation.

    One draw, scaled, serves all sizes, so that they differ in size alone. Nothing is clamped: the noise is Gaussian.

    Args:
        model: Takes raw inputs (see `Normalised`), gives logits; its mode is put back.
        x: Inputs, ``[n, ...]``.
        y: Their classes.
        sigmas: Standard deviations, in the units of ``x``.
        generator: Source of randomness, on the CPU; default: torch's global generator.

    Returns:
        Error rate in [0, 1] by standard deviation.

    Raises:
        ValueError: If a standard deviation is negative.
    """
    if any(not sigma >= 0 for sigma in sigmas):
        raise ValueError(f"standard deviations of noise must be >= 0, in units of the inputs, got {list(sigmas)}.")
    was_training = model.training
    model.eval()
    wrong = dict.fromkeys(sigmas, 0)
    for inputs, classes in zip(x.split(_BATCH), y.split(_BATCH), strict=True):
        noise = torch.randn(inputs.shape, generator=generator).to(inputs)
        for sigma in wrong:
            wrong[sigma] += int((model(inputs + sigma * noise).argmax(1) != classes).sum())
    model.train(was_training)
    return {sigma: count / len(y) for sigma, count in wrong.items()}


def _gradient_sign(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    with torch.enable_grad():
        pixels = x.detach().requires_grad_()
        # The sum, not the mean: a sample's gradient must not shrink, and underflow, with the size of its batch.
        loss = F.cross_entropy(model(pixels), y, reduction="sum")
        (gradient,) = torch.autograd.grad(loss, pixels)
    return gradient.sign()


def _step(x: Tensor, sign: Tensor, epsilon: float) -> Tensor:
    return (x + sign * (epsilon / 255)).clamp_(0, 1)


def _refuse(model: nn.Module, x: Tensor, epsilon: float) -> None:
    if not epsilon >= 0:
        raise ValueError(f"epsilon must be >= 0, in 1/255 of the pixel range, got {epsilon}.")
    if x.min() < 0 or x.max() > 1:
        raise ValueError(
            f"pixels must lie in [0, 1], got {float(x.min()):g} ... {float(x.max()):g}. "
            "Attack the images before normalisation, with Normalised(model, mean, std)."
        )
    if model.training:
        raise ValueError("the model must be in eval mode to be attacked. Call model.eval() first.")
