"""What all image data share: their folder, bytes to pixels in [0, 1], moments, augmentation of whole batches."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from kmixup.experiments.datasets.cache import Decoded, cache_dir
from kmixup.experiments.datasets.data import Data

Augment = Callable[[Tensor, Generator], Tensor]


def image_data(
    pixels: Decoded,
    num_classes: int,
    *,
    moments: tuple[Tensor, Tensor] | Literal["own"] | None,
    augment: Augment | None,
    official: tuple[int, int] | None = None,
    note: str = "",
) -> Data:
    """Data from bytes.

    Args:
        pixels: ``x_train``, ``y_train``, ``x_test``, ``y_test``; images as bytes ``[n, channels, height, width]``.
        num_classes: Number of classes.
        moments: Mean and standard deviation of each channel; ``"own"``: those of the training pixels; None: none.
        augment: Random transform of a batch.
        official: Numbers of images of the official files: others are said in the note.
        note: Of the data.
    """
    tensors, source = pixels
    mean, std = (_moments(tensors["x_train"]) if moments == "own" else moments) or (None, None)
    found = (len(tensors["y_train"]), len(tensors["y_test"]))
    if official is not None and found != official:
        (n_train, n_test), (all_train, all_test) = found, official
        said = f"{n_train:,} + {n_test:,} images, not the {all_train:,} + {all_test:,} of the official files"
        note = "; ".join(part for part in (said, note) if part)
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
        source=source,
    )


def find_folder(name: str, data_dir: Path | None, needed: Sequence[str], *below: str) -> Path:
    """The first that holds the needed files: ``data_dir``'s subfolders ``below``, itself, and the fetched copy.

    The data set's own folder goes first: names of files that several data sets share do not tell them apart. A name
    that ends in a slash is that of a folder.

    Raises:
        FileNotFoundError: If none does.
    """
    fetched = cache_dir() / "data"
    roots = ([data_dir] if data_dir is not None else []) + [fetched / name]
    places = [root / part for root in roots for part in (*below, "")]
    for place in places:
        if all(_there(place, file) for file in needed):
            return place
    raise FileNotFoundError(
        f"{name} needs {', '.join(needed)}, found in none of {', '.join(str(place) for place in places)}. Give their "
        f"folder with --data-dir, or run `kmixup data fetch {name}`."
    )


def _there(place: Path, name: str) -> bool:
    if name.endswith("/"):
        return (place / name).is_dir()
    return (place / name).is_file() or (place / f"{name}.gz").is_file()


def random_crop(padding: int) -> Augment:
    """Pad with zeros (black) and crop back to size, each image of the batch at its own place.

    Equal in distribution to ``torchvision.transforms.RandomCrop(size, padding)`` on each image.
    """

    def augment(x: Tensor, generator: Generator) -> Tensor:
        batch, _, height, width = x.shape
        top, left = torch.randint(2 * padding + 1, (2, batch), generator=generator).to(x.device)
        windows = F.pad(x, (padding,) * 4).unfold(2, height, 1).unfold(3, width, 1)
        return windows[torch.arange(batch, device=x.device), :, top, left]

    return augment


def random_crop_and_flip(padding: int) -> Augment:
    """`random_crop`, then a horizontal flip of each image with probability 1/2."""
    crop = random_crop(padding)

    def augment(x: Tensor, generator: Generator) -> Tensor:
        x = crop(x, generator)
        flipped = torch.randint(2, (len(x), 1, 1, 1), generator=generator).bool().to(x.device)
        return torch.where(flipped, x.flip(3), x)

    return augment


def _moments(pixels: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of each channel of bytes, over all pixels, in units of [0, 1]."""
    channels = pixels.transpose(0, 1).flatten(1)
    counts = torch.stack([torch.bincount(channel, minlength=256) for channel in channels]).double()  # exact sums
    levels = torch.arange(256, dtype=torch.float64) / 255
    share = counts / counts.sum(1, keepdim=True)
    mean = share @ levels
    return mean.float(), (share @ levels.square() - mean.square()).sqrt().float()
