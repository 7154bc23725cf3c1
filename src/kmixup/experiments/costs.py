"""What a table costs: operations of its trials, counted, and hours at a stated speed; or seconds, measured here."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from functools import lru_cache
from math import prod
from pathlib import Path

import torch
import torch.nn.functional as F
from torch.utils.flop_counter import FlopCounterMode

from kmixup.experiments.attacks import Normalised
from kmixup.experiments.evaluate import error_rate
from kmixup.experiments.models import build_model
from kmixup.experiments.recipe import Recipe
from kmixup.experiments.training import Training
from kmixup.experiments.trial import Trial

_EVALUATED = 1000

# Shape of an input, classes, training and test samples of the official files: a cost needs no data.
_SIZES: dict[str, tuple[tuple[int, ...], int, int, int]] = {
    "mnist": ((1, 28, 28), 10, 60_000, 10_000),
    "fashion-mnist": ((1, 28, 28), 10, 60_000, 10_000),
    "cifar10": ((3, 32, 32), 10, 50_000, 10_000),
    "cifar100": ((3, 32, 32), 100, 50_000, 10_000),
    "svhn": ((3, 32, 32), 10, 73_257, 26_032),
    "tiny-imagenet": ((3, 64, 64), 200, 100_000, 10_000),
    "speech-commands": ((1, 160, 101), 30, 51_088, 6_835),
}


@dataclass(frozen=True)
class Cost:
    """What the trials of some cells cost together.

    Attributes:
        title: Of the group of cells.
        trials: How many trials.
        per_trial: Floating-point operations of one trial's training and testing; the matching of k-mixup within it.
        matching: Share of them that computes cost matrices, of the cell with the largest k.
    """

    title: str
    trials: int
    per_trial: float
    matching: float

    @property
    def total(self) -> float:
        """Floating-point operations of all trials."""
        return self.trials * self.per_trial

    def hours(self, speed: float) -> float:
        """Hours of all trials.

        Args:
            speed: Floating-point operations per second that training really reaches, not the device's peak.
        """
        return self.total / speed / 3600


def recipe_costs(recipe: Recipe) -> list[Cost]:
    """The cost of each group of a table, all its trials counted.

    Raises:
        ValueError: If the sizes of a data set are not known.
    """
    costs = []
    for group, title in recipe.groups.items():
        cells = [cell for cell in recipe.cells if cell.group == group]
        if cells:
            shares = [_matching_flops(cell.settings) / trial_flops(cell.settings) for cell in cells]
            mean = sum(cell.trials * trial_flops(cell.settings) for cell in cells) / sum(cell.trials for cell in cells)
            costs.append(Cost(title, sum(cell.trials for cell in cells), mean, max(shares)))
    return costs


def trial_flops(trial: Trial) -> float:
    """Floating-point operations of one trial: training, cost matrices, a test after every epoch.

    Counted by PyTorch on the model itself, without data or memory; a multiplication and an addition are two.
    """
    shape, classes, train, test = _sizes(trial.dataset)
    step, forward = _model_flops(trial.model, shape, classes, json.dumps(trial.model_options, sort_keys=True))
    return trial.epochs * (train * step + test * forward) + _matching_flops(trial)


def _matching_flops(trial: Trial) -> float:
    """Of the cost matrices: k products of two inputs for each sample."""
    shape, _, train, _ = _sizes(trial.dataset)
    return 0.0 if trial.k == 1 else 2.0 * trial.epochs * train * trial.k * prod(shape)


def _sizes(dataset: str) -> tuple[tuple[int, ...], int, int, int]:
    if dataset not in _SIZES:
        raise ValueError(f"the sizes of {dataset!r} are not known here. Known: {', '.join(_SIZES)}.")
    return _SIZES[dataset]


@lru_cache
def _model_flops(name: str, shape: tuple[int, ...], classes: int, options: str) -> tuple[float, float]:
    """Operations of a training step (forward and backward) and of a forward pass, per sample."""
    batch = 2  # batch norm refuses one
    with torch.device("meta"):
        model = build_model(name, shape, classes, json.loads(options)).train()
        x, y = torch.empty(batch, *shape), torch.zeros(batch, dtype=torch.int64)
        with FlopCounterMode(display=False) as forward:
            outputs = model(x)
        with FlopCounterMode(display=False) as backward:
            F.cross_entropy(outputs, y).backward()
    once = forward.get_total_flops()
    return (once + backward.get_total_flops()) / batch, once / batch


def estimate_seconds(trial: Trial, *, data_dir: Path | None = None, device: str = "cpu", budget: float = 0.3) -> float:
    """Measured estimate of a trial's time: some steps and one evaluation, timed, times their number.

    Args:
        trial: The settings.
        data_dir: Where data files are.
        device: Where to train.
        budget: Seconds of steps to time, at least one step.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.random.fork_rng():
            start = time.perf_counter()
            training = Training(trial, data_dir=data_dir, device=device)
            setup = time.perf_counter() - start
            return setup + trial.epochs * _seconds_per_epoch(training, budget)
    finally:
        torch.set_num_threads(threads)


def _seconds_per_epoch(training: Training, budget: float) -> float:
    """Time of an epoch, from as many steps as fit in ``budget`` seconds (one at least) and an evaluation."""
    training.model.train()
    times: list[float] = []
    while sum(times) < budget and len(times) < 200:
        start = time.perf_counter()
        for _ in training.steps():
            times.append(time.perf_counter() - start)
            start = time.perf_counter()
            if sum(times) >= budget and len(times) > 1:
                break
    x, y = training.data.x_test, training.data.y_test
    part = min(_EVALUATED, len(x))
    start = time.perf_counter()
    error_rate(Normalised(training.model, training.data.mean, training.data.std), x[:part], y[:part])
    judged = len(x) + len(training.points.y_validation)
    evaluation = (time.perf_counter() - start) * judged / part
    # The first step warms caches up; it is counted only if there is no other.
    measured = times[1:] or times
    steps = len(training.data.x_train) // min(training.trial.batch_size, len(training.data.x_train))
    return steps * sum(measured) / len(measured) + evaluation
