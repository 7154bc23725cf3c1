"""Image data in their official formats, and augmentation on whole batches."""

from __future__ import annotations

import gzip
import os
import pickle
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from torchvision import transforms

from kmixup.experiments.datasets import DATASETS, load_data
from kmixup.experiments.datasets.cache import decoded
from kmixup.experiments.datasets.pixels import random_crop, random_crop_and_flip


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("KMIXUP_CACHE", str(tmp_path / ".cache"))


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def numpy_generator(seed=0):
    return np.random.default_rng(seed)


# --- files in the official formats ------------------------------------------------------------------------------------


def write_idx(folder: Path, packed=False, n=(20, 10)):
    """An IDX data set as its documentation describes it: magic number, sizes, bytes; everything big-endian."""
    folder.mkdir(parents=True, exist_ok=True)
    rng, arrays = numpy_generator(), {}
    for part, count in zip(("train", "t10k"), n, strict=True):
        pixels = rng.integers(0, 256, (count, 28, 28), dtype=np.uint8)
        labels = (np.arange(count) % 10).astype(np.uint8)
        arrays[part] = pixels, labels
        for name, array in ((f"{part}-images-idx3-ubyte", pixels), (f"{part}-labels-idx1-ubyte", labels)):
            content = bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">i4").tobytes() + array.tobytes()
            if packed:
                (folder / f"{name}.gz").write_bytes(gzip.compress(content))
            else:
                (folder / name).write_bytes(content)
    return arrays


def write_cifar(folder: Path, names, label_key, classes, n=12):
    folder.mkdir(parents=True, exist_ok=True)
    rng, written = numpy_generator(), {}
    for name in names:
        pixels = rng.integers(0, 256, (n, 3072), dtype=np.uint8)
        labels = [int(label) for label in rng.integers(0, classes, n)]
        # Byte keys are what Python 2's pickles hold; pickles made from text keys are read alike.
        (folder / name).write_bytes(pickle.dumps({"data": pixels, label_key: labels}, protocol=2))
        written[name] = pixels, labels
    return written


def write_svhn(folder: Path):
    from scipy.io import savemat

    folder.mkdir(parents=True, exist_ok=True)
    rng, written = numpy_generator(), {}
    for part, n in (("train", 20), ("test", 11)):
        pixels = rng.integers(0, 256, (32, 32, 3, n), dtype=np.uint8)
        labels = (np.arange(n) % 10 + 1).astype(np.uint8)[:, None]  # 1 ... 10, where 10 stands for 0
        savemat(folder / f"{part}_32x32.mat", {"X": pixels, "y": labels})
        written[part] = pixels, labels
    return written


def write_tiny_imagenet(folder: Path):
    from PIL import Image

    colours = {"n01443537": 20, "n01629819": 200}
    annotations = []
    for name, level in colours.items():
        (folder / "train" / name / "images").mkdir(parents=True)
        for i in range(3):
            mode = "L" if i == 2 else "RGB"  # the official data have grey images too
            Image.new(mode, (64, 64), level if mode == "L" else (level,) * 3).save(
                folder / f"train/{name}/images/{name}_{i}.JPEG"
            )
    (folder / "val" / "images").mkdir(parents=True)
    for i, (name, level) in enumerate(colours.items()):
        Image.new("RGB", (64, 64), (level,) * 3).save(folder / f"val/images/val_{i}.JPEG")
        annotations.append(f"val_{i}.JPEG\t{name}\t0\t0\t63\t63\n")
    (folder / "val" / "val_annotations.txt").write_text("".join(annotations))


@pytest.mark.parametrize("packed", [False, True], ids=["raw", "gz"])
@pytest.mark.parametrize("below", ["", "mnist", "MNIST/raw"])
def test_idx_files_are_read_as_pixels_in_the_unit_interval(tmp_path, packed, below):
    arrays = write_idx(tmp_path / below, packed)
    data = DATASETS["mnist"](tmp_path, 0)
    for part, name in (("train", "train"), ("test", "t10k")):
        pixels, labels = arrays[name]
        torch.testing.assert_close(getattr(data, f"x_{part}"), torch.from_numpy(pixels).float()[:, None] / 255)
        assert getattr(data, f"y_{part}").tolist() == labels.tolist()
    assert data.num_classes == 10


