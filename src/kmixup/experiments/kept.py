"""A trained model that was kept beside its run file, evaluated again."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from kmixup.experiments.attacks import EPSILONS, fgsm_errors
from kmixup.experiments.checkpoints import load_model
from kmixup.experiments.models import build_model
from kmixup.experiments.points import load_points
from kmixup.experiments.provenance import origin_of
from kmixup.experiments.runs import read_run

__all__ = ["attack_run"]


def attack_run(
    run_file: Path, epsilons: Iterable[float] = EPSILONS, *, data_dir: Path | None = None, device: str = "cpu"
) -> dict[float, float]:
    """Errors under `kmixup.experiments.attacks.fgsm` of a trained model, on the test images of its trial.

    Args:
        run_file: The trial's run file, with the trained model beside it.
        epsilons: Sizes in 1/255 of the pixel range.
        data_dir: Where data files are.
        device: Where to attack.

    Returns:
        Error rate in [0, 1] by epsilon.

    Raises:
        FileNotFoundError: If there is no run file, or its model was not kept.
        ValueError: If the file is no run, the data are not those that the model was trained on, or they are no pixels
            in [0, 1].
    """
    run = read_run(run_file)
    trial, data = run.trial, load_points(run.trial, data_dir).data
    if not run.comes_from(origin_of(trial, data.source)):
        raise ValueError(f"{run_file} was trained on other data or other code than are here. Give its --data-dir.")
    model = build_model(trial.model, tuple(data.x_test.shape[1:]), data.num_classes, trial.model_options)
    load_model(model, trial, run.origin, run_file.parent)
    return fgsm_errors(model.to(device), data.x_test.to(device), data.y_test.to(device), epsilons, data.mean, data.std)
