"""Any table, one row a sample and one column its class: CSV and its kin, ARFF, Parquet, or numpy's .npz."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from torch import Tensor

from kmixup.experiments.datasets import columns
from kmixup.experiments.datasets.columns import NA, Decimal, Table
from kmixup.experiments.datasets.data import Data
from kmixup.experiments.datasets.source import files_source
from kmixup.experiments.datasets.split import Fill, Scaling, fill_and_scale, split_rows
from kmixup.experiments.datasets.stored import PARQUET, ZIP, read_arrays, read_parquet
from kmixup.experiments.datasets.text import Header, read_text
from kmixup.experiments.named import read_options

_GIVEN = ("data_dir", "seed")

Missing = float | Literal["mean", "median", "drop"] | None


def table(
    data_dir: Path | None = None,
    seed: int = 0,
    *,
    path: str,
    class_column: int | str = -1,
    drop: Sequence[int | str] = (),
    categorical: Sequence[int | str] = (),
    words: Literal["one-hot", "codes"] = "one-hot",
    missing: Missing = None,
    na: Sequence[str | int | float | bool] = NA,
    unlabelled: Literal["refuse", "drop"] = "refuse",
    header: Header = "auto",
    delimiter: str = "auto",
    decimal: Decimal = "auto",
    encoding: str = "auto",
    scaling: Scaling = "standard",
    test_share: float = 0.2,
    stratify: bool = True,
) -> Data:
    """A table of your own: CSV and its kin, ARFF, Parquet, or arrays in an .npz file.

    Columns are named by their header or counted from 0. A column of words becomes one column of 0 and 1 for each word.
    A column that mixes numbers and words is refused, as is whatever else a reader would have to guess.

    Args:
        data_dir: Folder that ``path`` is relative to; default: the working directory.
        seed: Draws the split.
        path: The file: text (gzipped or not), Parquet, or ``.npz`` with numbers ``x``, ``[n, d]``, and classes ``y``.
        class_column: The class, by name or number; -1 is the last column.
        drop: Columns to leave out.
        categorical: Columns to be coded as words though they are, or hold, numbers, such as postal codes.
        words: ``"one-hot"``, or ``"codes"``: one column that counts the words in sorted order.
        missing: What stands for a missing number: a number, or the ``"mean"`` or ``"median"`` of the column's training
            rows; a missing word is then a word of its own. ``"drop"`` leaves such rows out; None refuses them.
        na: Values that count as missing: words in upper or lower case; numbers however they are written.
        unlabelled: Whether rows without a class are an error or left out.
        header: Whether the first line of text names the columns; ``"auto"`` finds out or asks.
        delimiter: Between values of text; ``" "`` is any white space.
        decimal: Decimal mark of text.
        encoding: Of text, as Python names it; ``"auto"``: UTF-8, or what the byte order mark says.
        scaling: ``"raw"``; ``"standard"``: each column minus its mean, over its standard deviation; ``"scalar"``: all
            columns by one mean and deviation. All of them those of the training rows.
        test_share: Share of the rows that are tested on.
        stratify: Whether every class has this share.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file or an option is not as above: the message names the row, the column and the remedy.
        ImportError: If the file is Parquet and pyarrow is not installed.
    """
    read = _read_rows(
        *_file(data_dir, path),
        *(class_column, tuple(drop), tuple(categorical), words, missing, tuple(map(str, na)), unlabelled),
        *(header, delimiter, decimal, encoding),
    )
    known = columns.classes(read.table, read.target, read.names)
    if header == "auto" and read.table.names is None and read.table.lines and read.first:
        _ask_for_header(read.table, read.names)
    single = [name for name, count in Counter(read.names).items() if count == 1]
    number = {name: code for code, name in enumerate(known)}
    return split_rows(
        read.x,
        [number[name] for name in read.names],
        len(known),
        seed,
        scaling=scaling,
        test_share=test_share,
        stratify=stratify,
        fill=_fill(missing),
        note="; ".join([*read.notes, *(f"{len(single)} classes of one row, such as {name!r}" for name in single[:1])]),
        source=read.source,
    )


def whole_table(
    path: str, target: int | str, options: Mapping[str, Any], data_dir: Path | None = None
) -> tuple[Tensor, np.ndarray]:
    """All rows of a table, not split, with targets of any kind: to look at, not to train on.

    Args:
        path: As for `table`.
        target: The column of the targets, by name or number.
        options: Of `table`, as typed; what is filled in and the scaling are taken from all rows.
        data_dir: As for `table`.

    Returns:
        Points, float32, ``[n, d]``; and targets, ``[n]``: float64 if all are numbers, else words.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: As by `table`.
    """
    given = read_options("dataset", "table", table, {**options, "path": path, "class_column": target}, given=_GIVEN)
    told = ("words", "missing", "unlabelled", "header", "delimiter", "decimal", "encoding")
    told = {name: given[name] for name in told}
    lists = {name: tuple(given[name]) for name in ("drop", "categorical")}
    file, source = _file(data_dir, path)
    read = _read_rows(file, source, given["class_column"], na=tuple(map(str, given["na"])), **lists, **told)
    numeric = all(columns.is_number(name, ".") for name in read.names)
    return (
        fill_and_scale(read.x, _fill(given["missing"]), given["scaling"]),
        np.array(read.names, dtype=np.float64 if numeric else str),
    )


def _file(data_dir: Path | None, path: str) -> tuple[Path, str]:
    file = (data_dir or Path()) / path
    if not file.is_file():
        raise FileNotFoundError(f"no file {file}. Give its folder with --data-dir, or a full path.")
    return file, files_source([file])


def _fill(missing: Missing) -> Fill:
    return 0.0 if missing is None or missing == "drop" else missing


class _Rows(NamedTuple):
    """The rows that count: points ``[n, d]`` with NaN where a number is missing, and their classes as spelled."""

    table: Table
    target: int
    x: np.ndarray
    names: list[str]
    first: bool  # whether the file's first row is among them
    notes: tuple[str, ...]
    source: str


@lru_cache(maxsize=1)  # the trials of a sweep come data set by data set
def _read_rows(
    file: Path,
    source: str,
    class_column: int | str,
    drop: tuple[int | str, ...],
    categorical: tuple[int | str, ...],
    words: Literal["one-hot", "codes"],
    missing: Missing,
    na: tuple[str, ...],
    unlabelled: Literal["refuse", "drop"],
    header: Header,
    delimiter: str,
    decimal: Decimal,
    encoding: str,
) -> _Rows:
    """What `table` reads before it splits; ``source`` is the hash of the file's bytes."""
    with file.open("rb") as stream:
        start = stream.read(4)
    if start == ZIP and file.suffix.lower() == ".npz":
        read = read_arrays(file)
    elif start == PARQUET:
        read = read_parquet(file)
    else:
        read = read_text(file, delimiter=delimiter, header=header, encoding=encoding)
    tokens = frozenset(token.lower() for token in na)
    target = read.index("class_column", class_column)
    names = columns.class_names(read.columns[target], tokens)
    kept = _labelled(read, target, names, unlabelled)
    left = {target, *(read.index("drop", column) for column in drop)}
    features = [index for index in range(len(read.columns)) if index not in left]
    x, incomplete = _features(
        read,
        features,
        tokens,
        decimal,
        {*read.words, *(read.index("categorical", column) for column in categorical)} - left,
        words,
    )
    notes = [f"{len(names) - sum(kept)} rows without a class left out"] * (not all(kept))
    rows = np.array(kept)
    if incomplete and missing is None:
        row, column = incomplete[0]
        raise ValueError(
            f"{len(incomplete)} values are missing, the first in {read.place(row, column)}. Say missing=0 or another "
            "number, mean, median, or drop for the rows."
        )
    if missing == "drop":
        whole = rows.copy()
        whole[[row for row, _ in incomplete]] = False
        notes += [f"{rows.sum() - whole.sum()} rows with missing values left out"] * bool(incomplete)
        rows = whole
    names = [name for name, keep in zip(names, rows, strict=True) if keep]
    return _Rows(read, target, x[rows], names, bool(rows[0]), tuple(notes), source)


