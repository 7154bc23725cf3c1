"""What is installed, and which core serves: the first lines of every report of a fault."""

import platform
from importlib.metadata import PackageNotFoundError, version

from kmixup.native import available, description


def config() -> dict[str, str]:
    """Versions of kmixup and of what it stands on, and the core that serves, or why none does."""
    versions = {"python": platform.python_version(), "platform": platform.platform()}
    for package in ("kmixup", "torch", "numpy", "scipy"):
        try:
            versions[package] = version(package)
        except PackageNotFoundError:  # kmixup run from its sources
            versions[package] = "not installed"
    return versions | {"core": f"compiled, {description()}" if available() else f"none: {description()}"}


def show_config() -> None:
    """Print the versions of what is installed, and which core serves or why none does.

    >>> show_config()  # doctest: +SKIP
    core      compiled, avx2
    """
    for name, value in config().items():
        print(f"{name:9} {value}")
