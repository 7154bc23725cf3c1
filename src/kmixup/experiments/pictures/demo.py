"""The demo's picture: couplings on the plane, digits mixed by k = 1 and k = 16, error and calibration."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure, FigureBase
from matplotlib.ticker import MaxNLocator
from torch import Generator, Tensor

from kmixup import KMixup
from kmixup.experiments.datasets import load_data
from kmixup.experiments.pictures.couplings import coupling_handles, draw_couplings
from kmixup.experiments.recipe import Cell, Recipe
from kmixup.experiments.run import Run
from kmixup.style import Series, bare, series, style

_KS = (1, 16)
_DIGITS = 6  # shown
_BATCH = 64  # matched


def picture(recipe: Recipe, runs: Sequence[Sequence[Run]]) -> Figure:
    """What k-mixup does, to points and to digits, and what came of it.

    Args:
        recipe: The demo's recipe.
        runs: The runs of each cell.

    Returns:
        The figure.
    """
    with style():
        figure = Figure(figsize=(11, 4.8), layout="constrained")
        left, middle, right = figure.subfigures(1, 3, width_ratios=(1, 1, 0.9)).flat  # pyright: ignore[reportAttributeAccessIssue]
        bars = load_data("four-bars", None, 0)
        points = {"": (bars.x_train[:256], bars.y_train[:256])}
        draw_couplings(left, points, _KS, 1.0, Generator().manual_seed(0))
        left.suptitle("Four Bars: whom a point is mixed with", fontsize=9)
        left.legend(handles=coupling_handles(), loc="outside lower center", ncols=2)
        digits = load_data(recipe.cells[0].settings.dataset, None, 0).x_train
        draw_mixed_digits(middle, digits[:_BATCH].squeeze(1), _KS, Generator().manual_seed(0))
        middle.suptitle(f"The same in batches of {_BATCH} digits, mixed half and half", fontsize=9)
        top, bottom = right.subplots(2, 1, height_ratios=(3, 2))
        _curves(top, recipe, runs)
        _calibration(bottom, recipe, runs)
        return figure


def draw_mixed_digits(figure: FigureBase, images: Tensor, ks: Sequence[int], generator: Generator) -> None:
    """Some images, and for each k their partners in one batch and both mixed half and half.

    Args:
        figure: Where to draw.
        images: Of one batch, ``[B, height, width]``.
        ks: Points per k-batch.
        generator: Of the order of the batch.
    """
    rows: list[tuple[str, Tensor]] = [("digit", images)]
    for k in ks:
        plan = KMixup(k, 1.0, generator=generator).plan(images)
        half = replace(plan, lam=torch.full_like(plan.lam, 0.5))
        rows += [(f"partner,\nk = {k}", plan.partner_of(images)), (f"mixed,\nk = {k}", half.mix(images))]
    grid = np.asarray(figure.subplots(len(rows), _DIGITS, squeeze=False))
    for axes_row, (name, shown) in zip(grid, rows, strict=True):
        for axes, image in zip(axes_row, shown, strict=False):
            axes.imshow(image.numpy(), cmap="gray_r", vmin=0, vmax=1)
            bare(axes)
        axes_row[0].set_ylabel(name, rotation=0, ha="right", va="center")


def method_name(cell: Cell) -> str:
    """A cell of the demo in words."""
    settings = cell.settings
    return {"erm": "no mixup", "mixup": "mixup (k = 1)"}.get(settings.method, f"k-mixup (k = {settings.k})")


def _finished(recipe: Recipe, runs: Sequence[Sequence[Run]]) -> Iterator[tuple[Cell, list[Run], Series]]:
    for cell, of_cell, look in zip(recipe.cells, runs, series(), strict=False):
        if finished := [run for run in of_cell if not run.diverged]:
            yield cell, finished, look


def _curves(axes: Axes, recipe: Recipe, runs: Sequence[Sequence[Run]]) -> None:
    for cell, finished, look in _finished(recipe, runs):
        errors = 100 * np.array([run.curves.test_error for run in finished])
        epochs = np.arange(1, errors.shape[1] + 1)
        every = max(1, len(epochs) // 6)
        axes.plot(epochs, errors.mean(0), label=method_name(cell), markevery=every, **look.line)
        axes.fill_between(epochs, errors.min(0), errors.max(0), color=look.colour, alpha=0.15, linewidth=0)
    axes.set(xlabel="epoch", ylabel="test error (%), log scale", yscale="log", xlim=(0, None))
    axes.set_title("Test error: mean and range over seeds")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.yaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_minor_formatter("{x:g}")
    axes.legend()


def _calibration(axes: Axes, recipe: Recipe, runs: Sequence[Sequence[Run]]) -> None:
    for cell, finished, look in _finished(recipe, runs):
        tested = [(100 * run.test.error, 100 * run.test.calibration_error) for run in finished if run.test]
        if tested:
            errors, calibration = zip(*tested, strict=True)
            axes.plot(calibration, errors, look.marker, color=look.colour, label=method_name(cell))
    axes.set(xlabel="expected calibration error (%)", ylabel="test error (%)")
    axes.set_title("Error and calibration of each trained network")
