"""Tables of numbers: the UCI data of Table 5, and any CSV file whose last column is the class.

Preprocessing is inferred from the xi that Table 5 prints, for the paper does not give it (PAPER.md, deviations):
one scalar mean and deviation for Iris and Breast cancer, raw values for the others.
"""

from __future__ import annotations

from collections.abc import Sequence
from csv import reader
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Generator, Tensor

from kmixup.experiments.datasets.cache import cache_dir
from kmixup.experiments.datasets.data import Data

Scaling = Literal["raw", "scalar", "standard"]
SCALINGS = ("raw", "scalar", "standard")

_DUPLICATES = "5,206 of Phishing's 11,055 rows are duplicates, so a random split leaks"


def iris(data_dir: Path | None = None, seed: int = 0, *, scaling: Scaling = "scalar", test_share: float = 0.2) -> Data:
    """Iris, 150 x 4, 3 classes, from scikit-learn. Options as `csv`.

    Paper: Table 5, Iris.
    """
    from sklearn.datasets import load_iris

    x, y = load_iris(return_X_y=True)
    return _split(np.asarray(x), np.asarray(y), seed, scaling, test_share)


def breast_cancer(
    data_dir: Path | None = None, seed: int = 0, *, scaling: Scaling = "scalar", test_share: float = 0.2
) -> Data:
    """Breast Cancer Wisconsin (Diagnostic), 569 x 30, 2 classes, from scikit-learn. Options as `csv`.

    Paper: Table 5, Breast Cancer.
    """
    from sklearn.datasets import load_breast_cancer

    x, y = load_breast_cancer(return_X_y=True)
    return _split(np.asarray(x), np.asarray(y), seed, scaling, test_share)


def abalone(data_dir: Path | None = None, seed: int = 0, *, scaling: Scaling = "raw", test_share: float = 0.2) -> Data:
    """Abalone, 4177 x 8, 28 classes (rings), from ``abalone.data``. Options as `csv`.

    Paper: Table 5, Abalone.
    """
    rows = _find("abalone", data_dir, "abalone.data")
    # M, F, I as 0, 1, 2: this coding gives the xi that Table 5 prints.
    sex = np.array([["M", "F", "I"].index(row[0]) for row in rows], dtype=float)
    x = np.column_stack([sex, [[float(value) for value in row[1:-1]] for row in rows]])
    return _split(x, [row[-1] for row in rows], seed, scaling, test_share)


def arrhythmia(
    data_dir: Path | None = None, seed: int = 0, *, scaling: Scaling = "raw", test_share: float = 0.2
) -> Data:
    """Arrhythmia, 452 x 279, 13 classes that occur, from ``arrhythmia.data``; missing values are 0. Options as `csv`.

    Paper: Table 5, Arrhythmia.
    """
    rows = _find("arrhythmia", data_dir, "arrhythmia.data")
    x = np.column_stack([_numbers(column, i, 0.0) for i, column in enumerate(zip(*rows, strict=True))][:-1])
    return _split(x, [row[-1] for row in rows], seed, scaling, test_share)


def phishing(data_dir: Path | None = None, seed: int = 0, *, scaling: Scaling = "raw", test_share: float = 0.2) -> Data:
    """Phishing Websites, 11055 x 30, 2 classes, from UCI's ``Training Dataset.arff`` or as CSV. Options as `csv`.

    Paper: Table 5, Phishing.
    """
    rows = _find("phishing", data_dir, "phishing_websites.csv", "Training Dataset.arff")
    x = np.array([[float(value) for value in row[:-1]] for row in rows])
    return _split(x, [row[-1] for row in rows], seed, scaling, test_share, note=_DUPLICATES)