def test_the_folder_of_a_data_set_goes_before_files_of_the_same_names_beside_it(tmp_path):
    write_idx(tmp_path, n=(5, 2))
    write_idx(tmp_path / "fashion-mnist", n=(7, 3))
    assert len(DATASETS["fashion-mnist"](tmp_path, 0).x_train) == 7
    assert len(DATASETS["mnist"](tmp_path, 0).x_train) == 5
    for part in ("train", "test"):
        (tmp_path / part).mkdir()
    with pytest.raises(FileNotFoundError, match="cifar100 needs train, test"):
        DATASETS["cifar100"](tmp_path, 0)


def test_mnist_and_fashion_mnist_do_not_take_each_others_folder(tmp_path):
    write_idx(tmp_path / "mnist")
    write_idx(tmp_path / "fashion-mnist", n=(7, 3))
    assert len(DATASETS["mnist"](tmp_path, 0).x_train) == 20
    assert len(DATASETS["fashion-mnist"](tmp_path, 0).x_train) == 7


@pytest.mark.parametrize("packed", [False, True], ids=["raw", "gz"])
def test_a_truncated_idx_file_is_refused(tmp_path, packed):
    write_idx(tmp_path, packed)
    file = tmp_path / ("train-images-idx3-ubyte" + (".gz" if packed else ""))
    file.write_bytes(file.read_bytes()[:-400])
    with pytest.raises(ValueError, match=r"train-images-idx3-ubyte.* (not a whole IDX|a damaged gzip) file"):
        DATASETS["mnist"](tmp_path, 0)


@pytest.mark.parametrize(
    ("name", "below", "train", "test", "label_key", "classes"),
    [
        ("cifar10", "cifar-10-batches-py", [f"data_batch_{i}" for i in range(1, 6)], "test_batch", "labels", 10),
        ("cifar100", "cifar-100-python", ["train"], "test", "fine_labels", 100),
    ],
)
def test_cifar_pickles_are_read_in_order(tmp_path, name, below, train, test, label_key, classes):
    written = write_cifar(tmp_path / below, [*train, test], label_key, classes)
    data = DATASETS[name](tmp_path, 0)
    pixels = np.concatenate([written[part][0] for part in train]).reshape(-1, 3, 32, 32)
    torch.testing.assert_close(data.x_train, torch.from_numpy(pixels).float() / 255)
    assert data.y_train.tolist() == [label for part in train for label in written[part][1]]
    assert data.y_test.tolist() == written[test][1]
    assert data.num_classes == classes
    assert "not the 50,000 + 10,000" in data.note


def test_a_pickle_that_runs_code_is_refused(tmp_path):
    class Runs:
        def __reduce__(self):
            return os.system, ("echo ran > /dev/null",)

    write_cifar(tmp_path, [*[f"data_batch_{i}" for i in range(1, 6)], "test_batch"], "labels", 10)
    (tmp_path / "test_batch").write_bytes(pickle.dumps({"data": Runs(), "labels": []}))
    with pytest.raises(ValueError, match=r"calls (posix|nt)\.system"):
        DATASETS["cifar10"](tmp_path, 0)


def test_svhn_is_read_with_ten_as_zero(tmp_path):
    written = write_svhn(tmp_path / "svhn")
    data = DATASETS["svhn"](tmp_path, 0)
    pixels, labels = written["train"]
    torch.testing.assert_close(data.x_train, torch.from_numpy(pixels.transpose(3, 2, 0, 1).copy()).float() / 255)
    assert data.y_train.tolist() == [int(label) % 10 for label in labels.ravel()]
    assert data.augment is None


def test_tiny_imagenet_is_tested_on_its_validation_images(tmp_path):
    write_tiny_imagenet(tmp_path / "tiny-imagenet-200")
    data = DATASETS["tiny-imagenet"](tmp_path, 0)
    assert data.x_train.shape == (6, 3, 64, 64)
    assert data.y_train.tolist() == [0, 0, 0, 1, 1, 1]
    assert data.y_test.tolist() == [0, 1]
    torch.testing.assert_close(data.x_test[1], torch.full((3, 64, 64), 200 / 255), rtol=0, atol=2 / 255)


