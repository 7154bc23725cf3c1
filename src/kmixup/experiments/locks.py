"""Locks that die with their process: several sweeps on one folder share its trials."""

from __future__ import annotations

import errno
import os
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

__all__ = ["hold", "is_held"]

_NO_LOCKS = {errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOLCK}


@contextmanager
def hold(path: Path) -> Iterator[bool]:
    """Hold a lock file; False if another process holds it. A killed process lets go by dying.

    On a system or a file system without locks everybody holds: two sweeps may then do a trial twice, to the
    same numbers.

    Args:
        path: The lock file; it and its folder are made, and the file is removed afterwards.
    """
    if fcntl is None:
        yield True
        return
    with ExitStack() as files:
        mine = False
        while not mine:
            path.parent.mkdir(parents=True, exist_ok=True)
            file = files.enter_context(path.open("w"))
            if not _try_lock(file):
                break
            # Another process may have let go of the file, and so removed it, between our opening and locking it.
            mine = _is_still(path, file)
        try:
            yield mine
        finally:
            if mine:
                path.unlink(missing_ok=True)  # before it is closed: afterwards it may be another's


def is_held(path: Path) -> bool:
    """Whether a living process holds this lock file."""
    try:
        with path.open("r+") as file:
            return not _try_lock(file)
    except FileNotFoundError:
        return False


def _is_still(path: Path, file: IO[str]) -> bool:
    """Whether the path leads to this open file."""
    try:
        return os.path.samestat(path.stat(), os.fstat(file.fileno()))
    except FileNotFoundError:
        return False


def _try_lock(file: IO[str]) -> bool:
    """Lock an open file until it is closed, also by death; False if another process has it."""
    if fcntl is None:
        return True
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
        warnings.warn(
            f"{Path(file.name).parent} has no locks ({error.strerror}): two sweeps there may do a trial twice.",
            stacklevel=2,
        )
    return True