def csv(
    data_dir: Path | None = None,
    seed: int = 0,
    *,
    path: str,
    header: bool = False,
    delimiter: str = ",",
    class_column: int = -1,
    missing: float | None = None,
    scaling: Scaling = "raw",
    test_share: float = 0.2,
) -> Data:
    """Any table in UCI's format: comma-separated, one sample a line, one column the class.

    Columns that hold words are coded 0, 1, 2, ... in the order of the sorted words.

    Args:
        data_dir: Folder that ``path`` is relative to; default: the working directory.
        seed: Draws the split.
        path: The file, ``.csv``, ``.data`` or ``.arff``.
        header: Whether the first line names the columns.
        delimiter: Between values.
        class_column: Which column is the class; -1 is the last.
        missing: What stands for an empty value or ``?``; None refuses such files.
        scaling: ``"raw"`` values; ``"scalar"``: one mean and one standard deviation over all values, as the printed xi
            of Iris and Breast cancer imply; ``"standard"``: each column by its own. Moments are those of the training
            part.
        test_share: Share of the samples that are tested on.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If lines differ in length, values are missing, or an option is out of range.
    """
    file = (data_dir or Path()) / path
    if not file.is_file():
        raise FileNotFoundError(f"no file {file}. Give its folder with --data-dir, or a full path.")
    rows = _read(file, delimiter)[header:]
    labels = [row.pop(class_column) for row in rows]
    columns = [_numbers(column, index, missing) for index, column in enumerate(zip(*rows, strict=True))]
    return _split(np.column_stack(columns), labels, seed, scaling, test_share)


def _find(name: str, data_dir: Path | None, *files: str) -> list[list[str]]:
    """Rows of the first of these files in ``data_dir``, or of the fetched copy."""
    folders = ([data_dir] if data_dir is not None else []) + [cache_dir() / "data" / name]
    for folder in folders:
        for file in files:
            if (folder / file).is_file():
                return _read(folder / file, ",")
    raise FileNotFoundError(
        f"no {' or '.join(files)} in {' or '.join(map(str, folders))}. "
        f"Give its folder with --data-dir, or run `kmixup data fetch {name}`."
    )


def _read(file: Path, delimiter: str) -> list[list[str]]:
    with file.open(encoding="utf-8-sig", newline="") as lines:
        if file.suffix == ".arff":
            for line in lines:
                if line.strip().lower() == "@data":
                    break
        rows = [[value.strip() for value in row] for row in reader(lines, delimiter=delimiter) if row]
    if not rows:
        raise ValueError(f"{file} has no rows.")
    for number, row in enumerate(rows, 1):
        if len(row) != len(rows[0]):
            raise ValueError(
                f"every row must have as many values as the first, {len(rows[0])}; row {number} of {file} has "
                f"{len(row)}. Is {delimiter!r} the delimiter?"
            )
    return rows


def _numbers(column: Sequence[str], index: int, missing: float | None) -> np.ndarray:
    present = [value not in ("", "?") for value in column]
    if not all(present) and missing is None:
        raise ValueError(
            f"column {index} has {present.count(False)} missing values. Say what stands for them with missing=0."
        )
    try:
        return np.array([float(value) if here else missing for value, here in zip(column, present, strict=True)])
    except ValueError:
        words = {word: code for code, word in enumerate(sorted(set(column)))}
        return np.array([float(words[value]) for value in column])


def _split(
    x: np.ndarray, labels: Sequence[object] | np.ndarray, seed: int, scaling: Scaling, test_share: float, note: str = ""
) -> Data:
    """A random split, the training part's scaling, the classes as 0, 1, 2, ... in sorted order."""
    if not 0 < test_share < 1:
        raise ValueError(f"test_share must be in (0, 1), got {test_share}.")
    classes, codes = np.unique(np.asarray(labels), return_inverse=True)
    points, y = torch.from_numpy(np.asarray(x, dtype=np.float64)), torch.from_numpy(codes.astype(np.int64))
    order = torch.randperm(len(y), generator=Generator().manual_seed(seed))
    test, train = order.split([round(test_share * len(y)), len(y) - round(test_share * len(y))])
    points = _scaled(points, points[train], scaling).float()
    return Data(points[train], y[train], points[test], y[test], num_classes=len(classes), note=note)


def _scaled(points: Tensor, train: Tensor, scaling: Scaling) -> Tensor:
    if scaling == "raw":
        return points
    if scaling == "scalar":
        return (points - train.mean()) / train.std(correction=0)
    if scaling == "standard":
        std = train.std(0, correction=0)
        return (points - train.mean(0)) / torch.where(std > 0, std, 1.0)  # a constant column becomes 0
    raise ValueError(f"scaling must be one of {', '.join(SCALINGS)}, got {scaling!r}.")
