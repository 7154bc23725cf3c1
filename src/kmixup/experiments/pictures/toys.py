"""Figures 1 to 3: decision surfaces, couplings and partners on data in the plane.

kmixup reproduce figure1      (3 data sets x 3 methods, 200 epochs each)
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from torch import Generator, Tensor

from kmixup import theory
from kmixup.experiments.datasets import DATASETS
from kmixup.experiments.pictures.couplings import couplings
from kmixup.experiments.recipe import make_trial
from kmixup.experiments.training import Training, run
from kmixup.style import CLASS_COLOURS, CLASS_MARKERS, GREY, WIDTH, bare, save, square_view, style, surface_map

TOYS = {"One Ring": "one-ring", "Four Bars": "four-bars", "Swiss Roll": "swiss-roll"}
_K = 32
_GRID = 160  # points of a decision surface, each way
_ON_SURFACE = ("#003F66", "#803800")  # the colours of the classes, dark enough to stand out on themselves


def figure1(out: Path, *, seed: int = 0, epochs: int | None = None) -> list[Path]:
    """Decision surfaces of ERM, mixup and 32-mixup, all with alpha = 1, on the toy data; settings of Table 1.

    Args:
        out: Folder for the files.
        seed: Of the trials.
        epochs: Another number of epochs than Table 1's, for a first look; the picture says so.

    Returns:
        The files written.

    Paper: Figure 1.
    """
    methods = {
        "ERM": {"method": "erm"},
        "mixup": {"k": 1, "alpha": 1.0, "alpha_rule": "none"},
        f"{_K}-mixup": {"k": _K, "alpha": 1.0, "alpha_rule": "none"},
    }
    surfaces = {
        title: {
            name: _surface({"dataset": dataset, "seed": seed, **settings}, epochs) for name, settings in methods.items()
        }
        for title, dataset in TOYS.items()
    }
    whole = make_trial({"dataset": TOYS["One Ring"]}, "table1").epochs
    notes = [] if epochs in (None, whole) else [f"reduced protocol: {epochs} epochs instead of {whole}"]
    solved = [title for title, row in surfaces.items() if row["ERM"].test_error == 0]
    if solved:
        notes.append(
            f"{', '.join(solved)}: ERM errs 0 %, so mixing cannot gain there; it shows in how soft the surface is"
        )
    return save(decision_surfaces(surfaces, note="\n".join(notes)), out / "figure1")


def figure2(out: Path, *, seed: int = 0) -> list[Path]:
    """Couplings and 512 vicinal points for k = 1 and k = 32, alpha = 1.

    Args:
        out: Folder for the files.
        seed: Of the data and the draws.

    Returns:
        The files written.

    Paper: Figure 2.
    """
    points = {title: _toy(dataset, seed) for title, dataset in TOYS.items()}
    figure = couplings(points, (1, _K), 1.0, Generator().manual_seed(seed))
    return save(figure, out / "figure2")


def figure3(out: Path, *, seed: int = 0, draws: int = 20_000) -> list[Path]:
    """The locally-informed distribution of one random point per toy data set, k = 32.

    Args:
        out: Folder for the files.
        seed: Of the data, the points and the draws.
        draws: Draws of the partner.

    Returns:
        The files written.

    Paper: Figure 3.
    """
    generator = Generator().manual_seed(seed)
    panels = {}
    for title, dataset in TOYS.items():
        x, y = _toy(dataset, seed)
        index = int(torch.randint(len(x), (), generator=generator))
        distribution = theory.local_distribution(x, _K, index, draws=draws, generator=generator)
        panels[title] = Partners(x, y, index, distribution)
    return save(partner_distributions(panels, _K), out / "figure3")


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
        figure = Figure(figsize=(WIDTH, 0.4 + WIDTH / columns * 0.93 * rows), layout="constrained")
        grid = figure.subplots(rows, columns, squeeze=False)
        image = None
        for axes_row, (data_name, row) in zip(grid, surfaces.items(), strict=True):
            for axes, (method, surface) in zip(axes_row, row.items(), strict=True):
                image = axes.imshow(
                    surface.probability.numpy(),
                    extent=surface.extent,
                    origin="lower",
                    cmap=surface_map(),
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
                bare(axes, frame=True)
                axes.set_box_aspect(1)
                axes.set_title(f"{method}: test error {100 * surface.test_error:.1f} %")
            axes_row[0].set_ylabel(data_name, fontsize=9)
        handles = [
            Line2D([], [], color=colour, marker=marker, linestyle="", label=f"training points of class {label}")
            for colour, marker, label in zip(_ON_SURFACE, CLASS_MARKERS, "12", strict=True)
        ]
        handles.append(Line2D([], [], color="black", linewidth=0.7, label="probability 1/2"))
        figure.legend(handles=handles, loc="outside lower center", ncols=3)
        if note:
            figure.suptitle(note, fontsize=8)
        assert image is not None
        bar = figure.colorbar(image, ax=grid, shrink=0.5, aspect=30, pad=0.015)
        bar.set_label("predicted probability of class 2")
        return figure


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
        figure = Figure(figsize=(WIDTH, WIDTH / len(panels) + 0.55), layout="constrained")
        grid = figure.subplots(1, len(panels), squeeze=False)[0]
        top = max(float(panel.distribution.max()) for panel in panels.values())
        low = min(float(panel.distribution[panel.distribution > 0].min()) for panel in panels.values())
        norm, dots = LogNorm(low, top), None
        for axes, (name, panel) in zip(grid, panels.items(), strict=True):
            for label, marker in enumerate(CLASS_MARKERS):
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
            bare(axes)
            square_view(axes, panel.x)
        assert dots is not None
        bar = figure.colorbar(dots, ax=grid, aspect=25, pad=0.01)
        bar.set_label(f"probability as partner, k = {k}")
        handles = [
            Line2D([], [], marker="*", color="#CC0000", linestyle="", markersize=8, label="the point"),
            Line2D([], [], marker="o", color=GREY, linestyle="", label="class 1"),
            Line2D([], [], marker="^", color=GREY, linestyle="", label="class 2"),
            Line2D([], [], marker="o", color="#D9D9D9", linestyle="", label="never drawn as its partner"),
        ]
        figure.legend(handles=handles, loc="outside lower center", ncols=4)
        return figure


def _toy(dataset: str, seed: int) -> tuple[Tensor, Tensor]:
    data = DATASETS[dataset](None, seed)
    return data.x_train, data.y_train


def _surface(settings: dict[str, object], epochs: int | None) -> Surface:
    trial = make_trial({**settings, **({} if epochs is None else {"epochs": epochs})}, "table1")
    trained: list[Training] = []
    finished = run(trial, on_epoch=lambda training: trained.append(training) if not trained else None)
    model, data = trained[0].model, trained[0].data
    if finished.final_error is None:
        raise ValueError(f"training of {trial.dataset} with k = {trial.k} diverged: there is no surface to draw.")
    low, high = data.x_train.amin(0), data.x_train.amax(0)
    margin = 0.12 * (high - low)
    (left, bottom), (right, top) = (low - margin).tolist(), (high + margin).tolist()
    v, u = torch.meshgrid(torch.linspace(bottom, top, _GRID), torch.linspace(left, right, _GRID), indexing="ij")
    with torch.no_grad():
        probability = model.eval()(torch.stack([u, v], -1).view(-1, 2)).softmax(1)[:, 1].view(_GRID, _GRID)
    return Surface(
        probability, (left, right, bottom, top), data.x_train[:400], data.y_train[:400], finished.final_error
    )


def _class_points(axes: Axes, x: Tensor, y: Tensor, *, size: float, colours: tuple[str, str] = CLASS_COLOURS) -> None:
    for label, (colour, marker) in enumerate(zip(colours, CLASS_MARKERS, strict=True)):
        axes.scatter(
            *x[y == label].T, s=size, color=colour, marker=marker, edgecolors="white", linewidths=0.25, rasterized=True
        )
