"""Tables as text: which encoding, delimiter and decimal mark, and whether the first line is a header.

What a person would see at once is found; what a person would have to ask is an error that says what to answer.
"""

from __future__ import annotations

import codecs
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from csv import Error, reader
from io import StringIO
from itertools import islice
from pathlib import Path
from typing import Literal

from kmixup.experiments.datasets.columns import Column, Table, is_missing, is_number
from kmixup.experiments.datasets.source import contents

Header = bool | Literal["auto"]

_DELIMITERS = "\t;|, "  # the earlier, where several split the lines alike
_SNIFFED = 200  # lines
_MARKS = [  # a longer mark first: UTF-32's begins like UTF-16's
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
]
_QUOTED = re.compile(  # a value of ARFF
    r"""(^|,)[ \t]*(?:'((?:[^'\\\n]|\\.)*)'|"((?:[^"\\\n]|\\.)*)")[ \t]*(?=,|\r?$)""", re.MULTILINE
)
_NO_TEXT = {b"PK\x03\x04": "a ZIP archive or an Excel workbook", b"BZh": "a bzip2 file", b"\xfd7zXZ": "an xz file"}


def read_text(file: Path, *, delimiter: str, header: Header, encoding: str) -> Table:
    """The cells of a table in CSV's or UCI's format, or ARFF.

    Args:
        file: Text, maybe gzipped.
        delimiter: Between values; ``" "`` for any white space, ``"auto"`` for the one that splits all lines alike.
        header: Whether the first line names the columns; ``"auto"``: if it must.
        encoding: Python's name of it; ``"auto"``: what the byte order mark says, else UTF-8.

    Raises:
        ValueError: If the file is no such text, its lines differ in length, or the header cannot be told from a row.
    """
    text = _decoded(file, contents(file), encoding)
    skipped, names, words = 0, None, frozenset[int]()
    if file.name.lower().removesuffix(".gz").endswith(".arff"):
        skipped, names, words, text = _arff(file, text)
        header, delimiter = False, ","
    if delimiter == "auto":
        delimiter = _delimiter(file, text)
    lines, rows = _rows(file, text, delimiter, skipped)
    if not rows:
        raise ValueError(f"{file} has no rows.")
    rows = _without_trailing(rows)
    width = Counter(map(len, rows)).most_common(1)[0][0]
    for line, row in zip(lines, rows, strict=True):
        if len(row) != width:
            raise ValueError(
                f"every line must have as many values as most, {width}; line {line} of {file} has {len(row)}. "
                "Correct it"
                + (" (a comment, or a header that lacks a name?)" if row is rows[0] else "")
                + f"; or is {delimiter!r} not the delimiter?"
            )
    if names is not None and len(names) != width:
        raise ValueError(f"{file} has {len(names)} lines @attribute and {width} values a line. Correct it.")
    columns = list(zip(*rows, strict=True))
    if _has_header(file, columns) if header == "auto" else header:
        names, lines = [name.lstrip("# ") for name in rows[0]], lines[1:]
        columns = [column[1:] for column in columns]
        if not lines:
            raise ValueError(f"{file} has a header and no rows.")
    return Table(file, list[Column](columns), names, lines, words)


def _decoded(file: Path, content: bytes, encoding: str) -> str:
    for mark, what in _NO_TEXT.items():
        if content.startswith(mark):
            raise ValueError(f"{file} is {what}, not a table as text. Unpack it, or save it as CSV.")
    if content[:200].lstrip().lower().startswith((b"<!doctype", b"<html")):
        raise ValueError(f"{file} is a web page, not a table. Fetch the file itself.")
    if encoding == "auto":
        encoding = next((name for mark, name in _MARKS if content.startswith(mark)), "utf-8")
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ValueError(
            f"{file} is not {encoding}: line {line} has the byte 0x{content[error.start]:02x}. Save it as UTF-8, or "
            "say encoding=latin-1 (cp1252 on Windows), or whichever it is."
        ) from error
    except LookupError as error:
        raise ValueError(
            f"encoding must be one that Python knows, such as latin-1 or utf-16, got {encoding!r}."
        ) from error
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        raise ValueError(f"{file} has a NUL byte in line {line}: it is no text, or is UTF-16 (encoding=utf-16-le).")
    return text.removeprefix("\ufeff")


