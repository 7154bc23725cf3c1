"""The pictures: pure functions from data to a matplotlib figure, in one style.

Two colours of the Okabe-Ito palette stand for the two classes everywhere, what lies between them for mixed labels.
`gallery` computes what is drawn here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.colors import LinearSegmentedColormap, LogNorm
from matplotlib.figure import Figure, FigureBase
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedFormatter, FixedLocator, NullFormatter, NullLocator
from torch import Generator, Tensor

from kmixup.mixing import KMixup
from kmixup.plan import MixPlan
from kmixup.theory import ClusterStudy, SupportStudy, matching_rate

# Okabe and Ito (2008): told apart with any colour vision.
BLUE, ORANGE, GREEN, GREY = "#0072B2", "#D55E00", "#009E73", "#666666"
CLASSES = LinearSegmentedColormap.from_list("classes", [BLUE, "#B0A8B8", ORANGE])
SURFACE = LinearSegmentedColormap.from_list("surface", [BLUE, "#F4F4F4", ORANGE])

_CLASS_COLOURS = (BLUE, ORANGE)
_ON_SURFACE = ("#003F66", "#803800")  # the same, dark enough to stand out on themselves
_SERIES = ((BLUE, "o"), (ORANGE, "s"), (GREEN, "^"), ("#AA4499", "D"), ("#333333", "v"))
_WIDTH = 7.2  # inches: a page's text
_TAIL = 64  # slopes of W_2^2 are fitted from here on: smaller k still feel the size of the manifold
_LINES = 160  # couplings per panel; more would hide each other

_STYLE: dict[str, Any] = {
    "font.size": 8,
    "axes.titlesize": 8.5,
    "axes.labelsize": 8,
    "legend.fontsize": 7,
    "legend.frameon": False,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.7,
    "lines.linewidth": 1.2,
    "lines.markersize": 4,
    "savefig.dpi": 160,
    "pdf.fonttype": 42,  # text stays text
    "svg.fonttype": "none",
}


@contextmanager
def style() -> Iterator[None]:
    """The one style of all figures; draw and save inside it."""
    with mpl.rc_context(_STYLE):  # pyright: ignore[reportArgumentType]
        yield


def save(figure: Figure, path: Path, *, dpi: int = 180) -> list[Path]:
    """Write a figure as PDF and PNG.

    Args:
        figure: The figure.
        path: Where, without ending; the folder is made.
        dpi: Dots per inch of the PNG, and of the dense parts of the PDF.

    Returns:
        The two files.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    files = [path.with_name(path.name + ending) for ending in (".pdf", ".png")]
    for file in files:
        # Without a date, the same picture is the same file.
        metadata = {"CreationDate": None} if file.suffix == ".pdf" else {"Software": None}
        with style():
            figure.savefig(file, dpi=dpi, metadata=metadata)
    return files


@dataclass(frozen=True)
class Surface:
    """A trained model on data in the plane.

    Attributes:
        probability: Of the second class, on a grid, shape ``[rows, columns]``, lowest y first.
        extent: Left, right, bottom, top of the grid.
        x: Training points to draw, shape ``[n, 2]``.
        y: Their classes, 0 or 1, shape ``[n]``.
        test_error: In [0, 1].
    """

    probability: Tensor
    extent: tuple[float, float, float, float]
    x: Tensor
    y: Tensor
    test_error: float