def test_normalisation_uses_the_moments_of_the_training_pixels(tmp_path):
    write_svhn(tmp_path)
    data = DATASETS["svhn"](tmp_path, 0)
    torch.testing.assert_close(data.mean, data.x_train.mean((0, 2, 3)))
    torch.testing.assert_close(data.std, data.x_train.std((0, 2, 3), correction=0))


def test_missing_files_are_an_error_that_names_them(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"test_batch.*--data-dir.*kmixup data fetch cifar10"):
        DATASETS["cifar10"](tmp_path, 0)


# --- the cache --------------------------------------------------------------------------------------------------------


def test_files_are_decoded_once_and_again_when_they_change(tmp_path):
    file = tmp_path / "numbers"
    file.write_text("1")
    calls = []

    def decode():
        calls.append(1)
        return {"x": torch.tensor([int(file.read_text())])}

    assert [decoded("numbers", [file], decode).tensors["x"].item() for _ in range(2)] == [1, 1]
    assert len(calls) == 1
    file.write_text("27")
    assert decoded("numbers", [file], decode).tensors["x"].item() == 27


def test_a_damaged_cache_file_is_decoded_again(tmp_path):
    file = tmp_path / "numbers"
    file.write_text("1")
    decoded("numbers", [file], lambda: {"x": torch.ones(3)})
    (cached,) = (tmp_path / ".cache").rglob("*.safetensors")
    cached.write_bytes(cached.read_bytes()[:20])
    with pytest.warns(UserWarning, match="decoding again"):
        assert decoded("numbers", [file], lambda: {"x": torch.ones(3)}).tensors["x"].sum() == 3


def test_a_cache_that_cannot_be_written_costs_a_warning(tmp_path, monkeypatch):
    file = tmp_path / "numbers"
    file.write_text("1")
    monkeypatch.setenv("KMIXUP_CACHE", str(file))  # a file where a folder should be
    with pytest.warns(UserWarning, match="KMIXUP_CACHE"):
        assert decoded("numbers", [file], lambda: {"x": torch.ones(3)}).tensors["x"].sum() == 3


# --- augmentation -----------------------------------------------------------------------------------------------------


def test_every_crop_and_flip_of_torchvision_is_equally_likely():
    # An image of distinct pixels tells from any crop where it was cut: 3 x 3 places (padding 1), times two.
    size, n = 4, 18_000
    image = torch.arange(1.0, 17.0).view(1, size, size)
    batch = random_crop_and_flip(1)(image.expand(n, 1, size, size), generator())
    ours = {tuple(crop.flatten().tolist()) for crop in batch.unique(dim=0)}

    torch.manual_seed(0)
    theirs_transform = transforms.Compose([transforms.RandomCrop(size, padding=1), transforms.RandomHorizontalFlip()])
    theirs = {tuple(theirs_transform(image).flatten().tolist()) for _ in range(1000)}
    assert ours == theirs
    assert len(ours) == 18

    _, counts = batch.flatten(1).unique(dim=0, return_counts=True)
    sigma = (n * (1 / 18) * (17 / 18)) ** 0.5
    assert (counts - n / 18).abs().max() < 5 * sigma


def test_images_of_one_batch_are_cropped_independently():
    size, n = 4, 20_000
    image = torch.arange(1.0, 17.0).view(1, size, size)
    batch = random_crop(1)(image.expand(2 * n, 1, size, size), generator())
    same = (batch[:n] == batch[n:]).flatten(1).all(1).double().mean()
    assert abs(same - 1 / 9) < 5 * ((1 / 9) * (8 / 9) / n) ** 0.5


def test_augmentation_draws_from_its_generator_alone():
    x = torch.rand(8, 3, 8, 8)
    augment = random_crop_and_flip(2)
    before = torch.get_rng_state()
    torch.testing.assert_close(augment(x, generator(4)), augment(x, generator(4)), rtol=0, atol=0)
    assert torch.equal(torch.get_rng_state(), before)
    assert not torch.equal(augment(x, generator(4)), augment(x, generator(5)))


