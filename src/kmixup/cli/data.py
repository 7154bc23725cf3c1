"""Commands about data sets: which there are, and fetching them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from kmixup.cli.options import Help


def data_list() -> None:
    """Data sets by name, with what their loaders say, and which can be fetched."""
    from rich.console import Console
    from rich.table import Table

    from kmixup.experiments.datasets import DATASETS
    from kmixup.experiments.datasets.fetch import FETCHABLE

    table = Table()
    table.add_column("name", no_wrap=True)
    table.add_column("fetch")
    table.add_column("what")
    for name, loader in DATASETS.items():
        summary = " ".join((loader.__doc__ or "").partition("\n\n")[0].split())
        table.add_row(name, "yes" if name in FETCHABLE else "", summary)
    Console().print(table)


def data_fetch(
    name: Annotated[str, Help("A data set that `kmixup data list` marks.")],
    *,
    into: Annotated[Path | None, Help("Folder; default: kmixup's cache, where the loader looks.")] = None,
) -> None:
    """Fetch a data set: with checksums, resumed if broken off. Nothing else in kmixup uses the network."""
    from rich.console import Console

    from kmixup.experiments.datasets.fetch import fetch_dataset

    Console().print(f"{name} is in {fetch_dataset(name, into)}", soft_wrap=True)
