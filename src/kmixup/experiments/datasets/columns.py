"""Columns of a table: numbers, words, what is missing, and which column is the class.

A column is numbers or words as a whole. One that is mixed is an error that names the value, for to code its words
would turn its numbers into ranks.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Literal

import numpy as np

Column = Sequence[str] | np.ndarray
"""Cells as text, or numbers with NaN where one is missing."""

Decimal = Literal["auto", ".", ","]

NA = ("", "?", "NA", "N/A", "#N/A", "NaN", "-NaN", "null", "<NA>")
"""What counts as a missing value, in upper or lower case."""

_NA = frozenset(token.lower() for token in NA)
_NUMBER = {
    mark: re.compile(rf"[+-]?(?:\d+{point}?\d*|{point}\d+)(?:[eE][+-]?\d+)?", re.ASCII)
    for mark, point in ((".", r"\."), (",", ","))
}
_THOUSANDS = re.compile(r"[+-]?[1-9]\d{0,2}(?:,\d{3})+", re.ASCII)
_PLAIN = re.compile(r"[-+0-9.eE\n]+")
_FEW = 20  # different words (or classes) are never too many


@dataclass(frozen=True)
class Table:
    """Cells of a file, by column.

    Attributes:
        file: Where they are.
        columns: One entry a column, all of the same length.
        names: Names of the columns; None if the file has none.
        lines: Line of each row in the file; empty if it is no text.
        words: Columns that the file says hold words.
    """

    file: Path
    columns: list[Column]
    names: list[str] | None
    lines: Sequence[int] = ()
    words: frozenset[int] = frozenset()

    def title(self, column: int) -> str:
        """How messages call a column."""
        return f"column {column}" + (f" ({self.names[column]!r})" if self.names else "")

    def place(self, row: int, column: int) -> str:
        """How messages call a cell; ``row`` counts from 0, the message as people do, from 1."""
        line = f" (line {self.lines[row]})" if self.lines else ""
        return f"row {row + 1}{line}, {self.title(column)} of {self.file}"

    def index(self, option: str, column: int | str) -> int:
        """The column that an option means, by its name or its number: from 0, or from the end, -1 the last.

        Raises:
            ValueError: If there is none, or the name stands above several.
        """
        width = len(self.columns)
        names = self.names or []
        if isinstance(column, str) and names.count(column) != 1 and re.fullmatch(r"-?\d+", column):
            column = int(column)
        if isinstance(column, int):
            if -width <= column < width:
                return column % width
            what = f"0 ... {width - 1}, or -1 for the last"
        elif names.count(column) == 1:
            return names.index(column)
        elif column in names:
            what = f"a number, for {names.count(column)} columns have this name"
        elif self.names is None:
            what = f"0 ... {width - 1}, for the file has no header"
        else:
            near = get_close_matches(column, names, n=1)
            shown = ", ".join(names[:20]) + (", ..." if width > 20 else "")
            what = (f"{near[0]!r}, or another" if near else "one") + f" of: {shown}"
        raise ValueError(f"{option} must be {what}, got {column!r}; {self.file} has {width} columns.")


def is_missing(value: str, na: frozenset[str] = _NA) -> bool:
    """Whether a cell stands for a missing value."""
    return value.lower() in na


def missing_cells(cells: Column, na: frozenset[str], decimal: Decimal = ".") -> np.ndarray:
    """Which cells are missing, bool, ``[n]``: they read as one of ``na``, or are its number, however it is written."""
    tokens = [float(token) for token in na if is_number(token, ".")]
    if isinstance(cells, np.ndarray):  # -99.9 stored as float32 is -99.9 still
        return np.isnan(cells) | np.isclose(cells[:, None], tokens, rtol=1e-7, atol=0).any(1)
    return np.array([is_missing(cell, na) or (is_number(cell, decimal) and _number(cell) in tokens) for cell in cells])


def is_number(value: str, decimal: Decimal = "auto") -> bool:
    """Whether a cell is a number with this decimal mark; ``"auto"``: with either."""
    return any(_NUMBER[mark].fullmatch(value) for mark in ((".", ",") if decimal == "auto" else (decimal,)))


def decimal_mark(table: Table, columns: Sequence[int], na: frozenset[str]) -> Decimal:
    """The decimal mark of these columns of text.

    Raises:
        ValueError: If commas may as well stand between thousands, or both marks occur.
    """
    commas, points = [], []
    if any("," in value for index in columns for value in table.columns[index]):
        for index in columns:
            present = [value for value in table.columns[index] if not is_missing(value, na)]
            if all(map(is_number, present)):
                commas += [(index, value) for value in present if "," in value]
                points += [(index, value) for value in present if "." in value]
    if not commas:
        return "."
    (index, value), remedy = commas[0], "Say decimal=',' if they are decimal marks, or remove them."
    if points:
        raise ValueError(
            f"{table.title(index)} of {table.file} has {value!r} and {table.title(points[0][0])} has "
            f"{points[0][1]!r}: what are the commas? {remedy}"
        )
    if all(_THOUSANDS.fullmatch(value) for _, value in commas):
        raise ValueError(
            f"the commas in {table.title(index)} of {table.file}, such as {value!r}, may stand between thousands. "
            f"{remedy}"
        )
    return ","


def numbers(table: Table, column: int, decimal: Decimal, na: frozenset[str]) -> np.ndarray | None:
    """A column as numbers, NaN where one is missing; None if it holds words.

    Raises:
        ValueError: If it holds both, or a number too large.
    """
    cells = table.columns[column]
    if not isinstance(cells, np.ndarray) and decimal == "." and (plain := _plain(cells)) is not None:
        cells = plain
    missing = missing_cells(cells, na, decimal)
    if isinstance(cells, np.ndarray):
        values = np.where(missing, math.nan, cells)
    else:
        fits = [is_number(cell, decimal) and not gone for cell, gone in zip(cells, missing, strict=True)]
        good, bad = sum(fits), [row for row, fit in enumerate(fits) if not fit and not missing[row]]
        if bad and not good:
            return None
        if bad:
            value = cells[bad[0]]
            raise ValueError(
                f"{table.title(column)} of {table.file} has {good} numbers and {len(bad)} other "
                f"value{'s' * (len(bad) > 1)}: {value!r} in {table.place(bad[0], column)}. Correct it; or say "
                f"na=[{value!r}] if it stands for a missing value, categorical=[{column}] if the column holds words, "
                "not quantities."
            )
        values = np.array([_number(cell) if fit else math.nan for cell, fit in zip(cells, fits, strict=True)])
    if np.isinf(values).any():
        raise ValueError(f"{table.place(int(np.isinf(values).argmax()), column)} is infinite. Correct it.")
    if np.isnan(values).all():
        raise ValueError(f"{table.title(column)} of {table.file} has no values. Leave it out: drop=[{column}].")
    return values


def _plain(cells: Sequence[str]) -> np.ndarray | None:
    """Numbers of a column in which nothing else is: the usual one, and ten times as fast."""
    if not _PLAIN.fullmatch("\n".join(cells)):
        return None
    try:
        return np.array(list(map(float, cells)))
    except ValueError:
        return None


def words(table: Table, column: int, na: frozenset[str], *, said: bool) -> list[str]:
    """A column as words, ``""`` where one is missing; numbers as `class_names` writes them.

    Raises:
        ValueError: If there are so many different words that they must be names or texts; or, unless it is ``said``
            that they are words, so many with a digit that they may be quantities: 9 % would come after 10 %.
    """
    cells = class_names(table.columns[column], na)
    different = len(set(cells))
    if different > max(_FEW, len(cells) / 2):
        raise ValueError(
            f"{table.title(column)} of {table.file} has {different} different words in {len(cells)} rows, such as "
            f"{next(filter(None, cells))!r}: names, dates, texts or numbers in another format? Leave it out: "
            f"drop=[{column}]."
        )
    digits = dict.fromkeys(cell for cell in cells if re.search(r"\d", cell))
    if len(digits) > _FEW and not said:
        raise ValueError(
            f"{table.title(column)} of {table.file} has {len(digits)} different words with digits, such as "
            f"{next(iter(digits))!r}: quantities or dates in another format? Write them as numbers; or say "
            f"categorical=[{column}] if they are words."
        )
    return cells


def class_names(cells: Column, na: frozenset[str]) -> list[str]:
    """One spelling of each value: 1, 1.0 and 01 are ``"1"``; ``""`` where it is missing."""
    missing = missing_cells(cells, na)
    return [
        "" if gone else _spelling(float(cell)) if isinstance(cell, float) or is_number(cell, ".") else cell
        for cell, gone in zip(cells.tolist() if isinstance(cells, np.ndarray) else cells, missing, strict=True)
    ]


def _number(cell: str) -> float:
    return float(cell.replace(",", "."))


def _spelling(value: float) -> str:
    return str(int(value)) if value.is_integer() else repr(value)


def classes(table: Table, column: int, names: Sequence[str]) -> list[str]:
    """The classes in order: as numbers if all are, else as words.

    Raises:
        ValueError: If there are fewer than two, or so many that they must be quantities or names.
    """
    found = set(names)
    if len(found) < 2:
        raise ValueError(f"{table.title(column)} of {table.file} must hold at least two classes, got {sorted(found)}.")
    if len(found) > max(_FEW, len(names) / 2):
        raise ValueError(
            f"{table.title(column)} of {table.file} has {len(found)} different values in {len(names)} rows, too many "
            "to be classes. Which column is the class? Say class_column=..."
        )
    return sorted(found, key=float) if all(is_number(name, ".") for name in found) else sorted(found)


def counts_rows(values: np.ndarray) -> bool:
    """Whether numbers, ``[n]``, are 0, 1, 2 ... or 1, 2, 3 ...: an index, whatever the column's name."""
    return values[0] in (0, 1) and np.array_equal(values, values[0] + np.arange(len(values)))