def _arff(file: Path, text: str) -> tuple[int, list[str], frozenset[int], str]:
    """Lines before the data, the attributes' names, which of them are nominal with a word, and the data as CSV."""
    mark = re.search(r"^[ \t]*@data\b.*", text, re.IGNORECASE | re.MULTILINE)
    if mark is None:
        raise ValueError(f"{file} has no line @data, as an ARFF file must.")
    head, data = text[: mark.start()], text[mark.end() :]
    if data.lstrip().startswith("{"):
        raise ValueError(f"{file} is a sparse ARFF file, which is not read. Save it as CSV.")
    attribute = r"^[ \t]*@attribute\s+('[^']*'|\"[^\"]*\"|[^\s{]+)[ \t]*(\{.*\})?"
    attributes = re.findall(attribute, head, re.IGNORECASE | re.MULTILINE)
    listed = [[value.strip(" \t'\"") for value in nominal[1:-1].split(",")] for _, nominal in attributes]
    words = frozenset(
        index for index, values in enumerate(listed) if not all(is_number(v, ".") or is_missing(v) for v in values)
    )
    without_comments = re.sub(r"^[ \t]*%.*", "", data, flags=re.MULTILINE)
    return head.count("\n"), [name.strip("'\"") for name, _ in attributes], words, _requoted(without_comments)


def _requoted(text: str) -> str:
    """Values that ARFF has in quotes of either kind, with backslashes inside, as CSV has them."""

    def as_csv(value: re.Match[str]) -> str:
        inside = re.sub(r"\\(.)", r"\1", value[2] if value[3] is None else value[3])
        return value[1] + '"' + inside.replace('"', '""') + '"'

    return _QUOTED.sub(as_csv, text)


def _delimiter(file: Path, text: str) -> str:
    """The delimiter that splits most lines into the same number of values, more than one; of several, into most."""
    if not text.strip():
        raise ValueError(f"{file} has no rows.")
    best, most, quoting = "", (0, 0), ""
    for delimiter in _DELIMITERS:
        try:
            widths = Counter(len(row) for row in islice(_parsed(text, delimiter), _SNIFFED) if row)
        except Error:
            quoting = " Is there a quotation mark too many?"
            continue
        agreeing = max(((count, width) for width, count in widths.items() if width > 1), default=(0, 0))
        if agreeing > most and not (best and delimiter == " "):  # white space only where nothing else is
            best, most = delimiter, agreeing
    if not best:
        raise ValueError(f"{file} has one value a line: no known delimiter splits it. Say delimiter=...{quoting}")
    return best


def _parsed(text: str, delimiter: str) -> Iterator[list[str]]:
    lines = StringIO(text, newline="")  # line ends of any kind, and nothing else that Unicode calls a line
    if delimiter == " ":
        return iter(reader((" ".join(line.split()) for line in lines), delimiter=" ", strict=True))
    return iter(reader(lines, delimiter=delimiter, skipinitialspace=True, strict=True))


def _rows(file: Path, text: str, delimiter: str, skipped: int) -> tuple[list[int], list[list[str]]]:
    """Rows that are not empty, with the number of the line that each starts on."""
    if len(delimiter) != 1:
        raise ValueError(f"delimiter must be one character, or auto, got {delimiter!r}.")
    lines, rows = [], []
    parsed, line = _parsed(text, delimiter), skipped
    try:
        for row in parsed:
            values = [value.strip() for value in row]
            if any(values):
                lines.append(line + 1)
                rows.append(values)
            line = skipped + parsed.line_num  # pyright: ignore[reportAttributeAccessIssue]
    except Error as error:
        raise ValueError(
            f"{file} cannot be split into values from line {line + 1} on ({error}). Is there a quotation mark too many?"
        ) from error
    return lines, rows


def _without_trailing(rows: list[list[str]]) -> list[list[str]]:
    """Rows without the empty value that a delimiter at the end of every line makes."""
    width = Counter(map(len, rows)).most_common(1)[0][0]
    body = rows[1:] or rows
    if any(len(row) != width or row[-1] for row in body) or (len(rows[0]) == width and rows[0][-1]):
        return rows
    return [row[:-1] if len(row) == width else row for row in rows]


def _has_header(file: Path, columns: Sequence[Sequence[str]]) -> bool:
    """Whether the first line can only be a header: words above numbers, or words that never come again.

    Raises:
        ValueError: If there is evidence for both.
    """
    above, against, unlike = [], [], []
    for index, (first, *rest) in enumerate(columns):
        present = [value for value in rest[:_SNIFFED] if not is_missing(value)]
        numeric = 2 * sum(map(is_number, present)) > len(present)
        if is_missing(first) or not present:
            continue
        if is_number(first) or first in rest:
            against.append(index)
        elif numeric:
            above.append(index)
        else:
            unlike.append(index)
    if above and against:
        index, other = above[0], against[0]
        raise ValueError(
            f"the first line of {file} is neither a header nor a row: {columns[index][0]!r} stands above numbers in "
            f"column {index}, and {columns[other][0]!r} is a value like those below it in column {other}. Correct "
            "it, or say header=true or header=false."
        )
    return not against and bool(above or unlike)
