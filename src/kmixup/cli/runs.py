"""Commands about run files."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from kmixup.cli.options import Help, Out


def runs_convert(
    files: Annotated[list[Path], Help("Run files of an older kmixup, or folders of them.")],
    *,
    out: Out = Path("runs"),
) -> None:
    """Make run files of an older kmixup ones of this: all settings written out, the old files kept.

    They do not say what their data were, so they do not count as finished for data of your own.
    """
    from rich.console import Console

    from kmixup.experiments.runs import RunStore, convert_file

    store = RunStore(out)
    for given in files:
        for path in sorted(given.glob("*.json")) if given.is_dir() else [given]:
            Console().print(f"{path} -> {convert_file(path, store)}", soft_wrap=True)
