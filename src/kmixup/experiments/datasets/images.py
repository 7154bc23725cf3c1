"""Images: MNIST, Fashion-MNIST, CIFAR-10, CIFAR-100, SVHN and Tiny ImageNet in their official formats.

A loader looks for its files in ``data_dir`` itself, then in the folder that the official archive or torchvision makes
of them. Files are decoded once (`kmixup.experiments.datasets.cache`); crop and flip act on whole batches.
"""

from __future__ import annotations

import gzip
import pickle
import shutil
import tempfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from kmixup.experiments.datasets.cache import Tensors, cache_dir, decoded
from kmixup.experiments.datasets.data import Data

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
        _folder("cifar10", data_dir, ["data_batch_1", "test_batch"], "cifar-10-batches-py"),
        [f"data_batch_{i}" for i in range(1, 6)],
        "test_batch",
        "labels",
        moments=(torch.tensor(CIFAR10_MEAN), torch.tensor(CIFAR10_STD)),
        augment=augment,
    )


def cifar100(data_dir: Path | None = None, seed: int = 0, *, augment: bool = True) -> Data:
    """CIFAR-100 with its 100 fine labels; normalised with the moments of the training pixels. Arguments as `cifar10`.

    Paper: Table 11a, CIFAR-100.
    """
    folder = _folder("cifar100", data_dir, ["train", "test"], "cifar-100-python")
    return _cifar("cifar100", folder, ["train"], "test", "fine_labels", moments=None, augment=augment)


def svhn(data_dir: Path | None = None, seed: int = 0, *, augment: bool = False) -> Data:
    """SVHN, cropped digits of 3 x 32 x 32: 73,257 + 26,032, from ``train_32x32.mat`` and ``test_32x32.mat``.

    Normalised with the moments of the training pixels; the paper names neither constants nor augmentation.

    Args:
        data_dir: Holds the files, or a folder ``svhn`` with them.
        seed: Unused: the split is the official one.
        augment: Random crop with padding 4; never a flip, for these are digits.

    Paper: Table 11b, SVHN.
    """
    folder = _folder("svhn", data_dir, ["train_32x32.mat", "test_32x32.mat"], "svhn", "SVHN")
    files = {part: folder / f"{part}_32x32.mat" for part in ("train", "test")}

    def decode() -> Tensors:
        from scipy.io import loadmat

        tensors: Tensors = {}
        for part, file in files.items():
            content = loadmat(file, variable_names=["X", "y"])
            tensors[f"x_{part}"] = torch.from_numpy(np.ascontiguousarray(content["X"].transpose(3, 2, 0, 1)))
            tensors[f"y_{part}"] = torch.from_numpy(content["y"].astype(np.int64).ravel() % 10)  # 0 is stored as 10
        return tensors

    return _images("svhn", files.values(), decode, 10, moments="own", augment=random_crop(4) if augment else None)


def tiny_imagenet(data_dir: Path | None = None, seed: int = 0, *, augment: bool = True) -> Data:
    """Tiny ImageNet, 100,000 + 10,000 images of 3 x 64 x 64, 200 classes, from the official folders of JPEGs.

    The official validation images are the test set, for the test labels were never published. Normalised with the
    moments of the training pixels, which give the xi that Table 4 prints.

    Args:
        data_dir: Holds ``tiny-imagenet-200``, or is that folder.
        seed: Unused: the split is the official one.
        augment: Random crop with padding 4 and random flip.

    Paper: Table 4, Tiny ImageNet.
    """
    folder = _folder("tiny-imagenet", data_dir, ["train", "val/val_annotations.txt"], "tiny-imagenet-200")
    classes = sorted(path.name for path in (folder / "train").iterdir() if path.is_dir())
    number = {name: index for index, name in enumerate(classes)}
    train = [(file, number[file.parent.parent.name]) for file in sorted(folder.glob("train/*/images/*.JPEG"))]
    annotations = (folder / "val/val_annotations.txt").read_text().splitlines()
    test = [(folder / "val/images" / row[0], number[row[1]]) for row in (line.split("\t") for line in annotations)]

    def decode() -> Tensors:
        tensors: Tensors = {}
        for part, samples in (("train", train), ("test", test)):
            tensors[f"x_{part}"] = torch.stack([_jpeg(file) for file, _ in samples])
            tensors[f"y_{part}"] = torch.tensor([label for _, label in samples])
        return tensors

    return _images(
        "tiny-imagenet",
        [file for file, _ in train + test],
        decode,
        len(classes),
        moments="own",
        augment=random_crop_and_flip(4) if augment else None,
    )


# --- augmentation on whole batches ------------------------------------------------------------------------------------


def random_crop(padding: int) -> Callable[[Tensor, Generator], Tensor]:
    """Pad with zeros (black) and crop back to size, each image of the batch at its own place.

    Equal in distribution to ``torchvision.transforms.RandomCrop(size, padding)`` on each image.
    """

    def augment(x: Tensor, generator: Generator) -> Tensor:
        batch, _, height, width = x.shape
        top, left = torch.randint(2 * padding + 1, (2, batch), generator=generator).to(x.device)
        windows = F.pad(x, (padding,) * 4).unfold(2, height, 1).unfold(3, width, 1)
        return windows[torch.arange(batch, device=x.device), :, top, left]

    return augment


def random_crop_and_flip(padding: int) -> Callable[[Tensor, Generator], Tensor]:
    """`random_crop`, then a horizontal flip of each image with probability 1/2."""
    crop = random_crop(padding)

    def augment(x: Tensor, generator: Generator) -> Tensor:
        x = crop(x, generator)
        flipped = torch.randint(2, (len(x), 1, 1, 1), generator=generator).bool().to(x.device)
        return torch.where(flipped, x.flip(3), x)

    return augment


