"""The library as it was at another commit, importable beside this one."""

from __future__ import annotations

import re
import subprocess
import sys
import tarfile
import tempfile
from importlib import import_module
from io import BytesIO
from pathlib import Path
from types import ModuleType

COMMIT = "941bd26"  # before the core was one, and compiled
ROOT = Path(__file__).parents[1]


def before(commit: str = COMMIT) -> ModuleType | None:
    """The package of a commit under the name ``kmixup_before``; None where the history is not at hand."""
    done = subprocess.run(["git", "archive", commit, "src/kmixup"], cwd=ROOT, capture_output=True)
    if done.returncode:
        return None
    folder = Path(tempfile.mkdtemp(prefix="kmixup-before-"))
    with tarfile.open(fileobj=BytesIO(done.stdout)) as archive:
        archive.extractall(folder, filter="data")
    package = (folder / "src" / "kmixup").rename(folder / "kmixup_before")
    for file in package.rglob("*.py"):
        file.write_text(re.sub(r"\bkmixup\b", "kmixup_before", file.read_text()))
    sys.path.insert(0, str(folder))
    return import_module("kmixup_before")