# --- images in folders ------------------------------------------------------------------------------------------------


def write_folder(folder: Path, names=("cat", "dog"), n=6, size=(8, 6), ending=".png", mode="RGB"):
    """A folder per class, in which the class is a brightness."""
    from PIL import Image

    for number, name in enumerate(names):
        (folder / name).mkdir(parents=True)
        for i in range(n):
            level = 40 + 100 * number + i
            Image.new(mode, size, level if mode in "L" else (level,) * len(mode)).save(folder / name / f"{i}{ending}")


def levels(x):
    return (255 * x[:, 0, 0, 0]).round().int().tolist()


def test_a_folder_per_class_is_split_by_class(tmp_path):
    write_folder(tmp_path / "pets", n=10)
    data = load_data("imagefolder", tmp_path, 0, {"path": "pets"})
    assert data.x_train.shape == (16, 3, 6, 8)
    assert data.y_test.tolist() == [0, 0, 1, 1]
    torch.testing.assert_close(data.y_train, (data.x_train[:, 0, 0, 0] > 0.4).long())
    assert sorted(levels(torch.cat([data.x_train, data.x_test]))) == [*range(40, 50), *range(140, 150)]
    other = load_data("imagefolder", tmp_path, 1, {"path": "pets"})
    assert not torch.equal(other.x_test, data.x_test)
    assert other.source == data.source
    torch.testing.assert_close(data.mean, data.x_train.mean((0, 2, 3)))


def test_a_folder_that_is_split_stays_so(tmp_path):
    write_folder(tmp_path / "train")
    write_folder(tmp_path / "val", n=2)
    data = load_data("imagefolder", tmp_path)
    assert (len(data.x_train), len(data.x_test)) == (12, 4)
    write_folder(tmp_path / "test", n=3)
    data = load_data("imagefolder", tmp_path)
    assert len(data.x_test) == 6
    assert "val left out" in data.note


@pytest.mark.parametrize(("train", "test"), [("Train", "Test"), ("TRAIN", "Valid"), ("train", "Validation")])
def test_a_split_is_known_by_its_names_in_upper_or_lower_case(tmp_path, train, test):
    write_folder(tmp_path / train)
    write_folder(tmp_path / test, n=2)
    data = load_data("imagefolder", tmp_path)
    assert (len(data.x_train), len(data.x_test), data.note) == (12, 4, "")
    assert data.y_test.tolist() == [0, 0, 1, 1]


def test_a_split_under_other_names_is_not_taken_for_two_classes(tmp_path):
    write_folder(tmp_path / "training_set")
    write_folder(tmp_path / "test_set", n=2)
    with pytest.raises(
        ValueError, match=r"test_set and training_set in .* hold the same folders, such as cat: .*path="
    ):
        load_data("imagefolder", tmp_path)
    assert len(load_data("imagefolder", tmp_path, options={"path": "training_set"}).x_train) == 10
    (tmp_path / "training_set" / "cat" / "0.png").rename(tmp_path / "training_set" / "0.png")
    (tmp_path / "test_set" / "cat" / "0.png").rename(tmp_path / "test_set" / "0.png")
    assert load_data("imagefolder", tmp_path).num_classes == 2  # images beside the folders: these are no classes


def test_images_are_those_of_torchvision(tmp_path):
    from torchvision.datasets import ImageFolder

    write_folder(tmp_path, ("b", "a", "c"), ending=".JPEG")
    (tmp_path / "a" / "below").mkdir()
    (tmp_path / "a" / "0.JPEG").rename(tmp_path / "a" / "below" / "0.JPG")
    theirs = ImageFolder(str(tmp_path), transforms.PILToTensor())
    data = load_data("imagefolder", tmp_path)
    ours = [*zip(levels(data.x_train), data.y_train.tolist(), strict=True)]
    ours += zip(levels(data.x_test), data.y_test.tolist(), strict=True)
    assert sorted(ours) == sorted((int(image[0, 0, 0]), label) for image, label in theirs)


