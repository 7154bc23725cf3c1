"""Data sets by name. To add one: write a loader, give it a line in `DATASETS`.

A loader is ``loader(data_dir, seed, **options)``. The seed draws the split, or the data themselves.
"""

from __future__ import annotations

from collections.abc import Callable

from kmixup.experiments.datasets import digits, images, speech, tabular, toy
from kmixup.experiments.datasets.data import Data

__all__ = ["DATASETS", "Data"]

DATASETS: dict[str, Callable[..., Data]] = {
    "one-ring": toy.one_ring,
    "four-bars": toy.four_bars,
    "swiss-roll": toy.swiss_roll,
    "iris": tabular.iris,
    "breast-cancer": tabular.breast_cancer,
    "abalone": tabular.abalone,
    "arrhythmia": tabular.arrhythmia,
    "phishing": tabular.phishing,
    "csv": tabular.csv,
    "mnist-5000": digits.mnist_5000,
    "mnist": images.mnist,
    "fashion-mnist": images.fashion_mnist,
    "cifar10": images.cifar10,
    "cifar100": images.cifar100,
    "svhn": images.svhn,
    "tiny-imagenet": images.tiny_imagenet,
    "speech-commands": speech.speech_commands,
}
