"""What is installed, and which core serves: the first lines of a report of a fault."""

import platform
from importlib.metadata import PackageNotFoundError, version

import numpy as np
import scipy
import torch

from kmixup.native import available, description


def config() -> dict[str, str]:
    """Versions of kmixup and of what it stands on, and the core that serves, or why none does."""
    try:
        own = version("kmixup")
    except PackageNotFoundError:
        own = "not installed, run from its source"
    return {
        "kmixup": own,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "scipy": scipy.__version__,
        "platform": platform.platform(),
        "core": f"compiled, {description()}" if available() else f"none, {description()}",
    }


def show_config() -> None:
    """Print the versions of what is installed, and which core serves or why none does.

    >>> show_config()  # doctest: +SKIP
    core      compiled, avx2
    """
    for name, value in config().items():
        print(f"{name:9} {value}")