@pytest.mark.parametrize(("mode", "channels"), [("rgb", 3), ("gray", 1)])
@pytest.mark.parametrize("stored", ["L", "RGB", "RGBA"])
def test_gray_colour_and_opaque_images_become_one_kind(tmp_path, mode, channels, stored):
    from PIL import Image

    write_folder(tmp_path, mode="L")
    grey = Image.new("L", (8, 6), 90)
    opaque = Image.merge("RGBA", [grey, grey, grey, Image.new("L", (8, 6), 255)])
    (opaque if stored == "RGBA" else grey.convert(stored)).save(tmp_path / "cat" / "other.PNG")
    data = load_data("imagefolder", tmp_path, options={"mode": mode})
    assert data.x_train.shape[1] == channels
    assert 90 in levels(torch.cat([data.x_train, data.x_test]))


def test_transparent_images_need_a_background(tmp_path):
    from PIL import Image

    write_folder(tmp_path)
    Image.new("RGBA", (8, 6), (10, 10, 10, 0)).save(tmp_path / "dog" / "hole.png")
    with pytest.raises(ValueError, match=r"hole.png has transparent pixels.*background=white"):
        load_data("imagefolder", tmp_path)
    white = load_data("imagefolder", tmp_path, options={"background": "white"})
    black = load_data("imagefolder", tmp_path, options={"background": "black"})
    assert 255 in levels(torch.cat([white.x_train, white.x_test]))
    assert 0 in levels(torch.cat([black.x_train, black.x_test]))


def test_images_of_several_sizes_are_refused_or_resized(tmp_path):
    write_folder(tmp_path / "cat", ("x",), size=(8, 6))
    write_folder(tmp_path / "dog", ("x",), size=(6, 8))
    with pytest.raises(ValueError, match=r"one size; .* is 6 x 8 and .* 8 x 6. Resize them with dataset_options.size"):
        load_data("imagefolder", tmp_path)
    assert load_data("imagefolder", tmp_path, options={"size": 4}).x_train.shape[2:] == (4, 4)


def test_images_are_turned_as_their_camera_says(tmp_path):
    from PIL import Image

    write_folder(tmp_path, size=(6, 8))
    for file in (tmp_path / "cat").iterdir():
        image = Image.new("RGB", (8, 6), (1, 1, 1))
        exif = image.getexif()
        exif[0x0112] = 6  # turned by 90 degrees
        image.save(file, exif=exif)
    assert load_data("imagefolder", tmp_path).x_train.shape[2:] == (8, 6)


def test_a_switched_on_augmentation_of_a_folder_crops_and_flips(tmp_path):
    write_folder(tmp_path, size=(16, 16))
    assert load_data("imagefolder", tmp_path).augment is None
    augment = load_data("imagefolder", tmp_path, options={"augment": "yes"}).augment
    assert augment is not None
    assert augment(torch.rand(3, 3, 16, 16), generator()).shape == (3, 3, 16, 16)


def test_files_that_are_no_images_are_said(tmp_path):
    write_folder(tmp_path)
    (tmp_path / "cat" / "notes.txt").write_text("two cats")
    (tmp_path / "cat" / ".DS_Store").write_text("")
    assert load_data("imagefolder", tmp_path).note == "1 files that are no images left out, such as notes.txt"


def _cut(folder):
    file = folder / "cat" / "3.png"
    file.write_bytes(file.read_bytes()[:40])


def _chunk(kind, content):
    return len(content).to_bytes(4, "big") + kind + content + zlib.crc32(kind + content).to_bytes(4, "big")


def _png(colour, channels, width=8, height=6):
    """A PNG of 16 bits a channel, as its specification has it."""
    head = width.to_bytes(4, "big") + height.to_bytes(4, "big") + bytes([16, colour, 0, 0, 0])
    pixels = zlib.compress((b"\0" + b"\x90\x01" * channels * width) * height)
    return b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", head) + _chunk(b"IDAT", pixels) + _chunk(b"IEND", b"")


