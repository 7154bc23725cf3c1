"""`kmixup demo`: what k-mixup does, on real digits and in a picture, in about a minute."""

from __future__ import annotations

import math
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from statistics import mean, stdev

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from kmixup.experiments.datasets import DATASETS
from kmixup.experiments.pictures.demo import method_name, picture
from kmixup.experiments.recipe import Cell, Recipe, read_recipe
from kmixup.experiments.reproduce import run_trials
from kmixup.experiments.run import Run
from kmixup.experiments.runs import RunStore
from kmixup.style import style


def demo(out: Path, *, jobs: int, trials: int | None = None, epochs: int | None = None, console: Console) -> bool:
    """Train the same network without mixup, with mixup and with k-mixup; print a table, draw a picture.

    Args:
        out: Folder for the run files, ``demo.png`` and ``demo.svg``. Finished trials in it are not run again.
        jobs: Processes.
        trials: Seeds per method; default: the recipe's.
        epochs: Epochs; default: the recipe's.
        console: Where to print.

    Returns:
        Whether every trial succeeded.
    """
    with resources.as_file(resources.files("kmixup.experiments") / "demo.toml") as path:
        recipe = read_recipe(str(path)).override(trials=trials, epochs=epochs)
    # Decoded here once, so that the processes find the digits in the cache.
    settings = recipe.cells[0].settings
    DATASETS[settings.dataset](None, 0)
    store = RunStore(out)
    result = run_trials(recipe, store, jobs=jobs, console=console)
    runs = [_runs(cell, store) for cell in recipe.cells]
    console.print(_table(recipe, runs))
    console.print(
        f"{recipe.note} alpha = {recipe.cells[-1].settings.alpha:g} for both mixups; {recipe.cells[0].trials} seeds, "
        "shared by the methods; +- is the standard error. FGSM: error under that attack. Distance: root mean "
        "squared, of a digit and its partner. Same class: share of such pairs. Matching: its part of the seconds."
    )
    with style():
        figure = picture(recipe, runs)
        for ending in ("png", "svg"):
            figure.savefig(out / f"demo.{ending}")
    console.print(f"The picture: {out / 'demo.png'}")
    return not result.failed


def _table(recipe: Recipe, runs: Sequence[Sequence[Run]]) -> Table:
    (epsilon,) = recipe.cells[0].settings.attack_epsilons
    table = Table(title=recipe.title, title_justify="left", box=SIMPLE_HEAD, padding=0)
    table.add_column("method", no_wrap=True)
    for name in ("test error", f"FGSM {epsilon:g}/255", "distance", "same class", "seconds", "matching"):
        table.add_column(name, justify="right", no_wrap=True)
    for cell, of_cell in zip(recipe.cells, runs, strict=True):
        matches = [run.match for run in of_cell if run.match is not None]
        table.add_row(
            method_name(cell),
            _estimate([100 * run.final_error for run in of_cell if run.final_error is not None]),
            _estimate([100 * error for run in of_cell for error in run.attack_error.values()]),
            f"{math.sqrt(mean(match.matched_sq_distance for match in matches)):.2f}" if matches else "",
            f"{100 * mean(match.same_class_share for match in matches):.0f} %" if matches else "",
            f"{mean(run.seconds.total for run in of_cell):.1f}" if of_cell else "",
            f"{mean(run.seconds.matching for run in of_cell):.2f}" if matches else "",
        )
    return table


def _estimate(values: Sequence[float]) -> str:
    if not values:
        return ""
    error = f" +- {stdev(values) / math.sqrt(len(values)):.2f}" if len(values) > 1 else ""
    return f"{mean(values):.2f}{error}"


def _runs(cell: Cell, store: RunStore) -> list[Run]:
    found = (store.get(cell.trial(seed)) for seed in range(cell.trials))
    return [run for run in found if run is not None]
