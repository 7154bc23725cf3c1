"""In training."""

from pathlib import Path

DATA_DIR: Path | None = None


def epochs(counts, budget):
    return iter(())