def _tiff(order="<", width=8, height=6):
    """A TIFF of 16 bits a channel, red, green and blue, little- or big-endian."""
    entries = [(256, 3, 1, width), (257, 3, 1, height), (258, 3, 3, 122), (259, 3, 1, 1), (262, 3, 1, 2)]
    entries += [(273, 4, 1, 128), (277, 3, 1, 3), (278, 3, 1, height), (279, 4, 1, 6 * width * height)]
    head = (b"II" if order == "<" else b"MM") + struct.pack(f"{order}HIH", 42, 8, len(entries))
    for tag, kind, count, value in entries:
        short = (kind, count) == (3, 1)
        head += struct.pack(f"{order}HHI{'HH' if short else 'I'}", tag, kind, count, value, *[0] * short)
    return head + struct.pack(f"{order}I3H", 0, 16, 16, 16) + b"\x90\x01" * 3 * width * height


_DEEP = {
    "grey.png": _png(0, 1),
    "colour.png": _png(2, 3),
    "grey-alpha.png": _png(4, 2),
    "colour-alpha.png": _png(6, 4),
    "little.tif": _tiff("<"),
    "big.tif": _tiff(">"),
    "binary.ppm": b"P6 8 6 65535\n" + b"\x90\x01" * 3 * 48,
    "ten-bits.ppm": b"P6 8 6 1023\n" + b"\x01\x90" * 3 * 48,
    "plain.ppm": b"P3 8 6 1023\n" + b"400 " * 3 * 48,
}


@pytest.mark.parametrize("name", _DEEP)
def test_images_of_more_than_8_bits_are_refused_in_every_format_and_mode(tmp_path, name):
    write_folder(tmp_path)
    (tmp_path / "cat" / name).write_bytes(_DEEP[name])
    with pytest.raises(ValueError, match=rf"{name} has more than 8 bits a channel. Convert it first"):
        load_data("imagefolder", tmp_path)


@pytest.mark.parametrize("ending", [".png", ".tif", ".ppm", ".bmp", ".webp"])
def test_images_of_8_bits_are_read_in_every_format(tmp_path, ending):
    write_folder(tmp_path, ending=ending)
    assert len(load_data("imagefolder", tmp_path).x_train) == 10


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (_cut, r"3.png is not a whole image .* or remove it"),
        (lambda folder: (folder / "eel").mkdir(), r"eel has no images .*Fill it, or remove it"),
        (
            lambda folder: write_folder(folder / "train", ("cat", "dog")),
            r"has train, but none of test, val.*path=./train",
        ),
        (
            lambda folder: [write_folder(folder / "train", "ab"), write_folder(folder / "test", "ac")],
            "must have the same classes, not b, c in one",
        ),
    ],
)
def test_folders_with_a_mistake_are_refused_by_its_name(tmp_path, spoil, message):
    write_folder(tmp_path)
    spoil(tmp_path)
    with pytest.raises(ValueError, match=message):
        load_data("imagefolder", tmp_path)


def test_folders_that_are_no_classes_are_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no folder .*nowhere"):
        load_data("imagefolder", tmp_path, options={"path": "nowhere"})
    with pytest.raises(ValueError, match="each of at least two classes, got 0"):
        load_data("imagefolder", tmp_path)


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (lambda lines: lines[:1], r"1 of 2 images have no line in .*val_annotations.txt, such as val_1.JPEG"),
        (lambda lines: [*lines, lines[0]], r"line 3 of .*val_annotations.txt names val_0.JPEG again"),
        (lambda lines: [lines[0], "val_1.JPEG\tn0\t0"], "line 2 of .* gives val_1.JPEG the class 'n0'"),
        (lambda lines: [*lines, "val_7.JPEG\tn01443537"], "line 3 of .* names no image of val/images"),
    ],
)
def test_tiny_imagenet_is_refused_if_images_and_annotations_do_not_fit(tmp_path, lines, message):
    write_tiny_imagenet(tmp_path)
    annotations = tmp_path / "val" / "val_annotations.txt"
    annotations.write_text("\n".join(lines(annotations.read_text().splitlines())))
    with pytest.raises(ValueError, match=message):
        load_data("tiny-imagenet", tmp_path)


