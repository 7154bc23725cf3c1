"""The UCI data of Table 5.

Preprocessing is inferred from the xi that Table 5 prints, for the paper does not give it (PAPER.md, deviations):
one scalar mean and deviation for Iris and Breast cancer, raw values for the others.
"""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np

from kmixup.experiments.datasets.cache import cache_dir
from kmixup.experiments.datasets.columns import Table, class_names, numbers
from kmixup.experiments.datasets.data import Data
from kmixup.experiments.datasets.source import files_source
from kmixup.experiments.datasets.split import Scaling, split_rows
from kmixup.experiments.datasets.text import read_text

_DUPLICATES = "5,206 of Phishing's 11,055 rows are duplicates, so a random split leaks"
_MISSING = frozenset(["", "?"])
_SEX = ("M", "F", "I")  # as 0, 1, 2: this coding gives the xi that Table 5 prints


def iris(data_dir: Path | None = None, seed: int = 0, *, scaling: Scaling = "scalar", test_share: float = 0.2) -> Data:
    """Iris, 150 x 4, 3 classes, from scikit-learn. Options as `table`.

    Paper: Table 5, Iris.
    """
    from sklearn.datasets import load_iris

    return _shipped("iris.csv", load_iris(return_X_y=True), seed, scaling, test_share)


def breast_cancer(
    data_dir: Path | None = None, seed: int = 0, *, scaling: Scaling = "scalar", test_share: float = 0.2
) -> Data:
    """Breast Cancer Wisconsin (Diagnostic), 569 x 30, 2 classes, from scikit-learn. Options as `table`.

    Paper: Table 5, Breast Cancer.
    """
    from sklearn.datasets import load_breast_cancer

    return _shipped("breast_cancer.csv", load_breast_cancer(return_X_y=True), seed, scaling, test_share)


def wine(
    data_dir: Path | None = None, seed: int = 0, *, scaling: Scaling = "standard", test_share: float = 0.2
) -> Data:
    """Wine recognition, 178 x 13, 3 classes, from scikit-learn. Options as `table`."""
    from sklearn.datasets import load_wine

    return _shipped("wine_data.csv", load_wine(return_X_y=True), seed, scaling, test_share)


def digits(
    data_dir: Path | None = None, seed: int = 0, *, scaling: Scaling = "scalar", test_share: float = 0.2
) -> Data:
    """Optical digits as a table, 1797 x 64 (8 x 8 pixels), 10 classes, from scikit-learn. Options as `table`."""
    from sklearn.datasets import load_digits

    return _shipped("digits.csv.gz", load_digits(return_X_y=True), seed, scaling, test_share)


def abalone(data_dir: Path | None = None, seed: int = 0, *, scaling: Scaling = "raw", test_share: float = 0.2) -> Data:
    """Abalone, 4177 x 8, 28 classes (rings), from ``abalone.data``. Options as `table`.

    Paper: Table 5, Abalone.
    """
    table = _read("abalone", data_dir, "abalone.data")
    for row, sex in enumerate(table.columns[0]):
        if sex not in _SEX:
            raise ValueError(f"{table.place(row, 0)} must be M, F or I, got {sex!r}. Fetch the file again.")
    coded = np.array([_SEX.index(sex) for sex in table.columns[0]], dtype=float)
    return _split(table, [coded, *_numbers(table, 1)], seed, scaling, test_share)


def arrhythmia(
    data_dir: Path | None = None, seed: int = 0, *, scaling: Scaling = "raw", test_share: float = 0.2
) -> Data:
    """Arrhythmia, 452 x 279, 13 classes that occur, from ``arrhythmia.data``; missing values are 0. Options as `table`.

    Paper: Table 5, Arrhythmia.
    """
    table = _read("arrhythmia", data_dir, "arrhythmia.data")
    return _split(table, [np.nan_to_num(column) for column in _numbers(table)], seed, scaling, test_share)


def phishing(data_dir: Path | None = None, seed: int = 0, *, scaling: Scaling = "raw", test_share: float = 0.2) -> Data:
    """Phishing Websites, 11055 x 30, 2 classes, from UCI's ``Training Dataset.arff`` or as CSV. Options as `table`.

    Paper: Table 5, Phishing.
    """
    table = _read("phishing", data_dir, "phishing_websites.csv", "Training Dataset.arff")
    return _split(table, _numbers(table), seed, scaling, test_share, note=_DUPLICATES)


def _shipped(name: str, loaded: Any, seed: int, scaling: Scaling, test_share: float) -> Data:
    """A set that comes with scikit-learn, as its loader gave rows and classes; its source is the file there."""
    x, y = map(np.asarray, loaded)
    with resources.as_file(resources.files("sklearn.datasets.data") / name) as file:
        source = files_source([file])
    return split_rows(x, y, len(np.unique(y)), seed, scaling=scaling, test_share=test_share, source=source)


def _read(name: str, data_dir: Path | None, *files: str) -> Table:
    """The first of these files in ``data_dir``, or of the fetched copy."""
    folders = ([data_dir] if data_dir is not None else []) + [cache_dir() / "data" / name]
    for folder in folders:
        for file in files:
            if (folder / file).is_file():
                return read_text(folder / file, delimiter=",", header="auto", encoding="auto")
    raise FileNotFoundError(
        f"no {' or '.join(files)} in {' or '.join(map(str, folders))}. Give its folder with --data-dir, or run "
        f"`kmixup data fetch {name}`."
    )


def _numbers(table: Table, start: int = 0) -> list[np.ndarray]:
    """All columns from this one to the last but one, which must be numbers."""
    columns: list[np.ndarray] = []
    for index in range(start, len(table.columns) - 1):
        column = numbers(table, index, ".", _MISSING)
        if column is None:
            raise ValueError(f"{table.title(index)} of {table.file} must be numbers. Fetch the file again.")
        columns.append(column)
    return columns


def _split(
    table: Table, columns: list[np.ndarray], seed: int, scaling: Scaling, test_share: float, note: str = ""
) -> Data:
    target = len(table.columns) - 1
    labels = class_names(table.columns[target], _MISSING)
    for index, missing in enumerate([*map(np.isnan, columns), np.array(labels) == ""]):
        if missing.any():
            raise ValueError(f"{table.place(int(missing.argmax()), index)} is missing. Fetch the file again.")
    names, codes = np.unique(labels, return_inverse=True)  # as words, "10" before "2": committed runs number them so
    return split_rows(
        np.column_stack(columns),
        codes,
        len(names),
        seed,
        scaling=scaling,
        test_share=test_share,
        note=note,
        source=files_source([table.file]),
    )
