"""Images in the official formats of MNIST, Fashion-MNIST, CIFAR-10, CIFAR-100 and SVHN.

A loader looks for its files in ``data_dir`` itself, then in the folder that the official archive or torchvision makes
of them. Files are decoded once (`kmixup.experiments.datasets.cache`); crop and flip act on whole batches.
"""

from __future__ import annotations

import math
import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from kmixup.experiments.datasets.cache import Tensors, decoded
from kmixup.experiments.datasets.data import Data
from kmixup.experiments.datasets.pixels import find_folder, image_data, random_crop, random_crop_and_flip
from kmixup.experiments.datasets.source import contents

# The released CIFAR-10 code's constants; its std is the mean of each image's own, a fifth below that of all pixels.
CIFAR10_MEAN = (0.4914, 0.4822, 0.4465)
CIFAR10_STD = (0.2023, 0.1994, 0.2010)

_IDX_PARTS = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")


def mnist(data_dir: Path | None = None, seed: int = 0) -> Data:
    """MNIST, 60,000 + 10,000 digits of 28 x 28, from the IDX files, raw or gzipped.

    Not normalised: pixels in [0, 1] give the xi that Table 3 prints.

    Paper: Table 3, MNIST.
    """
    return _idx("mnist", data_dir, "mnist", "MNIST/raw")


def fashion_mnist(data_dir: Path | None = None, seed: int = 0) -> Data:
    """Fashion-MNIST, in MNIST's format; not in the paper."""
    return _idx("fashion-mnist", data_dir, "fashion-mnist", "FashionMNIST/raw")


def cifar10(data_dir: Path | None = None, seed: int = 0, *, augment: bool = True) -> Data:
    """CIFAR-10, 50,000 + 10,000 images of 3 x 32 x 32, from the python pickles.

    Normalised with the constants of the released code.

    Args:
        data_dir: Holds ``cifar-10-batches-py``, or is that folder.
        seed: Unused: the split is the official one.
        augment: Random crop with padding 4 and random flip, as the released code does.

    Paper: Table 9, CIFAR-10.
    """
    return _cifar(
        "cifar10",
        find_folder("cifar10", data_dir, ["data_batch_1", "test_batch"], "cifar-10-batches-py"),
        [f"data_batch_{i}" for i in range(1, 6)],
        "test_batch",
        "labels",
        10,
        moments=(torch.tensor(CIFAR10_MEAN), torch.tensor(CIFAR10_STD)),
        augment=augment,
    )


def cifar100(data_dir: Path | None = None, seed: int = 0, *, augment: bool = True) -> Data:
    """CIFAR-100 with its 100 fine labels; normalised with the moments of the training pixels. Arguments as `cifar10`.

    Paper: Table 11a, CIFAR-100.
    """
    folder = find_folder("cifar100", data_dir, ["train", "test"], "cifar-100-python")
    return _cifar("cifar100", folder, ["train"], "test", "fine_labels", 100, moments=None, augment=augment)


def svhn(data_dir: Path | None = None, seed: int = 0, *, augment: bool = False) -> Data:
    """SVHN, cropped digits of 3 x 32 x 32: 73,257 + 26,032, from ``train_32x32.mat`` and ``test_32x32.mat``.

    Normalised with the moments of the training pixels; the paper names neither constants nor augmentation.

    Args:
        data_dir: Holds the files, or a folder ``svhn`` with them.
        seed: Unused: the split is the official one.
        augment: Random crop with padding 4; never a flip, for these are digits.

    Paper: Table 11b, SVHN.
    """
    folder = find_folder("svhn", data_dir, ["train_32x32.mat", "test_32x32.mat"], "svhn", "SVHN")
    files = {part: folder / f"{part}_32x32.mat" for part in ("train", "test")}

    def decode() -> Tensors:
        tensors: Tensors = {}
        for part, file in files.items():
            tensors[f"x_{part}"], tensors[f"y_{part}"] = _read_mat(file)
        return tensors

    return image_data(
        decoded("svhn", list(files.values()), decode, folder),
        10,
        moments="own",
        augment=random_crop(4) if augment else None,
        official=(73_257, 26_032),
    )


def _idx(name: str, data_dir: Path | None, *below: str) -> Data:
    folder = find_folder(name, data_dir, _IDX_PARTS, *below)
    files = [path if (path := folder / part).exists() else folder / f"{part}.gz" for part in _IDX_PARTS]

    def decode() -> Tensors:
        tensors: Tensors = {}
        for part, images, labels in (("train", *files[:2]), ("test", *files[2:])):
            x, y = _read_idx(images, 3), _read_idx(labels, 1).long()
            _check_pairs(images, len(x), labels, y, 10)
            tensors |= {f"x_{part}": x[:, None], f"y_{part}": y}
        return tensors

    pixels = decoded(name, files, decode, folder)
    return image_data(pixels, 10, moments=None, augment=None, official=(60_000, 10_000))


