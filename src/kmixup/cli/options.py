"""How commands say what their parameters are, and the parameters that several commands share."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated


@dataclass(frozen=True)
class Help:
    """What the command line shows of a parameter, as metadata of its annotation.

    Attributes:
        text: One line.
        flag: The option's name, where it is not the parameter's.
        min: Smallest value.
        max: Largest value.
    """

    text: str
    flag: str | None = None
    min: float | None = None
    max: float | None = None


Name = Annotated[str, Help("table1, table1a, ..., or the path of a recipe (.toml).")]
DataDir = Annotated[Path | None, Help("Folder with the data files.")]
Out = Annotated[Path, Help("Folder of run files.")]
Also = Annotated[list[Path] | None, Help("JSON-lines files or folders whose runs count too; repeatable.")]
Where = Annotated[list[str] | None, Help("Only these cells, such as k=1,16; repeatable, for another setting: group=a.")]
Set = Annotated[list[str] | None, Help("Another setting for all cells, such as metric=euclidean.", flag="--set")]
Reading = Annotated[
    str | None, Help("Another reading of the paper: as-trained, as-printed, as-searched or as-released.")
]
Epochs = Annotated[int | None, Help("Another number of epochs: a reduced protocol, and marked so.", min=1)]
Device = Annotated[str, Help("Where to train: cpu, cuda, cuda:1, mps.")]
Jobs = Annotated[int | None, Help("Processes; default: one per CPU core.", min=1)]


def existing(path: Path | None, what: str) -> Path | None:
    """The path, if there is something at it: a wrong one is found before anything runs.

    Raises:
        ValueError: If there is not.
    """
    if path is not None and not path.exists():
        raise ValueError(f"{what}: there is no {path} (from {Path.cwd()}).")
    return path


def usable(device: str) -> str:
    """The device, if PyTorch has it here.

    Raises:
        ValueError: If it has not.
    """
    import torch

    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"--device {device} cannot be used here. Leave it out for the CPU. ({reason})") from None
    return device


def reader_of(source: str, data_dir: Path | None) -> str:
    """What reads the data that a command was given: ``"table"``, ``"imagefolder"``, or the name itself.

    Raises:
        ValueError: If it is no file, no folder and no name.
    """
    from kmixup.experiments.datasets import DATASETS
    from kmixup.experiments.named import is_own, unknown

    place = (data_dir or Path()) / source
    if source in DATASETS or is_own(source):
        return source
    if not place.exists():
        raise ValueError(f"there is no file or folder {place}, and {unknown('dataset', source, DATASETS)}")
    return "table" if place.is_file() else "imagefolder"