def decision_surfaces(surfaces: Mapping[str, Mapping[str, Surface]], *, note: str = "") -> Figure:
    """Decision surfaces: a row per data set, a column per method.

    Args:
        surfaces: Data set name -> method name -> surface.
        note: What a reader must know, above the panels.

    Returns:
        The figure.

    Paper: Figure 1.
    """
    rows, columns = len(surfaces), max(len(row) for row in surfaces.values())
    with style():
        figure = Figure(figsize=(_WIDTH, 0.4 + _WIDTH / columns * 0.93 * rows), layout="constrained")
        grid = figure.subplots(rows, columns, squeeze=False)
        image = None
        for axes_row, (data_name, row) in zip(grid, surfaces.items(), strict=True):
            for axes, (method, surface) in zip(axes_row, row.items(), strict=True):
                image = axes.imshow(
                    surface.probability.numpy(),
                    extent=surface.extent,
                    origin="lower",
                    cmap=SURFACE,
                    vmin=0,
                    vmax=1,
                    interpolation="bilinear",
                    aspect="auto",
                )
                axes.contour(
                    surface.probability.numpy(),
                    levels=[0.5],
                    extent=surface.extent,
                    colors="black",
                    linewidths=0.7,
                )
                _class_points(axes, surface.x, surface.y, size=7, colours=_ON_SURFACE)
                _bare(axes, frame=True)
                axes.set_box_aspect(1)
                axes.set_title(f"{method}: test error {100 * surface.test_error:.1f} %")
            axes_row[0].set_ylabel(data_name, fontsize=9)
        handles = [
            Line2D([], [], color=colour, marker=marker, linestyle="", label=f"training points of class {label}")
            for colour, marker, label in zip(_ON_SURFACE, "o^", "12", strict=True)
        ]
        handles.append(Line2D([], [], color="black", linewidth=0.7, label="probability 1/2"))
        figure.legend(handles=handles, loc="outside lower center", ncols=3)
        if note:
            figure.suptitle(note, fontsize=8)
        assert image is not None
        bar = figure.colorbar(image, ax=grid, shrink=0.5, aspect=30, pad=0.015)
        bar.set_label("predicted probability of class 2")
        return figure


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
        panel = max(_WIDTH / columns, 1.2)
        figure = Figure(figsize=(panel * columns, 2 * panel + 0.55), layout="constrained")
        draw_couplings(figure, sets, ks, alpha, generator)
        handles = [
            Line2D([], [], color=colour, marker="o", markersize=3, linewidth=1, label=f"class {label}")
            for colour, label in zip(_CLASS_COLOURS, "12", strict=True)
        ]
        handles.append(Line2D([], [], color="black", linewidth=1, label="coupling across the classes"))
        handles.append(Line2D([], [], color=CLASSES(0.5), marker="o", markersize=3, linestyle="", label="mixed label"))
        figure.legend(handles=handles, loc="outside lower center", ncols=4)
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


@dataclass(frozen=True)
class Partners:
    """The locally-informed distribution of one point of data in the plane.

    Attributes:
        x: Data, shape ``[N, 2]``.
        y: Classes, 0 or 1, shape ``[N]``.
        index: The point, i.
        distribution: D_i, shape ``[N]``, sum one.
    """

    x: Tensor
    y: Tensor
    index: int
    distribution: Tensor


def partner_distributions(panels: Mapping[str, Partners], k: int) -> Figure:
    """Whom one point is mixed with: a panel per data set, colour and area grow with the probability.

    Args:
        panels: Data set name -> distribution.
        k: For the title.

    Returns:
        The figure.

    Paper: Figure 3.
    """
    with style():
        figure = Figure(figsize=(_WIDTH, _WIDTH / len(panels) + 0.55), layout="constrained")
        grid = figure.subplots(1, len(panels), squeeze=False)[0]
        top = max(float(panel.distribution.max()) for panel in panels.values())
        low = min(float(panel.distribution[panel.distribution > 0].min()) for panel in panels.values())
        norm, dots = LogNorm(low, top), None
        for axes, (name, panel) in zip(grid, panels.items(), strict=True):
            for label, marker in enumerate("os"):
                rest = panel.x[panel.y == label]
                axes.scatter(*rest.T, s=3, color="#D9D9D9", marker=marker, linewidths=0, rasterized=True)
                hit = (panel.distribution > 0) & (panel.y == label)
                chance = panel.distribution[hit]
                order = chance.argsort()
                dots = axes.scatter(
                    *panel.x[hit][order].T,
                    s=5 + 35 * (chance[order] / top).sqrt(),
                    c=chance[order],
                    cmap="viridis_r",
                    norm=norm,
                    marker=marker,
                    linewidths=0,
                )
            axes.plot(*panel.x[panel.index], "*", color="#CC0000", markersize=11, markeredgecolor="white", zorder=5)
            across = float(panel.distribution[panel.y != panel.y[panel.index]].sum())
            axes.set_title(f"{name}\n{100 * across:.0f} % to the other class")
            _bare(axes)
            _frame_on(axes, panel.x)
        assert dots is not None
        bar = figure.colorbar(dots, ax=grid, aspect=25, pad=0.01)
        bar.set_label(f"probability as partner, k = {k}")
        handles = [
            Line2D([], [], marker="*", color="#CC0000", linestyle="", markersize=8, label="the point"),
            Line2D([], [], marker="o", color=GREY, linestyle="", label="class 1"),
            Line2D([], [], marker="s", color=GREY, linestyle="", label="class 2"),
            Line2D([], [], marker="o", color="#D9D9D9", linestyle="", label="never drawn as its partner"),
        ]
        figure.legend(handles=handles, loc="outside lower center", ncols=4)
        return figure


