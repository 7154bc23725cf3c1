"""Cells of a table in words: their rows, what they differ in, how they are trained."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from typing import Any

from kmixup.experiments.files import type_settings
from kmixup.experiments.readings import READINGS, readings_of
from kmixup.experiments.recipe import Cell, Recipe
from kmixup.experiments.trial import Trial

# What a row's name or its column says, and what no cell is about.
_PLACED = ("method", "k", "alpha", "seed")


def varied_settings(trials: Sequence[Trial]) -> tuple[str, ...]:
    """Names of the settings in which these differ, but for method, k, alpha and the seed; options as ``options.name``.

    Settings count as far as they have an effect: no mixing has no metric.
    """
    found = [flat_settings(trial) for trial in trials]
    names = dict.fromkeys(name for settings in found for name in settings if name not in _PLACED)

    def values(name: str) -> set[str]:
        # An option that is not given is the loader's default; a setting without effect has no value to differ in.
        of = [settings for settings in found if name in settings or "." in name]
        return {str(settings.get(name)) for settings in of}

    return tuple(name for name in names if len(values(name)) > 1)


def flat_settings(trial: Trial) -> dict[str, Any]:
    """The settings that matter to a trial, by name; options one by one."""
    flat: dict[str, Any] = {}
    for name, value in trial.effective().items():
        flat |= {f"{name}.{key}": each for key, each in value.items()} if isinstance(value, dict) else {name: value}
    return flat


def row_name(settings: Trial) -> str:
    """A method and its k as the rows of the tables name them."""
    names = {"erm": "ERM", "mixup": "k = 1", "k-mixup": f"k = {settings.k}"}
    return names.get(settings.method, settings.method + (f", k = {settings.k}" if settings.mixes else ""))


def cell_name(cell: Cell, varied: Sequence[str] = ()) -> str:
    """A cell in words: its row, its alpha, and the settings in which it differs from those beside it."""
    return cell_row(cell, varied) + (f", alpha = {cell.settings.alpha:g}" if cell.settings.alpha else "")


def cell_row(cell: Cell, varied: Sequence[str]) -> str:
    """The row of a cell: method, k, and the settings in which it differs from those beside it."""
    settings = flat_settings(cell.settings)
    return ", ".join([row_name(cell.settings), *(f"{name} = {settings[name]}" for name in varied if name in settings)])


# What a reader asks first; the run files have the rest.
_PROTOCOL = (
    *("dataset", "dataset_options", "train_size", "model", "model_options", "epochs", "batch_size", "lr"),
    *("metric", "pairing", "lam_per"),
)


def protocol(cells: Sequence[Cell], varied: Sequence[str]) -> str:
    """The settings that these share, as far as a reader asks for them, and how alpha follows from k."""
    trials = [cell.settings for cell in cells]
    shared = {name: value for trial in trials for name, value in flat_settings(trial).items() if name not in varied}
    asked = [name for name in shared if name.partition(".")[0] in _PROTOCOL and shared[name] is not None]
    sentence = "Protocol: " + ", ".join(f"{name} = {shared[name]}" for name in asked) + "."
    readings = dict.fromkeys(_reading(cell) for cell in cells if cell.settings.calibrated)
    return sentence + "".join(f" Reading: {reading}." for reading in readings)


def _reading(cell: Cell) -> str:
    own = "" if cell.reading in readings_of(cell.settings) else ", but for settings of its own"
    return f"{cell.reading} ({READINGS[cell.reading].title}{own})"


def commands(recipe: Recipe) -> list[str]:
    """The command that runs the trials of each cell, as a shell takes it: as few settings as pick the cell."""
    found = []
    everything = choices(recipe.cells)
    for mine in everything:
        chosen: dict[str, Any] = {}
        left = everything
        for name, value in mine.items():
            matching = [of for of in left if of[name] == value]
            if len(matching) < len(left):
                chosen[name], left = value, matching
        where = [word for text in type_settings(chosen) for word in ("--where", text)]
        found.append(shlex.join(["kmixup", "reproduce", *recipe.asked, *where]))
    return found


def choices(cells: Sequence[Cell]) -> list[dict[str, Any]]:
    """What ``--where`` can choose by, of each of these cells: settings in which they differ, in a reader's order."""
    found: list[dict[str, Any]] = [{} for _ in cells]
    for name in dict.fromkeys(("group", "k", "alpha", *Trial.model_fields)):
        values = [cell.value(name) for cell in cells]
        # None has no text, and a list would be alternatives.
        typed = not any(value is None or isinstance(value, list | tuple) for value in values)
        if typed and any(value != values[0] for value in values):
            for settings, value in zip(found, values, strict=True):
                settings[name] = value
    return found
