"""Tables that are stored by column or as arrays: Parquet and numpy's .npz."""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path

import numpy as np

from kmixup.experiments.datasets.columns import Column, Table

PARQUET, ZIP = b"PAR1", b"PK\x03\x04"
"""The first bytes of a Parquet file, and of an ``.npz`` file, which is a ZIP archive."""


def read_parquet(file: Path) -> Table:
    """The columns of a Parquet file: numbers and truth values as numbers, words and dictionaries of them as text.

    Raises:
        ImportError: If pyarrow is not installed.
        ValueError: If the file is damaged or empty, or a column holds anything else, such as times or lists.
    """
    try:
        from pyarrow import ArrowException, parquet, types
    except ImportError as error:
        raise ImportError(f"{file} is a Parquet file, which pyarrow reads: pip install pyarrow.") from error
    try:
        stored = parquet.read_table(file)
    except (ArrowException, OSError) as error:
        raise ValueError(f"{file} is not a whole Parquet file ({error}). Write or fetch it again.") from error
    if not stored.num_rows or not stored.num_columns:
        raise ValueError(f"{file} has no rows.")
    columns: list[Column] = []
    for index, (name, column) in enumerate(zip(stored.column_names, stored.columns, strict=True)):
        kind = column.type.value_type if types.is_dictionary(column.type) else column.type
        values = column.to_pylist()
        if types.is_string(kind) or types.is_large_string(kind):
            columns.append(["" if value is None else value.strip() for value in values])
        elif types.is_integer(kind) or types.is_floating(kind) or types.is_boolean(kind):
            columns.append(np.array([np.nan if value is None else value for value in values], dtype=np.float64))
        else:
            raise ValueError(
                f"column {index} ({name!r}) of {file} holds {kind}, neither numbers nor words. Convert it, or write "
                "the file without it."
            )
    return Table(file, columns, list(stored.column_names))


def read_arrays(file: Path) -> Table:
    """Arrays ``x``, ``[n, d]``, and ``y``, ``[n]``, of an ``.npz`` file: d columns of numbers and the class, the last.

    Raises:
        ValueError: If the file is damaged, holds objects, or no such arrays.
    """
    try:
        with np.load(file, allow_pickle=False) as stored:
            arrays = {name: stored[name] for name in stored.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise ValueError(f"{file} is not a whole .npz file of plain arrays ({error}). Save it again.") from error
    x, y = arrays.get("x"), arrays.get("y")
    fits = x is not None and y is not None and x.ndim == 2 and y.ndim == 1 and len(x) == len(y) > 0
    if not fits or x is None or y is None or x.dtype.kind not in "fiub" or y.dtype.kind not in "fiubU":
        found = ", ".join(f"{name} {list(array.shape)} of {array.dtype}" for name, array in arrays.items())
        raise ValueError(
            f"{file} must hold numbers x [n, d] and classes y [n], got {found or 'nothing'}. Load other arrays by a "
            "function of your own: dataset=module:function."
        )
    labels = [str(label).strip() for label in y] if y.dtype.kind == "U" else y.astype(np.float64)
    return Table(file, [*x.astype(np.float64).T, labels], None)