def manifold_support(studies: Sequence[SupportStudy]) -> Figure:
    """Proposition 3.2: the share of couplings near the manifold, and how fast W_2^2 falls.

    Args:
        studies: One per manifold.

    Returns:
        The figure.

    Paper: Proposition 3.2.
    """
    with style():
        figure = Figure(figsize=(_WIDTH, 3.1), layout="constrained")
        left, right = figure.subplots(1, 2)
        tail = min(_TAIL, studies[0].ks[-2])
        for study, (colour, marker) in zip(studies, _SERIES, strict=False):
            left.errorbar(
                study.ks, study.share, study.share_error, color=colour, marker=marker, label=study.manifold.name
            )
            left.plot(study.ks, study.bound, ":", color=colour, linewidth=1)
            scaled = np.array(study.sq_cost) / study.sq_cost[0]
            fitted = study.slope(from_k=tail)
            right.plot(
                study.ks, scaled, color=colour, marker=marker, label=f"{study.manifold.name}: slope {fitted:.2f}"
            )
            ks = torch.tensor([k for k in study.ks if k >= tail], dtype=torch.float64)
            rate = matching_rate(ks, study.manifold.dim)
            right.plot(ks, rate * (scaled[-1] / float(rate[-1])) * 0.6, "--", color=colour, linewidth=0.8)
        left.plot([], [], ":", color=GREY, label="at least, by W₂²")
        left.set(xlabel="k", ylabel="share of couplings", ylim=(0, 1.03))
        left.set_title("Couplings within a quarter of the injectivity radius")
        right.plot([], [], "--", color=GREY, linewidth=0.8, label="1/k, log(k)/k, k$^{-2/d}$ (shifted)")
        right.set(yscale="log", xlabel="k", ylabel="W₂², relative to k = 1")
        right.set_title(f"Squared cost of the matching; slopes from k = {tail} on")
        right.legend(loc="lower left")
        for axes in (left, right):
            _powers_of_two(axes, studies[0].ks)
        handles, labels = left.get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=len(labels))
        return figure


def crossing_matches(studies: Mapping[str, Sequence[ClusterStudy]]) -> Figure:
    """Lemma 3.3 and Theorem 3.4: the share of matches that cross between clusters.

    Args:
        studies: Title -> studies over k; a panel each.

    Returns:
        The figure.

    Paper: Theorem 3.4.
    """
    with style():
        figure = Figure(figsize=(_WIDTH, 3.1), layout="constrained")
        grid = figure.subplots(1, len(studies), sharey=True, squeeze=False)[0]
        for axes, (title, panel) in zip(grid, studies.items(), strict=True):
            ks = np.array([study.k for study in panel])

            def share(values: list[float], ks: np.ndarray = ks) -> np.ndarray:
                return np.array(values) / ks

            axes.plot(ks, share([s.bound_hops for s in panel]), ":", color=GREY, label="bound with $m - 1$ hops")
            axes.plot(ks, share([s.bound for s in panel]), "--", color=GREY, label="bound of Theorem 3.4")
            axes.plot(ks, share([s.lemma_exact for s in panel]), color=_SERIES[1][0], label="Lemma 3.3, exact mean")
            axes.plot(ks, share([s.flow.mean for s in panel]), color=_SERIES[0][0], label="flow between clusters")
            axes.errorbar(
                ks,
                share([s.optimal.mean for s in panel]),
                share([2 * s.optimal.std_error for s in panel]),
                fmt="o",
                color="black",
                markersize=3,
                label="optimal matchings (± 2 s.e.)",
                zorder=5,
            )
            axes.set(yscale="log", xlabel="k", title=title)
            _powers_of_two(axes, ks.tolist())
        grid[0].set(ylabel="share of matches that cross", ylim=(None, 1.1))
        handles, labels = grid[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=3)
        return figure


def bands(panels: Mapping[str, tuple[Sequence[int], Mapping[str, Sequence[float]]]]) -> Figure:
    """Theorem 3.5: the share of crossing matches with both ends in the bands, against k.

    Args:
        panels: Title -> the ks, and per label of a band the shares.

    Returns:
        The figure.

    Paper: Theorem 3.5.
    """
    with style():
        figure = Figure(figsize=(_WIDTH, 2.7), layout="constrained")
        grid = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
        for axes, (title, (ks, lines)) in zip(grid, panels.items(), strict=True):
            for (label, shares), (colour, marker) in zip(lines.items(), _SERIES, strict=False):
                axes.plot(ks, shares, color=colour, marker=marker, label=label)
            axes.set(xlabel="k", title=title, ylim=(0, 1.03))
            axes.legend(loc="best")
            _powers_of_two(axes, ks)
        grid[0].set_ylabel("share of crossing matches in the bands")
        return figure


