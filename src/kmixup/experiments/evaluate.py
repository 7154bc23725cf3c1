"""How good a model is: error, likelihood, calibration, and its error on inputs made worse. Any model, any data."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from kmixup.experiments.attacks import Normalised, fgsm_errors, noise_errors
from kmixup.experiments.run import Evaluation

__all__ = ["Evaluated", "calibration_error", "error_rate", "evaluate"]

_BATCH = 1000
_BINS = 15


@dataclass(frozen=True)
class Evaluated:
    """A model on labelled points.

    Attributes:
        clean: On the points as they are.
        attack_error: Error under FGSM, by epsilon in 1/255 of the pixel range.
        noise_error: Error under Gaussian noise on the inputs, by standard deviation.
    """

    clean: Evaluation
    attack_error: dict[str, float]
    noise_error: dict[str, float]


def evaluate(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    *,
    mean: Tensor | None = None,
    std: Tensor | None = None,
    epsilons: Sequence[float] = (),
    sigmas: Sequence[float] = (),
    generator: Generator | None = None,
) -> Evaluated:
    """Error, negative log-likelihood and calibration error of a model, and its error under attacks and noise.

    Args:
        model: Takes normalised inputs, gives logits; its mode is put back.
        x: Raw inputs, ``[n, ...]``; pixels in [0, 1] if they are attacked.
        y: Their classes, int64, ``[n]``.
        mean: Of each channel, as in training; None for no normalisation.
        std: Of each channel.
        epsilons: Sizes of FGSM attacks, in 1/255 of the pixel range.
        sigmas: Standard deviations of Gaussian noise, in the units of ``x``.
        generator: Of the noise, on the CPU; default: torch's global generator.

    Returns:
        The figures. A model whose outputs are not finite has nan for each.

    Raises:
        ValueError: If pixels to be attacked lie outside [0, 1], or a size is negative.

    Paper: Table 7 for the attacks.
    """
    whole = Normalised(model, mean, std).train(model.training)
    outputs = _outputs(whole, x)
    clean = Evaluation(
        error=_error(outputs, y),
        nll=float(F.cross_entropy(outputs, y)),
        calibration_error=calibration_error(outputs, y),
    )
    attacked = fgsm_errors(model, x, y, epsilons, mean, std) if epsilons else {}
    noisy = noise_errors(whole, x, y, sigmas, generator) if sigmas else {}
    return Evaluated(
        clean,
        {f"{epsilon:g}": error for epsilon, error in attacked.items()},
        {f"{sigma:g}": error for sigma, error in noisy.items()},
    )


def error_rate(model: nn.Module, x: Tensor, y: Tensor) -> float:
    """Share of wrong predictions, in eval mode; nan if an output is not finite. The model's mode is put back."""
    return _error(_outputs(model, x), y)


def calibration_error(outputs: Tensor, y: Tensor, bins: int = _BINS) -> float:
    r"""Expected calibration error: how far the confidence in the predicted class is from being right that often.

    .. math:: \sum_b \tfrac{n_b}{n}\, |\mathrm{accuracy}_b - \mathrm{confidence}_b|

    Args:
        outputs: Logits, ``[n, C]``.
        y: Classes, ``[n]``.
        bins: Equal intervals of confidence b; 15, as Guo et al. (2017) have it.

    Returns:
        A share; nan if an output is not finite.
    """
    if not outputs.isfinite().all():
        return math.nan
    confidence, predicted = outputs.float().softmax(1).max(1)
    gap = (predicted == y).float() - confidence
    edges = torch.linspace(0, 1, bins + 1, device=gap.device)[1:-1]
    sums = torch.zeros(bins, device=gap.device).index_add_(0, torch.bucketize(confidence, edges), gap)
    return float(sums.abs().sum()) / len(y)


@torch.no_grad()
def _outputs(model: nn.Module, x: Tensor) -> Tensor:
    was_training = model.training
    model.eval()
    outputs = torch.cat([model(part) for part in x.split(_BATCH)]).float()
    model.train(was_training)
    return outputs


def _error(outputs: Tensor, y: Tensor) -> float:
    if not outputs.isfinite().all():
        return math.nan
    return float((outputs.argmax(1) != y).sum()) / len(y)
