"""Decode once: tensors of a data set, kept beside nothing but their own cache folder."""

from __future__ import annotations

import inspect
import os
import sys
import warnings
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from kmixup.experiments.datasets.source import files_source, joined_source

Tensors = dict[str, Tensor]


class Decoded(NamedTuple):
    """Tensors by name, and the hash of the files that they were made of."""

    tensors: Tensors
    source: str


def cache_dir() -> Path:
    """Folder of everything kmixup keeps between runs: ``$KMIXUP_CACHE``, or ``kmixup`` in the user's cache folder."""
    if chosen := os.environ.get("KMIXUP_CACHE"):
        return Path(chosen)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "kmixup"


def decoded(name: str, files: Sequence[Path], decode: Callable[[], Tensors], root: Path | None = None) -> Decoded:
    """Tensors that `decode` makes of `files`, read from the cache if it has them.

    The cache knows files by their bytes, so it can give neither the pixels nor the labels of a file that was edited,
    nor those of another file of that name, nor what an older `decode` made of them. A folder that cannot be written
    costs a warning, no more.

    Args:
        name: Start of the cache file's name.
        files: All that is read, labels too.
        decode: Makes the tensors; of the files and nothing else.
        root: As in `files_source`.

    Returns:
        Named tensors, and the hash of their source.

    Raises:
        ValueError: If a file changes while it is read.
    """
    source = files_source(files, root)
    key = joined_source(source, inspect.getsource(sys.modules[decode.__module__]))
    cached = cache_dir() / "decoded" / f"{name}-{key[:32]}.safetensors"
    try:
        return Decoded(load_file(cached), source)
    except (FileNotFoundError, NotADirectoryError):
        pass
    except (SafetensorError, OSError) as error:
        warnings.warn(f"the decoded copy {cached} cannot be read ({error}): decoding again.", stacklevel=2)
    tensors = decode()
    if files_source(files, root) != source:
        raise ValueError(f"the files of {name} changed while they were read ({files[0]} ...). Run again.")
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
    return Decoded(tensors, source)
