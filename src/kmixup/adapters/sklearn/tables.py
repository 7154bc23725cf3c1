"""Tables and weights as scikit-learn's users have them: read, checked, and given back in the container that came."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Number
from typing import Any

import numpy as np
import torch
from scipy import sparse
from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder, StandardScaler
from sklearn.utils import check_random_state, validation

from kmixup.cost import Metric, cost_matrix

# scikit-learn has no annotations, and what a type checker infers for these two is wrong.
_check_sample_weight: Any = validation._check_sample_weight
validate_data: Any = validation.validate_data

FLOATS = (np.float64, np.float32)


def check_at_least(name: str, value: Any, least: int) -> None:
    """Refuse what is no integer of at least ``least``.

    Raises:
        ValueError: If it is not.
    """
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < least:
        raise ValueError(f"{name} must be an integer >= {least}, got {value!r}.")


def seeded_generator(random_state: Any) -> torch.Generator:
    """A generator of its own for scikit-learn's seed, ``RandomState`` or None."""
    return torch.Generator().manual_seed(int(check_random_state(random_state).randint(2**31 - 1)))


def dense(data: Any) -> np.ndarray:
    """Sparse matrices as arrays, arrays as they are."""
    return data.toarray() if sparse.issparse(data) else data


def row_weights(sample_weight: Any, data: Any) -> np.ndarray:
    """Weight of each row, float64, shape ``[N]``; default 1.

    Raises:
        ValueError: If a weight is negative, or all are zero.
    """
    weight = _check_sample_weight(sample_weight, data, dtype=np.float64)
    if (weight < 0).any():
        raise ValueError(f"sample_weight must be >= 0, got {int((weight < 0).sum())} negative weights.")
    if not weight.any():
        raise ValueError("sample_weight must not be zero for every row. Drop the argument to weigh all rows equally.")
    return weight


def category_columns(X: Any, listed: Sequence[Any] | str | None) -> np.ndarray:
    """Which columns hold categories: those listed, and those whose type in a frame leaves no doubt.

    Args:
        X: The table, with a shape ``[N, d]``.
        listed: Names, numbers or a mask of further columns; None or ``"auto"`` for none.

    Returns:
        A mask, bool, shape ``[d]``.

    Raises:
        ValueError: If a listed column is not there, or a column is neither numeric nor a category.
    """
    columns = X.shape[1] if len(X.shape) == 2 else 0
    names = list(X.columns) if hasattr(X, "columns") else []
    mask = np.zeros(columns, dtype=bool)
    if isinstance(listed, str) and listed != "auto":
        raise ValueError(f"categorical_features must list columns, got {listed!r}. Use [{listed!r}].")
    wanted = [] if listed is None or isinstance(listed, str) else list(listed)
    if wanted and all(isinstance(entry, (bool, np.bool_)) for entry in wanted):
        if len(wanted) != columns:
            raise ValueError(f"categorical_features is a mask of {len(wanted)} columns, and X has {columns}.")
        mask |= np.array(wanted)
    else:
        for entry in wanted:
            place = names.index(entry) if entry in names else entry
            if not isinstance(place, (int, np.integer)) or not -columns <= place < columns:
                raise ValueError(f"categorical_features names {entry!r}, which is no column of X: {names or columns}.")
            mask[place] = True
    for place, name in enumerate(names):
        mask[place] = mask[place] or _holds_categories(_column(X, place), name)
    return mask | (getattr(X, "dtype", None) == np.dtype(bool))


def _holds_categories(column: Any, name: Any) -> bool:
    """Whether the type of a frame's column says so; pandas' types have a kind, those of polars a name."""
    kind = getattr(column.dtype, "kind", None)
    if kind is None:
        named = str(column.dtype).split("(")[0]
        kind = "f" if column.dtype.is_numeric() else "b" if named == "Boolean" else "O"
        kind = kind if kind != "O" or named in ("String", "Categorical", "Enum") else named
    if kind in "iuf":
        return False
    if kind not in "bOUST":
        raise ValueError(
            f"column {name!r} is {column.dtype}, neither a number nor a category. Convert it to numbers, or list it in "
            "categorical_features."
        )
    if str(column.dtype) == "object" and any(isinstance(v, Number) and not isinstance(v, bool) for v in column):
        raise ValueError(
            f"column {name!r} is of type object and holds numbers. Convert it to numbers (astype(float), "
            "pandas.to_numeric), or list it in categorical_features."
        )
    return True


def columns_of(X: Any, mask: np.ndarray) -> Any:
    """Some columns of a table, as a table of its kind."""
    places = np.flatnonzero(mask)
    return X.iloc[:, places] if hasattr(X, "iloc") else X[:, places.tolist()]


def category_codes(X: Any, categories: np.ndarray) -> np.ndarray:
    """Codes of the columns that hold categories, float64, shape ``[N, c]``; a missing value is a category."""
    coded = np.zeros((X.shape[0], int(categories.sum())))
    for place, column in enumerate(np.flatnonzero(categories)):
        values = np.asarray(_column(X, int(column)), dtype=object)
        values = np.where([_is_missing(value) for value in values], np.nan, values)
        coded[:, place] = OrdinalEncoder(encoded_missing_value=-1).fit_transform(values[:, None])[:, 0]
    return coded


