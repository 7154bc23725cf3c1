"""What to try first: the demo, and the playground."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from kmixup.cli.options import Help, Jobs


def demo(
    *,
    out: Annotated[Path, Help("Folder for the run files and the picture.")] = Path("runs/demo"),
    trials: Annotated[int | None, Help("Seeds per method.", min=1)] = None,
    epochs: Annotated[int | None, Help("Epochs.", min=1)] = None,
    jobs: Jobs = None,
) -> bool:
    """No mixup, mixup and k-mixup on 5,000 real digits: a table and a picture."""
    from joblib import cpu_count
    from rich.console import Console

    from kmixup.experiments import demo as command

    return command.demo(out, jobs=jobs or cpu_count(), trials=trials, epochs=epochs, console=Console())


def playground(*, to: Annotated[Path, Help("The page to write.")] = Path("playground.html")) -> None:
    """Write the playground: a page that shows in a browser what k and alpha do to points of the plane."""
    from kmixup.experiments.files import write_whole
    from kmixup.experiments.playground.page import playground as make

    write_whole(to, make())
    print(f"wrote {to}. Open it in a browser.")
