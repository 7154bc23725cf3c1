"""The toy data of Table 1 and Figures 1 to 3: a reconstruction, for the paper only draws them.

Two classes, well clustered, no noise, ERM error about 0. See docs/experiments.md for how the geometry was chosen.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Generator, Tensor

from kmixup.experiments.datasets.data import Data
from kmixup.experiments.datasets.source import generated_source

_VERSION = 1  # raise it with any change of what is drawn
_NOTE = "toy data are a reconstruction; the paper only draws them"


def one_ring(
    data_dir: Path | None = None,
    seed: int = 0,
    *,
    n_train: int = 1000,
    n_test: int = 1000,
    disk: float = 0.95,
    inner: float = 0.98,
    outer: float = 1.04,
    share: float = 0.2,
) -> Data:
    """A disk inside a thin ring, points uniform by area.

    Args:
        data_dir: Not used.
        seed: Draws the points.
        n_train: Training points.
        n_test: Test points.
        disk: Radius of the disk.
        inner: Inner radius of the ring.
        outer: Outer radius of the ring.
        share: Share of the points on the ring.

    Paper: Table 1 (a), One Ring.
    """

    def draw(y: Tensor, generator: Generator) -> Tensor:
        u, angle = torch.rand(2, len(y), generator=generator)
        low, high = torch.where(y == 0, 0.0, inner), torch.where(y == 0, disk, outer)
        return _polar((low**2 + u * (high**2 - low**2)).sqrt(), 2 * math.pi * angle)

    shape = {"disk": disk, "inner": inner, "outer": outer, "share": share}
    return _sample("one-ring", draw, seed, n_train, n_test, share, shape)


def four_bars(
    data_dir: Path | None = None,
    seed: int = 0,
    *,
    n_train: int = 1000,
    n_test: int = 1000,
    spacing: float = 3.0,
    width: float = 0.4,
    height: float = 5.6,
) -> Data:
    """Four upright bars in a row, the classes alternating, points uniform in the bars.

    Args:
        data_dir: Not used.
        seed: Draws the points.
        n_train: Training points.
        n_test: Test points.
        spacing: Distance of the axes of neighbouring bars.
        width: Width of a bar.
        height: Height of a bar.

    Paper: Table 1 (b), Four Bars.
    """

    def draw(y: Tensor, generator: Generator) -> Tensor:
        bar = y + 2 * torch.randint(2, y.shape, generator=generator)
        u, v = torch.rand(2, len(y), generator=generator) - 0.5
        return torch.stack([spacing * (bar - 1.5) + width * u, height * v], 1)

    shape = {"spacing": spacing, "width": width, "height": height}
    return _sample("four-bars", draw, seed, n_train, n_test, 0.5, shape)


def swiss_roll(
    data_dir: Path | None = None,
    seed: int = 0,
    *,
    n_train: int = 1000,
    n_test: int = 1000,
    start: float = 1.5 * math.pi,
    stop: float = 4.5 * math.pi,
    scale: float = 0.94,
) -> Data:
    """Two arms of an Archimedean spiral (radius = scale * angle), half a turn apart, one class each.

    Args:
        data_dir: Not used.
        seed: Draws the points.
        n_train: Training points.
        n_test: Test points.
        start: Smallest angle t.
        stop: Largest angle t; t is uniform.
        scale: Radius per angle.

    Paper: Table 1 (c), Swiss Roll.
    """

    def draw(y: Tensor, generator: Generator) -> Tensor:
        t = start + (stop - start) * torch.rand(len(y), generator=generator)
        return _polar(scale * t, t + math.pi * y)

    shape = {"start": start, "stop": stop, "scale": scale}
    return _sample("swiss-roll", draw, seed, n_train, n_test, 0.5, shape)


def _polar(radius: Tensor, angle: Tensor) -> Tensor:
    return torch.stack([radius * angle.cos(), radius * angle.sin()], 1)


def _sample(
    name: str,
    draw: Callable[[Tensor, Generator], Tensor],
    seed: int,
    n_train: int,
    n_test: int,
    share: float,
    shape: dict[str, float],
) -> Data:
    """Points of two classes, of which the second has this share in expectation."""
    if n_train < 1 or n_test < 1:
        raise ValueError(f"n_train and n_test must be at least 1, got {n_train} and {n_test}.")
    generator = Generator().manual_seed(seed)
    y = (torch.rand(n_train + n_test, generator=generator) < share).long()
    x = draw(y, generator).float()
    source = generated_source(
        name, _VERSION, n_train=n_train, n_test=n_test, **{key: float(value) for key, value in shape.items()}
    )
    return Data(x[:n_train], y[:n_train], x[n_train:], y[n_train:], num_classes=2, note=_NOTE, source=source)
