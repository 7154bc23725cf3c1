"""A trained model that was kept beside its run file, evaluated again."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from torch import Generator

from kmixup.experiments.checkpoints import load_model
from kmixup.experiments.evaluate import Evaluated, evaluate
from kmixup.experiments.models import build_model
from kmixup.experiments.points import load_points
from kmixup.experiments.provenance import origin_of
from kmixup.experiments.runs import read_run

__all__ = ["evaluate_run"]


def evaluate_run(
    run_file: Path,
    *,
    epsilons: Sequence[float] = (),
    sigmas: Sequence[float] = (),
    data_dir: Path | None = None,
    device: str = "cpu",
) -> Evaluated:
    """A trained model on the test points of its trial, as they are, under FGSM and under Gaussian noise.

    The noise is that of the trial: a size that the trial had gives the number in its run file.

    Args:
        run_file: The trial's run file, with the trained model beside it.
        epsilons: Sizes of FGSM attacks, in 1/255 of the pixel range.
        sigmas: Standard deviations of Gaussian noise, in the units of the raw inputs.
        data_dir: Where data files are.
        device: Where to evaluate.

    Returns:
        The figures.

    Raises:
        FileNotFoundError: If there is no run file, or its model was not kept.
        ValueError: If the file is no run, the trial diverged, the data are not those that the model was trained on, a
            size is negative, or what is attacked are no pixels in [0, 1].
    """
    run = read_run(run_file)
    if run.diverged:
        raise ValueError(f"{run_file}: the trial diverged, so there is no trained model. Lower its lr.")
    trial, data = run.trial, load_points(run.trial, data_dir).data
    if not run.comes_from(origin_of(trial, data.source)):
        raise ValueError(f"{run_file} was trained on other data or other code than are here. Give its --data-dir.")
    model = build_model(trial.model, tuple(data.x_test.shape[1:]), data.num_classes, trial.model_options)
    load_model(model, trial, run.origin, run_file.parent)
    return evaluate(
        model.to(device),
        data.x_test.to(device),
        data.y_test.to(device),
        mean=data.mean,
        std=data.std,
        epsilons=epsilons,
        sigmas=sigmas,
        generator=Generator().manual_seed(trial.seed_for("noise")),
    )
