"""Images in folders: Tiny ImageNet's, and any folder with a subfolder per class."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Generator, Tensor

from kmixup.experiments.datasets.cache import Decoded, Tensors, decoded
from kmixup.experiments.datasets.data import Data
from kmixup.experiments.datasets.pixels import find_folder, image_data, random_crop_and_flip
from kmixup.experiments.datasets.split import spread_by_class
from kmixup.experiments.files import read_whole

if TYPE_CHECKING:
    from PIL import Image

Mode = Literal["rgb", "gray"]

_ENDINGS = frozenset(
    [".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp"]
)  # torchvision's ImageFolder's
_TESTED = ("test", "val", "valid", "validation")
_NO_DATA = frozenset(["thumbs.db", "desktop.ini"])


def tiny_imagenet(data_dir: Path | None = None, seed: int = 0, *, augment: bool = True) -> Data:
    """Tiny ImageNet, 100,000 + 10,000 images of 3 x 64 x 64, 200 classes, from the official folders of JPEGs.

    The official validation images are the test set, for the test labels were never published. Normalised with the
    moments of the training pixels, which give the xi that Table 4 prints.

    Args:
        data_dir: Holds ``tiny-imagenet-200``, or is that folder.
        seed: Unused: the split is the official one.
        augment: Random crop with padding 4 and random flip.

    Raises:
        ValueError: If images and annotations do not fit, or an image is damaged.

    Paper: Table 4, Tiny ImageNet.
    """
    folder = find_folder("tiny-imagenet", data_dir, ["train/", "val/val_annotations.txt"], "tiny-imagenet-200")
    classes = sorted(path.name for path in (folder / "train").iterdir() if path.is_dir())
    number = {name: index for index, name in enumerate(classes)}
    train = [
        (file, number[file.parent.parent.name]) for file in _images(folder / "train") if file.parent.name == "images"
    ]
    annotations, tested = folder / "val/val_annotations.txt", _images(folder / "val/images")

    def decode() -> Tensors:
        tensors: Tensors = {}
        for part, samples in (("train", train), ("test", _annotated(annotations, tested, number))):
            tensors[f"x_{part}"] = _pixels([file for file, _ in samples], "rgb", None, None)
            tensors[f"y_{part}"] = torch.tensor([label for _, label in samples])
        return tensors

    return image_data(
        decoded("tiny-imagenet", [annotations, *(file for file, _ in train), *tested], decode, folder),
        len(classes),
        moments="own",
        augment=random_crop_and_flip(4) if augment else None,
        official=(100_000, 10_000),
    )


def imagefolder(
    data_dir: Path | None = None,
    seed: int = 0,
    *,
    path: str = "",
    test_share: float = 0.2,
    mode: Mode = "rgb",
    size: int | None = None,
    background: str | None = None,
    augment: bool = False,
) -> Data:
    """Images of your own, a folder per class, as torchvision's ImageFolder reads them; split by you, or here.

    Normalised with the moments of the training pixels. Images are turned as their EXIF tag says.

    Args:
        data_dir: Folder that ``path`` is relative to; default: the working directory.
        seed: Draws the split, if the folder has none.
        path: Holds a folder per class; or ``train`` and ``test`` (or ``val``), each of which does.
        test_share: Share of each class that is tested on, if the folder has no split.
        mode: ``"rgb"`` or ``"gray"``: what images become that are not.
        size: Images become ``size`` x ``size`` pixels: the middle, resized; None: they all must have one size.
        background: Colour behind transparent pixels, such as ``"white"``; None refuses images that have some.
        augment: Random crop with a padding of an eighth of the width, and random flip.

    Raises:
        FileNotFoundError: If there is no such folder.
        ValueError: If a class has no images, or an image is damaged, of another size, transparent, or of 16 bits.
    """
    folder = (data_dir or Path()) / path
    if not folder.is_dir():
        raise FileNotFoundError(f"no folder {folder}. Give it with --data-dir, or with dataset_options.path.")
    if not 0 < test_share < 1:
        raise ValueError(f"test_share must be in (0, 1), got {test_share}.")
    inside = sorted(place for place in folder.iterdir() if place.is_dir())
    trained = [place for place in inside if place.name.lower() == "train"]
    tested = [place for name in _TESTED for place in inside if place.name.lower() == name]
    if trained and not tested:
        raise ValueError(
            f"{folder} has {trained[0].name}, but none of {', '.join(_TESTED)}. To split it here: "
            f"path={path or '.'}/{trained[0].name}."
        )
    places = [trained[0], tested[0]] if trained else [folder]
    found = [_by_class(place) for place in places]
    classes = sorted(found[0])
    for place, by_class in zip(places, found, strict=True):
        if sorted(by_class) != classes:
            raise ValueError(
                f"{places[0]} and {place} must have the same classes, not "
                f"{', '.join(sorted({*by_class} ^ {*classes}))} in one of them alone."
            )
    files = [file for by_class in found for name in classes for file in by_class[name]]
    labels = torch.tensor([label for by_class in found for label, name in enumerate(classes) for _ in by_class[name]])
    if trained:
        train, test = torch.arange(len(files)).split([sum(map(len, by_class.values())) for by_class in found])
    else:
        train, test = _split(labels, len(classes), seed, test_share)

    def decode() -> Tensors:
        return {"x": _pixels(files, mode, size, background)}

    tensors, source = decoded(f"imagefolder-{mode}-{size}-{background}".replace("#", ""), files, decode, folder)
    x = tensors["x"]
    parts = {"x_train": x[train], "y_train": labels[train], "x_test": x[test], "y_test": labels[test]}
    notes = [f"{place.name} left out" for place in [*trained[1:], *tested[1:]] if trained]
    others = [file for place in places for file in place.rglob("*") if _is_other(file, place)]
    if others:
        notes.append(f"{len(others)} files that are no images left out, such as {others[0].name}")
    return image_data(
        Decoded(parts, source),
        len(classes),
        moments="own",
        augment=random_crop_and_flip(x.shape[-1] // 8) if augment else None,
        note="; ".join(notes),
    )


def _split(labels: Tensor, num_classes: int, seed: int, test_share: float) -> tuple[Tensor, Tensor]:
    generator, n_test = Generator().manual_seed(seed), round(test_share * len(labels))
    order = torch.randperm(len(labels), generator=generator)
    order = spread_by_class(order, labels, num_classes, n_test, generator)
    return order[n_test:].sort().values, order[:n_test].sort().values


def _by_class(folder: Path) -> Mapping[str, Sequence[Path]]:
    """Images of each class: all in or below its folder.

    Raises:
        ValueError: If there are fewer than two classes, one has no images, or they look like the parts of a split.
    """
    classes = {place.name: _images(place) for place in folder.iterdir() if place.is_dir() and place.name[0] != "."}
    if len(classes) < 2:
        raise ValueError(f"{folder} must hold a folder of images for each of at least two classes, got {len(classes)}.")
    for name, files in classes.items():
        if not files:
            raise ValueError(f"{folder / name} has no images ({', '.join(sorted(_ENDINGS))}). Fill it, or remove it.")
    below = [{file.relative_to(folder / name).parts[:-1][:1] for file in files} for name, files in classes.items()]
    if len(below[0]) > 1 and () not in below[0] and all(found == below[0] for found in below):
        first, second = sorted(classes)[:2]
        raise ValueError(
            f"{first} and {second} in {folder} hold the same folders, such as {min(below[0])[0]}: are they a split? "
            f"Call them train and test (or {', '.join(_TESTED[1:])}), or give one as path=...; if they are classes, "
            "take the images out of those folders."
        )
    return classes


def _images(folder: Path) -> list[Path]:
    found = (file for file in folder.rglob("*") if file.suffix.lower() in _ENDINGS and file.name[0] != ".")
    return sorted(found, key=Path.as_posix)


def _is_other(file: Path, folder: Path) -> bool:
    hidden = any(part.startswith(".") for part in file.relative_to(folder).parts) or file.name.lower() in _NO_DATA
    return file.is_file() and not hidden and file.suffix.lower() not in _ENDINGS


def _annotated(annotations: Path, images: Sequence[Path], number: Mapping[str, int]) -> list[tuple[Path, int]]:
    """Each image with the class that its line names."""
    files, labels = {file.name: file for file in images}, dict[str, int]()
    for line, text in enumerate(read_whole(annotations).splitlines(), 1):
        name, _, rest = text.partition("\t")
        word = rest.partition("\t")[0].strip()
        if name not in files or word not in number or name in labels:
            what = "names no image of val/images" if name not in files else f"gives {name} the class {word!r}"
            what = f"names {name} again" if name in labels else what
            raise ValueError(f"line {line} of {annotations} {what}. Unpack the archive again.")
        labels[name] = number[word]
    missing = sorted(files.keys() - labels.keys())
    if missing:
        raise ValueError(
            f"{len(missing)} of {len(files)} images have no line in {annotations}, such as {missing[0]}. Unpack the "
            "archive again, or remove them."
        )
    return [(files[name], label) for name, label in labels.items()]


def _pixels(files: Sequence[Path], mode: Mode, size: int | None, background: str | None) -> Tensor:
    """Bytes of images of one size, shape ``[n, channels, height, width]``."""
    from torchvision.transforms.functional import pil_to_tensor

    tensors: list[Tensor] = []
    for file in files:
        tensors.append(pil_to_tensor(_image(file, mode, size, background)))
        if tensors[-1].shape != tensors[0].shape:
            (_, first_height, first_width), (_, height, width) = tensors[0].shape, tensors[-1].shape
            raise ValueError(
                f"all images must have one size; {file} is {width} x {height} and {files[0]} {first_width} x "
                f"{first_height}. Resize them with dataset_options.size=..."
            )
    return torch.stack(tensors)


def _image(file: Path, mode: Mode, size: int | None, background: str | None) -> Image.Image:
    from PIL import Image, ImageOps

    try:
        with Image.open(file) as opened:
            deep = _is_deep(opened.tile)
            opened.load()
            image = ImageOps.exif_transpose(opened)
    except (OSError, SyntaxError, ValueError) as error:  # what PIL raises on damaged files
        raise ValueError(f"{file} is not a whole image ({error}). Fetch it again, or remove it.") from error
    if deep or image.mode[0] in "IF":
        raise ValueError(f"{file} has more than 8 bits a channel. Convert it first.")
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        image = image.convert("RGBA")
        if image.getchannel("A").getextrema()[0] != 255:
            if background is None:
                raise ValueError(
                    f"{file} has transparent pixels. Say what is behind: dataset_options.background=white."
                )
            image = Image.alpha_composite(Image.new("RGBA", image.size, background), image)
    image = image.convert("RGB" if mode == "rgb" else "L")
    return image if size is None else ImageOps.fit(image, (size, size), Image.Resampling.BILINEAR)


def _is_deep(tiles: Sequence[tuple[Any, ...]]) -> bool:
    """Whether a file has more than 8 bits a channel: PIL's raw mode says so of PNG and TIFF, the maximum of PPM."""
    for codec, _, _, arguments in tiles:
        raw_mode, *others = arguments if isinstance(arguments, tuple) else (arguments,)
        if str(raw_mode).endswith((";16B", ";16L", ";16N")) or (codec in ("ppm", "ppm_plain") and others[0] > 255):
            return True
    return False
