"""Pictures by name: each computes what it shows, draws it in the one style, and returns the files it wrote."""

from collections.abc import Callable
from pathlib import Path

from kmixup.experiments.pictures.theory import theory_pictures
from kmixup.experiments.pictures.toys import figure1, figure2, figure3

PICTURES: dict[str, Callable[..., list[Path]]] = {
    "figure1": figure1,
    "figure2": figure2,
    "figure3": figure3,
    "theory": theory_pictures,
}

# Pictures that need a table's runs first, and what makes them.
FROM_RUNS = {
    "figure4": "Train them with `kmixup reproduce table9 --where k=1,32 --where alpha=1,10`, then draw it with "
    "`kmixup curves table9 --where k=1,32 --where alpha=1,10 --to figure4`.",
}
