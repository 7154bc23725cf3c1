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
    from kmixup.experiments.runs import RunStore, convert_file

    store = RunStore(out)
    left: list[str] = []
    converted = 0
    for given in files:
        for path in sorted(given.glob("*.json")) if given.is_dir() else [given]:
            try:
                print(f"{path} -> {convert_file(path, store)}")
                converted += 1
            except (OSError, ValueError) as error:
                left.append(str(error))
    for reason in left:
        print(f"left as it is: {reason}")
    print(f"{converted} runs converted into {out}. What they were made from is no longer read: move it away.")