# --- reading ----------------------------------------------------------------------------------------------------------


def _images(
    name: str,
    files: Iterable[Path],
    decode: Callable[[], Tensors],
    num_classes: int,
    *,
    moments: tuple[Tensor, Tensor] | Literal["own"] | None,
    augment: Callable[[Tensor, Generator], Tensor] | None,
    note: str = "",
) -> Data:
    """Data from decoded bytes: pixels to [0, 1]; ``moments="own"`` are those of the training pixels, per channel."""
    tensors = decoded(name, files, decode)
    if moments == "own":
        moments = _moments(tensors["x_train"])
    mean, std = moments or (None, None)
    return Data(
        x_train=tensors["x_train"].float().div_(255),
        y_train=tensors["y_train"],
        x_test=tensors["x_test"].float().div_(255),
        y_test=tensors["y_test"],
        num_classes=num_classes,
        mean=mean,
        std=std,
        augment=augment,
        note=note,
    )


def _moments(pixels: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of each channel of bytes, over all pixels, in units of [0, 1]."""
    channels = pixels.transpose(0, 1).flatten(1)
    counts = torch.stack([torch.bincount(channel, minlength=256) for channel in channels]).double()  # exact sums
    levels = torch.arange(256, dtype=torch.float64) / 255
    share = counts / counts.sum(1, keepdim=True)
    mean = share @ levels
    return mean.float(), (share @ levels.square() - mean.square()).sqrt().float()


def _folder(name: str, data_dir: Path | None, needed: Sequence[str], *below: str) -> Path:
    """The first of ``data_dir``, its subfolders ``below``, and the fetched copy, that holds the needed files."""
    fetched = cache_dir() / "data"
    roots = ([data_dir] if data_dir is not None else []) + [fetched / name]
    places = [root / part for root in roots for part in ("", *below)]
    for place in places:
        if all((place / file).exists() or (place / f"{file}.gz").exists() for file in needed):
            return place
    raise FileNotFoundError(
        f"{name} needs {', '.join(needed)}, found in none of {', '.join(str(place) for place in places)}. "
        f"Give their folder with --data-dir, or run `kmixup data fetch {name}`."
    )


def _idx(name: str, data_dir: Path | None, *below: str) -> Data:
    folder = _folder(name, data_dir, _IDX_PARTS, *below)
    files = [path if (path := folder / part).exists() else folder / f"{part}.gz" for part in _IDX_PARTS]

    def decode() -> Tensors:
        x_train, y_train, x_test, y_test = (_read_idx(file) for file in files)
        return {"x_train": x_train[:, None], "y_train": y_train, "x_test": x_test[:, None], "y_test": y_test}

    return _images(name, files, decode, 10, moments=None, augment=None)


def _read_idx(file: Path) -> Tensor:
    """Images (bytes) or labels (int64) of an IDX file, raw or gzipped, by torchvision's reader."""
    from torchvision.datasets.mnist import read_image_file, read_label_file

    read = read_image_file if "idx3" in file.name else read_label_file
    try:
        if file.suffix != ".gz":
            return read(str(file))
        with tempfile.NamedTemporaryFile() as raw, gzip.open(file) as packed:
            shutil.copyfileobj(packed, raw)
            raw.flush()
            return read(raw.name)
    except (EOFError, gzip.BadGzipFile, RuntimeError, AssertionError) as error:
        raise ValueError(f"{file} is not a whole IDX file ({error}). Fetch it again.") from error


def _cifar(
    name: str,
    folder: Path,
    train: Sequence[str],
    test: str,
    label_key: str,
    *,
    moments: tuple[Tensor, Tensor] | None,
    augment: bool,
) -> Data:
    """CIFAR's pickles.

    Not by torchvision's reader, which refuses all but the official bytes and unpickles whatever they hold.
    """
    train_files, test_file = [folder / part for part in train if (folder / part).exists()], folder / test

    def decode() -> Tensors:
        parts = [_unpickled(file, label_key) for file in train_files]
        x_test, y_test = _unpickled(test_file, label_key)
        return {
            "x_train": torch.cat([x for x, _ in parts]),
            "y_train": torch.cat([y for _, y in parts]),
            "x_test": x_test,
            "y_test": y_test,
        }

    data = _images(
        name,
        [*train_files, test_file],
        decode,
        100 if label_key == "fine_labels" else 10,
        moments=moments or "own",
        augment=random_crop_and_flip(4) if augment else None,
    )
    found = (len(data.y_train), len(data.y_test))
    if found != (50_000, 10_000):
        data = replace(data, note=f"{found[0]:,} + {found[1]:,} images, not the 50,000 + 10,000 of the official files")
    return data


def _unpickled(file: Path, label_key: str) -> tuple[Tensor, Tensor]:
    with file.open("rb") as stream:
        try:
            content = _ArraysOnly(stream, encoding="latin1").load()
            pixels, labels = np.asarray(content["data"]), content[label_key]
            images = torch.from_numpy(pixels.reshape(-1, 3, 32, 32).astype(np.uint8, casting="safe", copy=True))
        except (pickle.UnpicklingError, EOFError, KeyError, ValueError, TypeError) as error:
            raise ValueError(f"{file} is not a CIFAR pickle with 'data' and {label_key!r} ({error}).") from error
    return images, torch.tensor(labels)


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


def _jpeg(file: Path) -> Tensor:
    from torchvision.datasets.folder import default_loader
    from torchvision.transforms.functional import pil_to_tensor

    return pil_to_tensor(default_loader(str(file)))
