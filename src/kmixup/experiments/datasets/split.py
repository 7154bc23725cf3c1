"""From a table's numbers and classes to data: the split, and what is learnt from its training rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
from torch import Generator, Tensor

from kmixup.experiments.datasets.data import Data

Scaling = Literal["raw", "scalar", "standard"]
SCALINGS = ("raw", "scalar", "standard")
Fill = float | Literal["mean", "median"]


def split_rows(
    x: np.ndarray,
    y: Sequence[int] | np.ndarray,
    num_classes: int,
    seed: int,
    *,
    scaling: Scaling,
    test_share: float,
    stratify: bool = False,
    fill: Fill = 0.0,
    note: str = "",
    source: str = "",
) -> Data:
    """A random split; what stands for missing values and the scaling come from the training rows alone.

    Args:
        x: Points, shape ``[n, d]``; NaN where a value is missing.
        y: Classes ``0 ... num_classes - 1``, shape ``[n]``.
        num_classes: Number of classes.
        seed: Draws the split.
        scaling: ``"raw"`` values; ``"scalar"``: one mean and one standard deviation over all values, as the printed xi
            of Iris and Breast cancer imply; ``"standard"``: each column by its own.
        test_share: Share of the rows that are tested on.
        stratify: Whether each class has this share of test rows, as far as whole rows allow; every class keeps a
            training row.
        fill: For missing values: a number, or the mean or median of the column's training rows.
        note: Of the data.
        source: Of the data.

    Raises:
        ValueError: If an option is out of range, or a side of the split is empty.
    """
    if not 0 < test_share < 1:
        raise ValueError(f"test_share must be in (0, 1), got {test_share}.")
    points, classes = torch.from_numpy(np.asarray(x, dtype=np.float64)), torch.as_tensor(y, dtype=torch.int64)
    n_test = round(test_share * len(classes))
    if not 0 < n_test < len(classes):
        raise ValueError(
            f"test_share={test_share} of {len(classes)} rows leaves {n_test} to test on. Change test_share."
        )
    generator = Generator().manual_seed(seed)
    order = torch.randperm(len(classes), generator=generator)
    if stratify:
        order = spread_by_class(order, classes, num_classes, n_test, generator)
    test, train = order.split([n_test, len(classes) - n_test])
    points = _scaled(_filled(points, train, fill), train, scaling).float()
    y_train, y_test = classes[train], classes[test]
    return Data(points[train], y_train, points[test], y_test, num_classes=num_classes, note=note, source=source)


def fill_and_scale(x: np.ndarray, fill: Fill, scaling: Scaling) -> Tensor:
    """All rows of a table, float32, ``[n, d]``, as `split_rows` makes them of training rows."""
    points = torch.from_numpy(np.asarray(x, dtype=np.float64))
    rows = torch.arange(len(points))
    return _scaled(_filled(points, rows, fill), rows, scaling).float()


def spread_by_class(order: Tensor, classes: Tensor, num_classes: int, n_test: int, generator: Generator) -> Tensor:
    """An order of rows in which any start has each class's share of rows, and not the last row of any class.

    Args:
        order: The rows, shape ``[n]``; rows of a class keep their order.
        classes: Class of each row, shape ``[n]``.
        num_classes: Number of classes.
        n_test: Length of the start that is tested on.
        generator: Draws where each class begins.

    Raises:
        ValueError: If that start leaves a class without a training row.
    """
    if n_test > len(classes) - num_classes:
        raise ValueError(
            f"{n_test} test rows of {len(classes)} leave no training row for some of {num_classes} classes. Lower "
            "test_share, or stratify=false."
        )
    place = torch.empty(len(classes), dtype=torch.float64)
    offsets = torch.rand(num_classes, generator=generator, dtype=torch.float64)
    for label, offset in enumerate(offsets):
        rows = order[classes[order] == label]
        place[rows] = (torch.arange(len(rows)) + offset) / len(rows)
        place[rows[-1:]] = 1.0  # trained on, whatever else is
    return order[place[order].argsort(stable=True)]


def _filled(points: Tensor, train: Tensor, fill: Fill) -> Tensor:
    missing = points.isnan()
    if not missing.any():
        return points
    if isinstance(fill, str):
        centre = points[train].nanmean(0) if fill == "mean" else points[train].nanmedian(0).values
        empty = centre.isnan().nonzero()
        if len(empty):
            raise ValueError(
                f"missing={fill!r} needs a value in the training rows of every column, got none in {len(empty)}. "
                "Drop these columns, or give a number."
            )
        return torch.where(missing, centre, points)
    return points.masked_fill(missing, fill)


def _scaled(points: Tensor, train: Tensor, scaling: Scaling) -> Tensor:
    if scaling == "raw":
        return points
    rows = points[train]
    if scaling == "scalar":
        return (points - rows.mean()) / rows.std(correction=0)
    if scaling == "standard":
        std = rows.std(0, correction=0)
        return (points - rows.mean(0)) / torch.where(std > 0, std, 1.0)  # a constant column becomes 0
    raise ValueError(f"scaling must be one of {', '.join(SCALINGS)}, got {scaling!r}.")
