"""White-box attacks on a trained model: the fast gradient sign method."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import torch
import torch.nn.functional as F
from pydantic import ValidationError
from torch import Tensor, nn

from kmixup.experiments.datasets.data import normalise

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
    epsilons = list(epsilons)
    was_training = model.training
    attacked = Normalised(model, mean, std).eval()
    wrong = dict.fromkeys(epsilons, 0)
    try:
        for epsilon in epsilons:
            _refuse(attacked, x, epsilon)
        for images, classes in zip(x.split(_BATCH), y.split(_BATCH), strict=True):
            sign = _gradient_sign(attacked, images, classes)
            with torch.no_grad():
                for epsilon in epsilons:
                    outputs = attacked(_step(images, sign, epsilon))
                    wrong[epsilon] += int((outputs.argmax(1) != classes).sum())
    finally:
        model.train(was_training)
    return {epsilon: count / len(y) for epsilon, count in wrong.items()}


def attack_run(
    run_file: Path, epsilons: Iterable[float] = EPSILONS, *, data_dir: Path | None = None, device: str = "cpu"
) -> dict[float, float]:
    """Errors under `fgsm` of a trained model, on the test images of its trial.

    Args:
        run_file: The trial's run file, with the trained model beside it.
        epsilons: Sizes in 1/255 of the pixel range.
        data_dir: Where data files are.
        device: Where to attack.

    Returns:
        Error rate in [0, 1] by epsilon.

    Raises:
        FileNotFoundError: If there is no run file, or its model was not kept.
        ValueError: If the file is no run, or the data are no pixels in [0, 1].
    """
    from kmixup.experiments.checkpoints import load_model
    from kmixup.experiments.models import MODELS
    from kmixup.experiments.run import Run
    from kmixup.experiments.training import load_data

    try:
        trial = Run.model_validate_json(run_file.read_bytes()).trial
    except ValidationError as error:
        raise ValueError(f"{run_file} is no run file: {error.errors()[0]['msg']}.") from error
    data = load_data(trial, data_dir)
    model = MODELS[trial.model](tuple(data.x_test.shape[1:]), data.num_classes, **trial.model_options)
    load_model(model, trial, run_file.parent)
    return fgsm_errors(model.to(device), data.x_test.to(device), data.y_test.to(device), epsilons, data.mean, data.std)


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
