"""Decode once: tensors of a data set, kept beside nothing but their own cache folder."""

from __future__ import annotations

import hashlib
import os
import warnings
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

Tensors = dict[str, Tensor]


def cache_dir() -> Path:
    """Folder of everything kmixup keeps between runs: ``$KMIXUP_CACHE``, or ``kmixup`` in the user's cache folder."""
    if chosen := os.environ.get("KMIXUP_CACHE"):
        return Path(chosen)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "kmixup"


def decoded(name: str, files: Iterable[Path], decode: Callable[[], Tensors]) -> Tensors:
    """Tensors that `decode` makes of `files`, read from the cache if it has them.

    A file that changed (path, size or time) is decoded again. A folder that cannot be written costs a warning, no more.

    Args:
        name: Start of the cache file's name: data set and every option that changes what is decoded.
        files: What is read.
        decode: Makes the tensors.

    Returns:
        Named tensors.
    """
    stamp = hashlib.sha256()
    for file in sorted(files):
        status = file.stat()
        stamp.update(f"{file.resolve()}\0{status.st_size}\0{status.st_mtime_ns}\n".encode())
    cached = cache_dir() / "decoded" / f"{name}-{stamp.hexdigest()[:16]}.safetensors"
    try:
        return load_file(cached)
    except (FileNotFoundError, NotADirectoryError):
        pass
    except (SafetensorError, OSError) as error:
        warnings.warn(f"the decoded copy {cached} cannot be read ({error}): decoding again.", stacklevel=2)
    tensors = decode()
    partial = cached.with_suffix(f".{os.getpid()}.part")
    try:
        cached.parent.mkdir(parents=True, exist_ok=True)
        save_file({key: tensor.contiguous() for key, tensor in tensors.items()}, partial)
        partial.replace(cached)  # atomic: another process sees the whole file or none
    except OSError as error:
        with suppress(OSError):
            partial.unlink()
        warnings.warn(
            f"the decoded data cannot be kept in {cached.parent} ({error}). Set KMIXUP_CACHE to a folder that can be "
            "written, or they are decoded in every run.",
            stacklevel=2,
        )
    return tensors
