"""Data sets by name. To add one: write a loader, give it a line in `DATASETS`; or name your own, ``module:function``.

A loader is ``loader(data_dir, seed, **options)``. The seed draws the split, or the data themselves.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from kmixup.experiments.datasets import digits, folders, images, speech, tabular, toy
from kmixup.experiments.datasets.data import Data, as_data
from kmixup.experiments.datasets.source import joined_source
from kmixup.experiments.datasets.table import table
from kmixup.experiments.named import is_own, own, read_options, unknown

__all__ = ["DATASETS", "Data", "load_data", "read_dataset_options"]

_csv = partial(table, scaling="raw", words="codes", stratify=False)
_csv.__doc__ = "As table, with other defaults: raw values, words as codes, classes split as they fall."

DATASETS: dict[str, Callable[..., Data]] = {
    "one-ring": toy.one_ring,
    "four-bars": toy.four_bars,
    "swiss-roll": toy.swiss_roll,
    "iris": tabular.iris,
    "breast-cancer": tabular.breast_cancer,
    "wine": tabular.wine,
    "digits": tabular.digits,
    "abalone": tabular.abalone,
    "arrhythmia": tabular.arrhythmia,
    "phishing": tabular.phishing,
    "table": table,
    "csv": _csv,
    "mnist-5000": digits.mnist_5000,
    "mnist": images.mnist,
    "fashion-mnist": images.fashion_mnist,
    "cifar10": images.cifar10,
    "cifar100": images.cifar100,
    "svhn": images.svhn,
    "tiny-imagenet": folders.tiny_imagenet,
    "imagefolder": folders.imagefolder,
    "speech-commands": speech.speech_commands,
}

_GIVEN = ("data_dir", "seed")
_OWN_SEEDS = 2**31  # what every library takes as a seed


def read_dataset_options(name: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """All options of a data set, defaults included, as its loader's signature reads them.

    Raises:
        ValueError: If there is no such data set, or an option is unknown, missing or not of its type.
    """
    return read_options("dataset", name, _loader(name), options, given=_GIVEN)


def load_data(name: str, data_dir: Path | None = None, seed: int = 0, options: Mapping[str, Any] | None = None) -> Data:
    """A data set, split.

    Args:
        name: In `DATASETS`, or ``module:function``: a function of your own, in the current folder or installed. It is
            called as ``function(data_dir=..., seed=..., **options)``, with a seed below 2^31, and returns `Data`, or
            ``(x_train, y_train, x_test, y_test)``.
        data_dir: Where files are.
        seed: Draws the split, or the data.
        options: As typed: see `read_options`.

    Returns:
        The data. ``source`` is the same for all seeds; for a function of your own it holds its module's file, and the
        source it gives to `Data` (such as `files_source` of what it read), or else what it returns for seed 0.

    Raises:
        ValueError: If the name or an option is wrong, or the data are.
        FileNotFoundError: If the data's files are not there.
    """
    read = read_dataset_options(name, options or {})
    if not is_own(name):
        return DATASETS[name](data_dir, seed, **read)
    function, digest = own(name)

    def load(seed: int) -> Data:
        return as_data(name, function(data_dir=data_dir, seed=seed, **read))

    seed %= _OWN_SEEDS
    data = load(seed)
    source = data.source or (data if seed == 0 else load(0)).fingerprint()
    return replace(data, source=joined_source(digest, source))


def _loader(name: str) -> Callable[..., Any]:
    if is_own(name):
        return own(name)[0]
    if name not in DATASETS:
        raise ValueError(unknown("dataset", name, DATASETS) + " One of your own is module:function.")
    return DATASETS[name]
