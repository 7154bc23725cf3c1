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

    return _sample(draw, seed, n_train, n_test, share)


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

    return _sample(draw, seed, n_train, n_test)


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
    r"""Two arms of an Archimedean spiral, half a turn apart, one class each: :math:`r = scale \cdot t`.

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

    return _sample(draw, seed, n_train, n_test)


def _polar(radius: Tensor, angle: Tensor) -> Tensor:
    return torch.stack([radius * angle.cos(), radius * angle.sin()], 1)


def _sample(
    draw: Callable[[Tensor, Generator], Tensor], seed: int, n_train: int, n_test: int, share: float = 0.5
) -> Data:
    """Points of two classes, of which the second has this share in expectation."""
    generator = Generator().manual_seed(seed)
    y = (torch.rand(n_train + n_test, generator=generator) < share).long()
    x = draw(y, generator).float()
    return Data(x[:n_train], y[:n_train], x[n_train:], y[n_train:], num_classes=2, note=_NOTE)