def points_to_match(
    numbers: Any, codes: np.ndarray, metric: Metric, *, standardize: bool
) -> tuple[torch.Tensor, Metric]:
    """What is matched, and by which metric.

    Args:
        numbers: Numeric columns, array or sparse matrix, shape ``[N, d]``.
        codes: Codes of categories, shape ``[N, c]``; matched one-hot.
        metric: Cost of a pair.
        standardize: Whether each number and each category gets unit variance. Sparse columns are not centred.

    Returns:
        Points ``[N, ...]`` and their metric: those of a sparse matrix are row numbers, so that only the rows of a
        block are ever dense.
    """
    if sparse.issparse(numbers):
        scaled = StandardScaler(with_mean=False).fit_transform(numbers) if standardize else numbers
        return torch.arange(numbers.shape[0], dtype=torch.float64).unsqueeze(1), _between_rows(scaled, metric)
    numbers = np.where(np.isnan(numbers).all(0), 0.0, numbers)  # a column without a value has no mean and no spread
    points = np.asarray(StandardScaler().fit_transform(numbers)) if standardize else numbers
    missing = np.isnan(points)
    if missing.any():  # a missing value says nothing about distance: it stands at the mean of its column
        means = np.where(missing, 0.0, points).sum(0) / np.maximum((~missing).sum(0), 1)
        points = np.where(missing, means, points)
    for column in codes.T:
        one_hot = OneHotEncoder(sparse_output=False).fit_transform(column[:, None])
        spread = float(np.sqrt(one_hot.var(0).sum())) if standardize else 1.0
        points = np.column_stack([points, one_hot / (spread or 1.0)])
    return torch.from_numpy(np.ascontiguousarray(points)), metric


def _between_rows(data: Any, metric: Metric) -> Metric:
    def points(rows: torch.Tensor) -> torch.Tensor:
        return torch.from_numpy(data[rows.flatten().long().numpy()].toarray()).unsqueeze(0)

    def costs(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return torch.cat([cost_matrix(points(a), points(b), metric) for a, b in zip(x, y, strict=True)])

    return costs


def _is_missing(value: Any) -> bool:
    return type(value).__name__ in ("NoneType", "NAType", "NaTType") or value != value


def _column(X: Any, place: int) -> Any:
    if hasattr(X, "iloc"):
        return X.iloc[:, place]
    return X.to_series(place) if hasattr(X, "to_series") else X[:, place]


def mixed_table(X: Any, rows: np.ndarray, numbers: Any, categories: np.ndarray) -> Any:
    """New rows in the container that came: numeric columns from ``numbers``, categories as in the given rows.

    Args:
        X: The table that came: array, sparse matrix, pandas or polars frame.
        rows: The row of ``X`` that each new row takes its categories from, shape ``[n]``.
        numbers: Numeric columns, shape ``[n, number of numeric columns]``.
        categories: Mask of the other columns, shape ``[d]``.

    Returns:
        A table of ``n`` rows with the columns of ``X``.
    """
    if not categories.any():
        return like(X, numbers)
    numeric = np.flatnonzero(~categories)
    if hasattr(X, "iloc"):
        table = X.iloc[rows].reset_index(drop=True)
        for place, values in zip(numeric, numbers.T, strict=True):
            table.isetitem(place, values)
        return table
    if hasattr(X, "to_series"):
        series = type(X.to_series(0))
        return X[rows].with_columns(series(X.columns[p], v) for p, v in zip(numeric, numbers.T, strict=True))
    table = np.asarray(X)[rows]
    table = table.astype(table.dtype if table.dtype.kind in "fO" else numbers.dtype)
    table[:, numeric] = numbers
    return table


def like(original: Any, values: Any) -> Any:
    """The values in the container that came: a pandas or polars frame or series with its names, else as they are."""
    kind, library = type(original), type(original).__module__.split(".")[0]
    if hasattr(original, "columns") and values.ndim == 2:
        names = list(original.columns)
        return kind(values, schema=names) if library == "polars" else kind(values, columns=names)
    if library in ("pandas", "polars") and hasattr(original, "dtype"):
        if library == "polars":
            return kind(original.name, values, dtype=original.dtype)
        return kind(values, name=original.name, dtype=original.dtype)
    return values


def merged(x: np.ndarray, y: np.ndarray, weight: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Distinct rows of positive weight in an order that is their own, each with the sum of its weights.

    From here on a row of weight 2 and a row that comes twice are the same, to the last bit.
    """
    rows = np.column_stack([x, y])[weight > 0] + 0.0  # -0.0 and 0.0 are one value
    rows = np.ascontiguousarray(rows)
    as_bytes = rows.view(np.dtype((np.void, rows.dtype.itemsize * rows.shape[1])))[:, 0]
    _, first, group = np.unique(as_bytes, return_index=True, return_inverse=True)
    keep = np.flatnonzero(weight > 0)[first]
    return np.ascontiguousarray(x[keep]), np.ascontiguousarray(y[keep]), np.bincount(group, weight[weight > 0])
