"""Training curves from run files: the paper's Figure 4, and the same for any table.

kmixup curves table9 --where k=1,32 --where alpha=1,10 --to figure4      draws Figure 4 once the runs are there
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from kmixup.experiments.run import Run
from kmixup.experiments.summary import Report, row_name
from kmixup.style import style

Measure = Literal["train_accuracy", "test_error", "train_loss"]


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


def band(runs: Sequence[Run], measure: Measure) -> Band:
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


def training_curves(report: Report) -> Figure:
    """Training and test accuracy by epoch, a line (mean) and a band (standard deviation over trials) per cell.

    Training accuracy is that on mixed batches, each label counted with its weight: comparable between cells only in
    shape, as the paper notes.

    Args:
        report: Of some cells of a table; cells without runs are left out.

    Raises:
        ValueError: If no cell has runs.

    Paper: Figure 4.
    """
    cells = [cell for cell in report.cells if any(not run.diverged for run in cell.runs)]
    if not cells:
        raise ValueError(f"no runs of {report.recipe.name} to draw. Train some, or say where they are with --out.")
    with style():
        figure, (test, train) = plt.subplots(1, 2, figsize=(7.2, 3.0), sharex=True, layout="constrained")
        for cell in cells:
            settings = cell.cell.settings
            label = row_name(settings) + (f", alpha = {settings.alpha:g}" if settings.alpha else "")
            places: tuple[tuple[Axes, Measure], ...] = ((test, "test_error"), (train, "train_accuracy"))
            for axes, measure in places:
                drawn = band(cell.runs, measure)
                mean = 100 * (1 - drawn.mean if measure == "test_error" else drawn.mean)
                (line,) = axes.plot(drawn.epochs, mean, label=f"{label} (n = {drawn.trials})")
                low, high = mean - 100 * drawn.spread, mean + 100 * drawn.spread
                axes.fill_between(drawn.epochs, low, high, color=line.get_color(), alpha=0.2, linewidth=0)
        for axes, name in ((test, "test accuracy (%)"), (train, "training accuracy on mixed batches (%)")):
            axes.set(xlabel="epoch", ylabel=name)
        test.legend()
        reduced = sorted({note for cell in cells for note in cell.notes})
        if reduced:
            figure.suptitle("; ".join(reduced), fontsize=7)
        plt.close(figure)
    return figure
