"""The paper's pictures, in one style: colour-blind safe, legible in print."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import matplotlib as mpl
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure, FigureBase
from torch import Generator, Tensor

from kmixup.mixing import KMixup
from kmixup.plan import MixPlan

# Okabe and Ito (2008): told apart with any colour vision.
BLUE, ORANGE, GREEN, GREY = "#0072B2", "#D55E00", "#009E73", "#666666"
CLASSES = LinearSegmentedColormap.from_list("classes", [BLUE, "#DDDDDD", ORANGE])

_STYLE: dict[str, Any] = {
    "font.size": 9,
    "axes.titlesize": 9,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
    "lines.linewidth": 1.4,
    "savefig.dpi": 150,
    "svg.fonttype": "none",
}


@contextmanager
def style() -> Iterator[None]:
    """The one style of all figures; draw and save inside it."""
    with mpl.rc_context(_STYLE):  # pyright: ignore[reportArgumentType]
        yield


def couplings(
    sets: Mapping[str, tuple[Tensor, Tensor]],
    ks: Sequence[int],
    alpha: float,
    generator: Generator,
    *,
    vicinal: int = 512,
    figure: FigureBase | None = None,
) -> FigureBase:
    """Couplings (top) and vicinal points (bottom), a column for each data set and k.

    Args:
        sets: Points ``[n, 2]`` and classes 0 / 1 ``[n]``, by title.
        ks: Points per k-batch.
        alpha: Of Beta(alpha, alpha), for the vicinal points.
        generator: Source of randomness.
        vicinal: Vicinal points to draw, at least.
        figure: Where to draw; a new figure by default.

    Returns:
        The figure.

    Paper: Figure 2.
    """
    columns = [(title, x, y, k) for title, (x, y) in sets.items() for k in ks]
    if figure is None:
        figure = Figure(figsize=(2.2 * len(columns), 4.6), layout="constrained")
    grid = np.asarray(figure.subplots(2, len(columns), squeeze=False))
    for column, (title, x, y, k) in enumerate(columns):
        mixer = KMixup(k, alpha, lam_per="sample", generator=generator)
        draw_coupling(grid[0, column], x, y, mixer.plan(x))
        grid[0, column].set_title(f"{title}, k = {k}" if title else f"k = {k}")
        draw_vicinal(grid[1, column], x, y, mixer, vicinal)
    for row, name in enumerate(("couplings", f"vicinal points, alpha = {alpha:g}")):
        grid[row, 0].text(-0.06, 0.5, name, rotation=90, va="center", ha="right", transform=grid[row, 0].transAxes)
    return figure


def draw_coupling(axes: Axes, x: Tensor, y: Tensor, plan: MixPlan) -> None:
    """Points, and a line from each to its partner."""
    ends = torch.stack([x, plan.partner_of(x)], 1).numpy()
    axes.add_collection(LineCollection(list(ends), colors=GREY, linewidths=0.5, alpha=0.5, zorder=1))
    _scatter(axes, x, y.double(), size=5)


def draw_vicinal(axes: Axes, x: Tensor, y: Tensor, mixer: KMixup, points: int) -> None:
    """Mixed points, in the blend of their classes' colours."""
    mixed, blends = [], []
    while sum(map(len, mixed)) < points:
        plan = mixer.plan(x)
        mixed.append(plan.mix(x))
        blends.append(plan.mix(y.double()))
    _scatter(axes, torch.cat(mixed)[:points], torch.cat(blends)[:points], size=4)
    low, high = x.numpy().min(0), x.numpy().max(0)
    margin = 0.08 * (high - low)
    (left, bottom), (right, top) = low - margin, high + margin
    axes.set(xlim=(left, right), ylim=(bottom, top))


def _scatter(axes: Axes, x: Tensor, blend: Tensor, size: float) -> None:
    axes.scatter(*x.numpy().T, c=CLASSES(blend.numpy()), s=size, linewidths=0, zorder=2)
    axes.set(xticks=[], yticks=[], aspect="equal")
    axes.spines[:].set_visible(False)
