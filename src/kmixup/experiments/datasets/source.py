"""Where data come from: a hash that is the same exactly if the files, or the generator, are the same."""

from __future__ import annotations

import gzip
import hashlib
import json
import zlib
from collections.abc import Iterable
from pathlib import Path

GZIP = b"\x1f\x8b"
"""The first bytes of a gzipped file."""


def contents(file: Path) -> bytes:
    """The bytes of a file, unpacked if they are gzipped (whatever the file is called).

    Raises:
        ValueError: If the file is a damaged gzip.
    """
    packed = file.read_bytes()
    if not packed.startswith(GZIP):
        return packed
    try:
        return gzip.decompress(packed)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise ValueError(f"{file} is a damaged gzip file ({error}). Fetch it, or pack it, again.") from error


def files_source(files: Iterable[Path], root: Path | None = None) -> str:
    """Hash of the bytes of files (unpacked, see `contents`), whatever their dates are and wherever they lie.

    Args:
        files: What is read, in any order.
        root: Their folder: their names below it count too, for they may name classes. None: bytes alone.

    Returns:
        64 hex digits.
    """
    named = [("" if root is None else file.relative_to(root).as_posix().removesuffix(".gz"), file) for file in files]
    return _hash(sorted(f"{name}\0{hashlib.sha256(contents(file)).hexdigest()}" for name, file in named))


def generated_source(generator: str, version: int, **options: object) -> str:
    """Hash of what generated data come from: never of the numbers, whose last digits are the machine's.

    Args:
        generator: Its name.
        version: Raised whenever the generator draws other data from the same options and seed.
        options: All its options.
    """
    return _hash([json.dumps([generator, version, options], sort_keys=True)])


def joined_source(*parts: str) -> str:
    """One hash of several."""
    return _hash(parts)


def _hash(lines: Iterable[str]) -> str:
    digest = hashlib.sha256()
    for line in lines:
        digest.update(f"{line}\n".encode())
    return digest.hexdigest()
