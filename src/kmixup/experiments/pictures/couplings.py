"""Couplings of points in the plane and the vicinal points they make: Figure 2, and a part of the demo's picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure, FigureBase
from matplotlib.lines import Line2D
from torch import Generator, Tensor

from kmixup.mixup import KMixup
from kmixup.plan import MixPlan
from kmixup.style import BLUE, CLASS_COLOURS, ORANGE, WIDTH, bare, class_map, square_view, style

_LINES = 160  # couplings per panel; more would hide each other


def couplings(
    sets: Mapping[str, tuple[Tensor, Tensor]], ks: Sequence[int], alpha: float, generator: Generator
) -> Figure:
    """Couplings (top) and the vicinal points they make (bottom), a column for each k and data set.

    Args:
        sets: Points ``[n, 2]`` and classes 0 / 1 ``[n]``, by title.
        ks: Points per k-batch.
        alpha: Of Beta(alpha, alpha), drawn per sample, for the vicinal points.
        generator: Source of randomness.

    Returns:
        The figure.

    Paper: Figure 2.
    """
    with style():
        columns = len(sets) * len(ks)
        panel = max(WIDTH / columns, 1.2)
        figure = Figure(figsize=(panel * columns, 2 * panel + 0.55), layout="constrained")
        draw_couplings(figure, sets, ks, alpha, generator)
        figure.legend(handles=coupling_handles(), loc="outside lower center", ncols=4)
        return figure


def draw_couplings(
    figure: FigureBase,
    sets: Mapping[str, tuple[Tensor, Tensor]],
    ks: Sequence[int],
    alpha: float,
    generator: Generator,
    *,
    vicinal: int = 512,
) -> None:
    """The panels of `couplings`, into a figure or a part of one.

    Args:
        figure: Where to draw.
        sets: Points ``[n, 2]`` and classes 0 / 1 ``[n]``, by title.
        ks: Points per k-batch.
        alpha: Of Beta(alpha, alpha).
        generator: Source of randomness.
        vicinal: Points of each set to match in one batch, and so to draw; all if there are fewer.

    Paper: Figure 2.
    """
    columns = [(title, x, y, k) for k in ks for title, (x, y) in sets.items()]
    grid = np.asarray(figure.subplots(2, len(columns), squeeze=False))
    for (top, bottom), (title, x, y, k) in zip(grid.T, columns, strict=True):
        chosen = torch.randperm(len(x), generator=generator)[:vicinal]
        x, y = x[chosen], y[chosen]
        plan = KMixup(k, alpha, lam_per="sample", generator=generator).plan(x)
        _coupling_lines(top, x, y, plan)
        _vicinal_points(bottom, x, y, plan)
        top.set_title(f"{title}, k = {k}" if title else f"k = {k}")
    grid[0, 0].set_ylabel("couplings")
    grid[1, 0].set_ylabel(rf"vicinal points, $\alpha = {alpha:g}$")


def coupling_handles() -> list[Line2D]:
    """What the colours of `draw_couplings` mean, for a legend."""
    classes = [
        Line2D([], [], color=colour, marker="o", markersize=3, linewidth=1, label=f"class {label}")
        for colour, label in zip(CLASS_COLOURS, "12", strict=True)
    ]
    across = Line2D([], [], color="black", linewidth=1, label="coupling across the classes")
    mixed = Line2D([], [], color=class_map()(0.5), marker="o", markersize=3, linestyle="", label="mixed label")
    return [*classes, across, mixed]


def _coupling_lines(axes: Axes, x: Tensor, y: Tensor, plan: MixPlan) -> None:
    """Points, and a line from each of some to its partner: black where it joins two classes."""
    ends = torch.stack([x, plan.partner_of(x)], 1)[:_LINES]
    label, label2 = y[:_LINES], plan.partner_of(y)[:_LINES]
    for colour, kept in (
        (BLUE, (label == 0) & (label2 == 0)),
        (ORANGE, (label == 1) & (label2 == 1)),
        ("black", label != label2),
    ):
        axes.add_collection(LineCollection(list(ends[kept].numpy()), colors=colour, linewidths=0.5, alpha=0.7))
    axes.scatter(*x.T, c=class_map()(y.double().numpy()), s=3, linewidths=0, rasterized=True)
    bare(axes)
    square_view(axes, x)


def _vicinal_points(axes: Axes, x: Tensor, y: Tensor, plan: MixPlan) -> None:
    """Mixed points, in the blend of their classes' colours."""
    axes.scatter(*plan.mix(x).T, c=class_map()(plan.mix(y.double()).numpy()), s=3, linewidths=0, rasterized=True)
    bare(axes)
    square_view(axes, x)
