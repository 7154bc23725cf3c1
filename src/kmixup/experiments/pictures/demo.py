"""The demo's picture: couplings on the plane, and learning curves."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from torch import Generator

from kmixup.experiments.datasets import DATASETS
from kmixup.experiments.pictures.couplings import draw_couplings
from kmixup.experiments.recipe import Cell, Recipe
from kmixup.experiments.run import Run
from kmixup.style import BLUE, GREEN, ORANGE

_COLOURS = (ORANGE, BLUE, GREEN)


def picture(recipe: Recipe, runs: Sequence[Sequence[Run]]) -> Figure:
    """Left: couplings and vicinal points at k = 1 and 32 on a 2-D set. Right: test error over the epochs.

    Args:
        recipe: The demo's recipe.
        runs: The runs of each cell.

    Returns:
        The figure.
    """
    figure = Figure(figsize=(9, 4.4), layout="constrained")
    left, right = figure.subfigures(1, 2, width_ratios=(1.15, 1)).flat  # pyright: ignore[reportAttributeAccessIssue]
    bars = DATASETS["four-bars"](None, 0)
    x, y = bars.x_train[:256], bars.y_train[:256]
    draw_couplings(left, {"": (x, y)}, (1, 32), 1.0, Generator().manual_seed(0))
    left.suptitle("whom a point is mixed with, and what comes of it", fontsize=9)
    _curves(right.subplots(), recipe, runs)
    return figure


def _curves(axes: Axes, recipe: Recipe, runs: Sequence[Sequence[Run]]) -> None:
    for cell, of_cell, colour in zip(recipe.cells, runs, _COLOURS, strict=True):
        finished = [run.curves.test_error for run in of_cell if not run.diverged]
        if finished:
            errors = 100 * np.array(finished)
            epochs = np.arange(1, errors.shape[1] + 1)
            axes.plot(epochs, errors.mean(0), color=colour, label=method_name(cell))
            axes.fill_between(epochs, errors.min(0), errors.max(0), color=colour, alpha=0.15, linewidth=0)
    axes.set(xlabel="epoch", ylabel="test error (%), mean and range over seeds", yscale="log", title=recipe.title)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.yaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_minor_formatter("{x:g}")
    axes.legend()


def method_name(cell: Cell) -> str:
    """A cell of the demo in words."""
    settings = cell.settings
    return {"erm": "no mixup", "mixup": "mixup"}.get(settings.method, f"k-mixup, k={settings.k}")