def _read_idx(file: Path, dimensions: int) -> Tensor:
    """The bytes of an IDX file: 0, 0, 8 (bytes), the number of dimensions, each of them as four bytes, the data."""
    content = contents(file)
    start = 4 + 4 * dimensions
    shape = np.frombuffer(content[4:start], ">u4") if len(content) >= start else np.zeros(0)
    if content[:4] != bytes([0, 0, 8, dimensions]) or len(content) - start != math.prod(map(int, shape)):
        raise ValueError(
            f"{file} is not a whole IDX file of bytes in {dimensions} dimensions ({len(content):,} bytes). Fetch it "
            "again."
        )
    return torch.frombuffer(bytearray(content), dtype=torch.uint8, offset=start).view(*map(int, shape))


def _read_mat(file: Path) -> tuple[Tensor, Tensor]:
    from scipy.io import loadmat

    try:
        content = loadmat(file, variable_names=["X", "y"])
        images = torch.from_numpy(np.ascontiguousarray(content["X"].transpose(3, 2, 0, 1)))
        labels = torch.from_numpy(content["y"].astype(np.int64).ravel() % 10)  # 0 is stored as 10
    except Exception as error:  # scipy raises anything on a damaged file
        raise ValueError(f"{file} is not a whole .mat file with X and y ({error}). Fetch it again.") from error
    _check_pairs(file, len(images), file, labels, 10)
    return images, labels


def _cifar(
    name: str,
    folder: Path,
    train: Sequence[str],
    test: str,
    label_key: str,
    num_classes: int,
    *,
    moments: tuple[Tensor, Tensor] | None,
    augment: bool,
) -> Data:
    """CIFAR's pickles.

    Not by torchvision's reader, which refuses all but the official bytes and unpickles whatever they hold.
    """
    train_files, test_file = [folder / part for part in train if (folder / part).exists()], folder / test

    def decode() -> Tensors:
        parts = [_unpickled(file, label_key, num_classes) for file in train_files]
        x_test, y_test = _unpickled(test_file, label_key, num_classes)
        return {
            "x_train": torch.cat([x for x, _ in parts]),
            "y_train": torch.cat([y for _, y in parts]),
            "x_test": x_test,
            "y_test": y_test,
        }

    absent = [part for part in train if folder / part not in train_files]
    return image_data(
        decoded(name, [*train_files, test_file], decode, folder),
        num_classes,
        moments=moments or "own",
        augment=random_crop_and_flip(4) if augment else None,
        official=(50_000, 10_000),
        note=f"without {', '.join(absent)}" if absent else "",
    )


def _unpickled(file: Path, label_key: str, num_classes: int) -> tuple[Tensor, Tensor]:
    with file.open("rb") as stream:
        try:
            content = _ArraysOnly(stream, encoding="latin1").load()
            pixels, labels = np.asarray(content["data"]), torch.tensor(content[label_key])
            images = torch.from_numpy(pixels.reshape(-1, 3, 32, 32).astype(np.uint8, casting="safe", copy=True))
        except (pickle.UnpicklingError, EOFError, KeyError, ValueError, TypeError, IndexError) as error:
            raise ValueError(f"{file} is not a CIFAR pickle with 'data' and {label_key!r} ({error}).") from error
    _check_pairs(file, len(images), file, labels, num_classes)
    return images, labels


def _check_pairs(images: Path, n_images: int, labels: Path, y: Tensor, num_classes: int) -> None:
    if len(y) != n_images or not n_images:
        raise ValueError(f"{images} has {n_images} images and {labels} has {len(y)} labels. Fetch them again.")
    if y.min() < 0 or y.max() >= num_classes:
        raise ValueError(f"{labels} must have labels 0 ... {num_classes - 1}, got {int(y.min())} ... {int(y.max())}.")


class _ArraysOnly(pickle.Unpickler):
    """Reads numpy arrays, numbers, text and their containers; a pickle that calls anything else is refused."""

    _ALLOWED = frozenset(
        [("_codecs", "encode"), ("numpy", "dtype"), ("numpy", "ndarray")]
        + [(f"numpy.{core}.multiarray", "_reconstruct") for core in ("core", "_core")]
    )

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in self._ALLOWED:
            raise pickle.UnpicklingError(f"it calls {module}.{name}, which no data file needs")
        return super().find_class(module.replace("numpy.core", "numpy._core"), name)
