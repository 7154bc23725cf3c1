"""Files: written whole or not at all, in one place; and settings as people type them."""

from __future__ import annotations

import json
import os
import time
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

__all__ = ["parse_settings", "read_whole", "type_settings", "write_whole"]

# Windows refuses to replace a file that another process (a virus scanner, a reader) has open just now.
_RENAME_PAUSES = (0.01, 0.05, 0.2, 0.5, 1.0)


def read_whole(path: Path) -> str:
    """The text of a file.

    Raises:
        OSError: If it cannot be read.
        ValueError: If it is not UTF-8. The message names the file.
    """
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is no text in UTF-8 ({error.reason} at byte {error.start}).") from None


def write_whole(path: Path, content: str | bytes) -> None:
    """Write a file, and its folder if need be, so that no reader ever sees a part of it, also after a crash.

    Args:
        path: The file.
        content: Its text, written as UTF-8, or its bytes.

    Raises:
        OSError: If the folder cannot be written or the disk is full. The file is as it was, and nothing is left behind.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # The process id: two sweeps may write the same run at once.
    draft = path.with_name(f".{path.name}.{os.getpid()}.draft")
    try:
        with draft.open("wb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
        _replace(draft, path)
    except BaseException as error:
        draft.unlink(missing_ok=True)
        if isinstance(error, OSError):  # the file that was asked for, not its draft
            error.filename = str(path)
            del error.filename2  # None would be shown as a second file
        raise


def _replace(draft: Path, path: Path) -> None:
    for pause in _RENAME_PAUSES:
        try:
            os.replace(draft, path)
            return
        except PermissionError:
            time.sleep(pause)
    os.replace(draft, path)


def parse_settings(texts: Iterable[str]) -> dict[str, Any]:
    """Settings as typed on a command line: ``k=1,16``, ``metric=euclidean``, ``model_options.hidden=[120,84]``.

    Values are read as TOML (``True`` and ``False`` too), or else as words; commas make a list.

    Raises:
        ValueError: If there is no ``=``, a setting is given twice, or it has a value and options.
    """
    settings: dict[str, Any] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise ValueError(f"a setting is name=value, got {text!r}.")
        *outer, last = name.strip().split(".")
        place = settings
        for key in outer:
            place = place.setdefault(key, {})
            if not isinstance(place, dict):
                raise ValueError(f"{text!r} is an option of {key}, which has the value {place!r}. Say one of the two.")
        if last in place:
            raise ValueError(f"{name.strip()} is given twice, got {text!r} last. Give it once; commas make a list.")
        place[last] = _parse_value(value.strip())
    return settings


def _parse_value(text: str) -> Any:
    if text in ("True", "False"):  # as Python and sweep agents write them
        return text == "True"
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return [_parse_value(part) for part in text.split(",")] if "," in text else text


def type_settings(settings: Mapping[str, Any]) -> list[str]:
    """The inverse of `parse_settings`: ``name=value`` for each setting, ``name.key=value`` for each option."""
    typed = []
    for name, value in settings.items():
        if isinstance(value, Mapping):
            typed += [f"{name}.{text}" for text in type_settings(value)]
        else:
            typed.append(f"{name}={_type_value(value)}")
    return typed


def _type_value(value: Any) -> str:
    if isinstance(value, list | tuple):
        return f"[{', '.join(json.dumps(each) if isinstance(each, str) else _type_value(each) for each in value)}]"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        short = f"{value:.15g}"
        return short if float(short) == value else repr(value)
    return json.dumps(value) if isinstance(value, str) and _parse_value(value) != value else str(value)