def _ask_for_header(read: Table, classes: Sequence[str]) -> None:
    """A first line of numbers and a word that never comes again may be years above columns, or the one row of a class.

    Raises:
        ValueError: If it is such a line.
    """
    first, *others = classes
    counts = Counter(others)
    if first not in counts and not columns.is_number(first) and min(counts.values(), default=0) > 1:
        raise ValueError(
            f"is the first line of {read.file} a header? Its class {first!r} has no other row. Say header=true or "
            "header=false."
        )


def _labelled(read: Table, target: int, names: Sequence[str], unlabelled: str) -> list[bool]:
    kept = [bool(name) for name in names]
    if not all(kept) and unlabelled == "refuse":
        raise ValueError(
            f"{kept.count(False)} rows have no class, the first is {read.place(kept.index(False), target)}. Correct "
            "it, or say unlabelled=drop."
        )
    return kept


def _features(
    read: Table, features: Sequence[int], na: frozenset[str], decimal: Decimal, categorical: set[int], words: str
) -> tuple[np.ndarray, list[tuple[int, int]]]:
    """Numbers, shape ``[n, d]``, NaN where one is missing; and the cells (row, column) that are missing, also words."""
    if not features:
        raise ValueError(f"{read.file} has no column but the class.")
    if decimal == "auto":
        text = [index for index in features if not isinstance(read.columns[index], np.ndarray)]
        decimal = columns.decimal_mark(read, [index for index in text if index not in categorical], na)
    parts: list[np.ndarray] = []
    incomplete: list[tuple[int, int]] = []
    for index in features:
        values = None if index in categorical else columns.numbers(read, index, decimal, na)
        if values is None:
            cells = columns.words(read, index, na, said=index in categorical)
            codes = np.unique(cells, return_inverse=True)[1]
            values = np.eye(codes.max() + 1)[codes] if words == "one-hot" else codes[:, None]
            missing = np.array([not cell for cell in cells])
        elif columns.counts_rows(values):  # where a file is sorted by class, as many are, an index tells the class
            raise ValueError(
                f"{read.title(index)} of {read.file} counts the rows: an index, not a quantity. Leave it out: "
                f"drop=[{index}]; or, if it is a time to train on, count it from another number than 0 or 1."
            )
        else:
            missing, values = np.isnan(values), values[:, None]
        parts.append(values)
        incomplete += [(int(row), index) for row in missing.nonzero()[0]]
    return np.concatenate(parts, 1), sorted(incomplete)
