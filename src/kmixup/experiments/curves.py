"""What runs say epoch by epoch: a learning curve's mean over trials, and its spread. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from kmixup.experiments.run import Run

CurveName = Literal["test_error", "train_accuracy", "train_loss"]


@dataclass(frozen=True)
class Band:
    """A learning curve over several trials.

    Attributes:
        epochs: From 1, shape ``[n]``.
        mean: Over trials, shape ``[n]``.
        spread: Standard deviation over trials, shape ``[n]``; zero for one trial.
        trials: How many.
    """

    epochs: np.ndarray
    mean: np.ndarray
    spread: np.ndarray
    trials: int


def band(runs: Sequence[Run], measure: CurveName) -> Band:
    """Mean and standard deviation of a curve over runs, at the epochs that all of them have.

    Args:
        runs: Of one cell; diverged runs are left out.
        measure: Which curve. Accuracies and errors are shares.

    Raises:
        ValueError: If no run is left, or the runs have no epoch in common.
    """
    curves = []
    for run in runs:
        if not run.diverged:
            values = getattr(run.curves, measure)
            curves.append(dict(zip(run.curves.epochs or range(1, len(values) + 1), values, strict=True)))
    common = sorted(set.intersection(*map(set, curves))) if curves else []
    if not common:
        raise ValueError(f"there must be runs with epochs in common to draw a curve, got {len(curves)} that finished.")
    values = np.array([[curve[epoch] for epoch in common] for curve in curves])
    return Band(
        np.array(common), values.mean(0), values.std(0, ddof=1) if len(values) > 1 else values[0] * 0, len(values)
    )