@dataclass(frozen=True)
class ExpansionStudy:
    """Theorem 4.1 on one model and data set.

    Attributes:
        one_minus_lam: Values of 1 - lam.
        rest_at: Absolute remainder at each, per k.
        ks: Values of k.
        terms: Name of a term -> its value per k, at ``alpha``.
        alpha: Of the second panel.
        alphas: Values of alpha.
        rest_share: Absolute remainder as a share of (1 - lam)^2's mean, per k over ``alphas``, in units of its value at
            the largest alpha for the smallest k.
    """

    one_minus_lam: Sequence[float]
    rest_at: Mapping[int, Sequence[float]]
    ks: Sequence[int]
    terms: Mapping[str, Sequence[float]]
    alpha: float
    alphas: Sequence[float]
    rest_share: Mapping[int, Sequence[float]]


def expansion(study: ExpansionStudy) -> Figure:
    """Theorem 4.1: the order of the remainder, the terms against k, and the remainder against alpha.

    Args:
        study: What to draw.

    Returns:
        The figure.

    Paper: Theorem 4.1.
    """
    with style():
        figure = Figure(figsize=(_WIDTH, 2.7), layout="constrained")
        left, middle, right = figure.subplots(1, 3)
        for (k, rests), (colour, marker) in zip(study.rest_at.items(), _SERIES, strict=False):
            left.plot(study.one_minus_lam, rests, color=colour, marker=marker, label=f"k = {k}")
        t, first = np.array(study.one_minus_lam), next(iter(study.rest_at.values()))
        left.plot(t, first[0] * (t / t[0]) ** 3 * 2, "--", color=GREY, label="slope 3")
        left.set(xscale="log", yscale="log", xlabel=r"$1 - \lambda$", title=r"Remainder at fixed $\lambda$")
        left.legend()
        for (name, values), (colour, marker) in zip(study.terms.items(), _SERIES, strict=False):
            middle.plot(study.ks, values, color=colour, marker=marker, label=name)
        middle.axhline(0, color=GREY, linewidth=0.6)
        middle.set(xlabel="k", title=rf"Terms of the loss, $\alpha = {study.alpha:g}$")
        _powers_of_two(middle, study.ks)
        middle.legend()
        for (k, shares), (colour, marker) in zip(study.rest_share.items(), _SERIES, strict=False):
            right.plot(study.alphas, shares, color=colour, marker=marker, label=f"k = {k}")
        right.set(xscale="log", yscale="log", xlabel=r"$\alpha$", title=r"Mean remainder / $E[(1 - \lambda)^2]$")
        right.set_ylim(top=6 * max(max(shares) for shares in study.rest_share.values()))
        right.legend(loc="upper center", ncols=3, columnspacing=1, handletextpad=0.4)
        return figure


def _class_points(axes: Axes, x: Tensor, y: Tensor, *, size: float, colours: tuple[str, str] = _CLASS_COLOURS) -> None:
    for label, (colour, marker) in enumerate(zip(colours, "o^", strict=True)):
        axes.scatter(
            *x[y == label].T, s=size, color=colour, marker=marker, edgecolors="white", linewidths=0.25, rasterized=True
        )


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
    axes.scatter(*x.T, c=CLASSES(y.double().numpy()), s=3, linewidths=0, rasterized=True)
    _bare(axes)
    _frame_on(axes, x)


def _vicinal_points(axes: Axes, x: Tensor, y: Tensor, plan: MixPlan) -> None:
    """Mixed points, in the blend of their classes' colours."""
    axes.scatter(*plan.mix(x).T, c=CLASSES(plan.mix(y.double()).numpy()), s=3, linewidths=0, rasterized=True)
    _bare(axes)
    _frame_on(axes, x)


def _bare(axes: Axes, *, frame: bool = False) -> None:
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[["left", "bottom", "top", "right"]].set_visible(frame)


def _frame_on(axes: Axes, x: Tensor) -> None:
    """A square view of the data, equal scales."""
    low, high = x.amin(0), x.amax(0)
    centre, half = (low + high) / 2, float((high - low).max()) * 0.53
    axes.set_xlim(float(centre[0]) - half, float(centre[0]) + half)
    axes.set_ylim(float(centre[1]) - half, float(centre[1]) + half)
    axes.set_aspect("equal")


def _powers_of_two(axes: Axes, ks: Sequence[int]) -> None:
    axes.set_xscale("log", base=2)
    shown = list(ks)[:: 1 if len(ks) <= 7 else 2]
    axes.xaxis.set_major_locator(FixedLocator(shown))
    axes.xaxis.set_major_formatter(FixedFormatter([str(k) for k in shown]))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_minor_formatter(NullFormatter())