def test_labels_that_were_corrected_are_not_those_of_the_cache(tmp_path):
    write_tiny_imagenet(tmp_path)
    before = load_data("tiny-imagenet", tmp_path)
    assert before.y_test.tolist() == [0, 1]
    annotations = tmp_path / "val" / "val_annotations.txt"
    first, second = ("n01443537", "n01629819")
    text, status = annotations.read_text(), annotations.stat()
    annotations.write_text(text.replace(first, "x").replace(second, first).replace("x", second))
    os.utime(annotations, ns=(status.st_atime_ns, status.st_mtime_ns))  # same size, same date: only the bytes differ
    after = load_data("tiny-imagenet", tmp_path)
    assert after.y_test.tolist() == [1, 0]
    assert after.source != before.source
    assert "6 + 2 images, not the 100,000 + 10,000" in after.note


def test_a_damaged_image_of_tiny_imagenet_is_named(tmp_path):
    write_tiny_imagenet(tmp_path)
    file = tmp_path / "train/n01443537/images/n01443537_1.JPEG"
    file.write_bytes(file.read_bytes()[:-300])
    with pytest.raises(ValueError, match=r"n01443537_1.JPEG is not a whole image"):
        load_data("tiny-imagenet", tmp_path)


# --- damaged official files -------------------------------------------------------------------------------------------


def test_cifar_with_missing_batches_says_which(tmp_path):
    write_cifar(tmp_path, ["data_batch_1", "data_batch_3", "data_batch_4", "test_batch"], "labels", 10)
    note = load_data("cifar10", tmp_path).note
    assert note == "36 + 12 images, not the 50,000 + 10,000 of the official files; without data_batch_2, data_batch_5"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"data": np.zeros((3, 3072), np.uint8), "labels": [0, 1]}, r"data_batch_2 has 3 images and .* has 2 labels"),
        (
            {"data": np.zeros((2, 3072), np.uint8), "labels": [0, 10]},
            r"data_batch_2 must have labels 0 ... 9, got 0 ... 10",
        ),
        ({"data": np.zeros((2, 3072), np.uint8)}, r"data_batch_2 is not a CIFAR pickle with 'data' and 'labels'"),
    ],
)
def test_a_cifar_batch_that_does_not_fit_is_named(tmp_path, content, message):
    write_cifar(tmp_path, [*[f"data_batch_{i}" for i in range(1, 6)], "test_batch"], "labels", 10)
    (tmp_path / "data_batch_2").write_bytes(pickle.dumps(content))
    with pytest.raises(ValueError, match=message):
        load_data("cifar10", tmp_path)


def test_idx_files_that_do_not_belong_together_are_refused(tmp_path):
    write_idx(tmp_path)
    write_idx(tmp_path / "other", n=(19, 10))
    (tmp_path / "other" / "train-labels-idx1-ubyte").rename(tmp_path / "train-labels-idx1-ubyte")
    with pytest.raises(ValueError, match=r"images-idx3-ubyte has 20 images and .*labels-idx1-ubyte has 19 labels"):
        load_data("mnist", tmp_path)


def test_a_gzip_file_with_a_flipped_byte_is_named(tmp_path):
    write_idx(tmp_path, packed=True)
    file = tmp_path / "t10k-images-idx3-ubyte.gz"
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 8
    file.write_bytes(content)
    with pytest.raises(ValueError, match=r"t10k-images-idx3-ubyte.gz is a damaged gzip file .*again"):
        load_data("mnist", tmp_path)


def test_a_damaged_mat_file_is_named(tmp_path):
    write_svhn(tmp_path)
    file = tmp_path / "test_32x32.mat"
    file.write_bytes(file.read_bytes()[:5000])
    with pytest.raises(ValueError, match=r"test_32x32.mat is not a whole .mat file"):
        load_data("svhn", tmp_path)


def test_a_file_that_changes_while_it_is_decoded_is_refused(tmp_path):
    file = tmp_path / "numbers"
    file.write_text("1")

    def decode():
        file.write_text("2")
        return {"x": torch.ones(1)}

    with pytest.raises(ValueError, match="changed while they were read"):
        decoded("numbers", [file], decode)
    assert not list((tmp_path / ".cache").rglob("*.safetensors"))
