"""What there is: recipes, data sets, models, methods, and the settings of a trial with their defaults."""

from __future__ import annotations

import re
import sys
import textwrap
from typing import Annotated

from kmixup.cli.options import Help

_WHAT = ("recipes", "readings", "datasets", "models", "methods", "settings")


def list_names(
    what: Annotated[str | None, Help("recipes, readings, datasets, models, methods or settings; default: all.")] = None,
) -> None:
    """What there is: recipes, readings of the paper, data sets, models, methods, and settings with their defaults."""
    from rich.console import Console
    from rich.markup import escape

    from kmixup.experiments.trial import unknown

    if what is not None and what not in _WHAT:
        raise ValueError(unknown("list", what, _WHAT))
    console = Console()
    width = console.width if console.is_terminal else sys.maxsize  # elsewhere a line each: for grep
    for heading, entries in _lists(what).items():
        console.print(f"[bold]{heading}[/]")
        for name, about in entries.items():
            text = textwrap.fill(about, width, initial_indent=f"  {name}  ", subsequent_indent=" " * 6)
            console.print(
                f"  [bold cyan]{escape(name)}[/]{escape(text[2 + len(name) :])}", highlight=False, soft_wrap=True
            )


def _lists(what: str | None) -> dict[str, dict[str, str]]:
    from kmixup.experiments.datasets import DATASETS
    from kmixup.experiments.methods import METHODS
    from kmixup.experiments.models import MODELS
    from kmixup.experiments.readings import READINGS
    from kmixup.experiments.recipe import read_recipe, recipe_names
    from kmixup.experiments.trial import Trial

    makers = {
        "recipes": lambda: {name: read_recipe(name).title for name in recipe_names()},
        "readings": lambda: {name: f"{reading.title} ({reading.source})" for name, reading in READINGS.items()},
        "datasets": lambda: {name: _summary(loader) for name, loader in DATASETS.items()},
        "models": lambda: {name: _summary(builder) for name, builder in MODELS.items()},
        "methods": lambda: {name: _summary(method) for name, method in METHODS.items()},
        "settings": lambda: {
            name: f"{'(needed)' if field.is_required() else f'= {field.get_default()!r}'}  {_attribute(Trial, name)}"
            for name, field in Trial.model_fields.items()
        },
    }
    return {name: make() for name, make in makers.items() if what in (None, name)}


def _summary(of: object) -> str:
    return _plain((of.__doc__ or "").partition("\n\n")[0])


def _plain(text: str) -> str:
    """A docstring's text without its marks."""
    return " ".join(re.sub(r":math:|`", "", text).split())


def _attribute(of: object, name: str) -> str:
    """What a docstring's ``Attributes:`` say of one of them."""
    found = re.search(rf"^\s+{name}: (.*?)(?=\n\s+\w+: |\Z)", of.__doc__ or "", re.M | re.S)
    return _plain(found[1]) if found else ""
