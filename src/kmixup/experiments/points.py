"""The points of a trial: its data, fewer of them if it asks for fewer, some held out if it asks for validation."""

from __future__ import annotations

import math
from copy import copy
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Generator, Tensor

from kmixup.calibration import Calibration, calibrated, matched_sq_distance
from kmixup.experiments.datasets import Data, load_data
from kmixup.experiments.datasets.data import normalise
from kmixup.experiments.trial import Trial
from kmixup.measure import mean_sq_distance

__all__ = ["Points", "calibrate_trial", "hold_out", "load_points"]


@dataclass(frozen=True)
class Points:
    """What a trial learns from and is judged on.

    Attributes:
        data: Training and test points.
        x_validation: Training points held out, as they came, ``[m, ...]``; m may be 0.
        y_validation: Their classes.
    """

    data: Data
    x_validation: Tensor
    y_validation: Tensor

    def to(self, device: torch.device) -> Points:
        """The same on a device."""
        data = copy(self.data)  # checked already, in float64, which not every device has
        for name in ("x_train", "y_train", "x_test", "y_test"):
            object.__setattr__(data, name, getattr(data, name).to(device))
        return Points(data, self.x_validation.to(device), self.y_validation.to(device))

    def calibrate(self, trial: Trial) -> Calibration | None:
        """The alpha_k and xi of a trial on these points; None without mixing."""
        if not trial.mixes:
            return None
        # As Algorithm 1 has it: two independent k-samples of the data, whatever the batches.
        generator = Generator().manual_seed(trial.seed_for("calibration"))
        x = normalise(self.data.x_train, self.data.mean, self.data.std)
        k, rule, most = (trial.k, trial.alpha_rule, trial.max_alpha) if trial.calibrated else (1, "none", math.inf)
        matched = matched_sq_distance(x, k, generator=generator)
        return calibrated(k, trial.alpha, rule, mean_sq_distance(x), matched, max_alpha=most)


def load_points(trial: Trial, data_dir: Path | None = None) -> Points:
    """The points of a trial. Which are held out and which are left over is drawn by its seed.

    Raises:
        ValueError: If the trial asks for more points than there are, or the data set or its options are wrong.
        FileNotFoundError: If the data's files are not there.
    """
    return hold_out(load_data(trial.dataset, data_dir, trial.seed_for("data"), trial.dataset_options), trial)


def hold_out(data: Data, trial: Trial) -> Points:
    """The points of a trial among those of its data: what is held out and what is left over is drawn by its seed.

    Raises:
        ValueError: If the trial asks for more points than there are.
    """
    held_out = round(trial.validation * len(data.x_train))
    rest = len(data.x_train) - held_out
    if trial.validation and not (held_out and rest):
        raise ValueError(
            f"validation must leave points on both sides, got {trial.validation} of {len(data.x_train)} points."
        )
    size = trial.train_size or rest
    if size > rest:
        raise ValueError(f"train_size must be at most {rest}, got {size}.")
    x_validation, y_validation = data.x_train[:0], data.y_train[:0]
    if held_out:
        order = torch.randperm(len(data.x_train), generator=Generator().manual_seed(trial.seed_for("validation")))
        x_validation, y_validation = data.x_train[order[rest:]], data.y_train[order[rest:]]
        data = replace(data, x_train=data.x_train[order[:rest]], y_train=data.y_train[order[:rest]])
    if size < rest:
        chosen = torch.randperm(rest, generator=Generator().manual_seed(trial.seed_for("subset")))[:size]
        data = replace(data, x_train=data.x_train[chosen], y_train=data.y_train[chosen])
    return Points(data, x_validation, y_validation)


def calibrate_trial(trial: Trial, data_dir: Path | None = None) -> Calibration | None:
    """The alpha_k and xi that a run of this trial would have; None without mixing."""
    return load_points(trial, data_dir).calibrate(trial)
