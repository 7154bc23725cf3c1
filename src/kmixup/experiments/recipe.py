"""Recipes: the paper's tables as data. Settings stand beside the published numbers.

A recipe is a TOML file (see docs/experiments.md). Reading one gives cells; a cell, a reading of the paper and a seed
give a trial.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from importlib import resources
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError, model_validator

from kmixup.experiments.files import read_whole, type_settings
from kmixup.experiments.readings import AS_TRAINED, READINGS, read
from kmixup.experiments.trial import Options, Strict, Trial, first_mistake, natural, unknown

__all__ = ["Cell", "Claim", "Published", "Recipe", "make_trial", "read_recipe", "recipe_names"]


class Published(Strict):
    """The paper's numbers of one cell, in percent. What the paper does not give, or was lost, stays None.

    Attributes:
        error: Test error.
        xi: The xi printed above the column.
        confidence: The half width that the caption gives.
        trials: How many trials it is the mean of; None if as many as the recipe has.
        attack: Error under FGSM, by epsilon in 1/255.
    """

    error: float | None = None
    xi: float | None = None
    confidence: float | None = None
    trials: int | None = Field(default=None, ge=1)
    attack: dict[str, float] = Field(default={})


class Claim(Strict):
    """A sentence about a table, in a form that runs can decide. See docs/experiments.md for the tests.

    Attributes:
        text: The sentence.
        kind: What it says of the cells in each set: ``"best"``, that the best of ``cells`` errs less than the best of
            ``than``; ``"each"``, that each of ``cells`` errs less than each of ``than``; ``"average"``, the same on
            average over all sets; ``"below"``, that the error of each is typically below ``bound`` percent.
        cells: Settings (or ``group``) that pick the cells the sentence is about; a value, or a list of values.
        than: Settings that pick the cells they are compared with; ``"best"`` compares with all others without it.
        same: Settings that compared cells share: what makes a set.
        exceptions: How many sets may fail, for "in all but one instance".
        margin: By how many points ("by 0.1 %"); negative for "outperforms or matches".
        tie: Printed differences up to this are ties, which the sentence is not about.
        bound: In percent, for ``"below"``.
        measure: ``"error"``, or the error under each of the FGSM attacks or noises: ``"attack"``, ``"noise"``.
        source: The ``"paper"``; ``"weaker"``, less than what the paper says; or ``"ours"``, about our own runs.
    """

    text: str
    kind: Literal["best", "each", "average", "below"]
    cells: Options
    than: Options = Field(default={})
    same: tuple[str, ...] = ("group", "alpha")
    exceptions: int = Field(default=0, ge=0)
    margin: float = 0.0
    tie: float | None = Field(default=None, ge=0)
    bound: float | None = None
    measure: Literal["error", "attack", "noise"] = "error"
    source: Literal["paper", "weaker", "ours"] = "paper"

    @model_validator(mode="after")
    def _complete(self) -> Claim:
        takes_than = {"best": (True, False), "below": (False,)}.get(self.kind, (True,))
        if bool(self.than) not in takes_than or (self.kind == "below") != (self.bound is not None):
            raise ValueError(
                "a claim 'each' or 'average' needs `than`, a claim 'best' may have it, a claim 'below' needs `bound` "
                f"alone; got kind {self.kind!r}."
            )
        for name in (*self.cells, *self.than, *self.same):
            if name not in _SELECTABLE:
                raise ValueError(unknown("setting", name, _SELECTABLE))
        return self


@dataclass(frozen=True)
class Cell:
    """One cell of a table: settings, and the published numbers beside them.

    Attributes:
        group: Name of the part of the table, such as ``"a"``.
        given: Settings as the recipe has them. What it does not give, the reading sets, or is a default.
        published: The paper's numbers.
        trials: How many seeds to run.
        reading: The reading of the paper that the cell follows, a name in `kmixup.experiments.readings.READINGS`.
        full: Settings of the published numbers, where the cell's own are a reduced protocol; else None.

    Raises:
        ValueError: If a setting or the reading is unknown or wrong.
    """

    group: str
    given: Mapping[str, Any]
    published: Published
    trials: int
    reading: str = AS_TRAINED
    full: Trial | None = None

    def __post_init__(self) -> None:
        if "seed" in self.given:
            raise ValueError(
                f"seed is no setting of a cell, whose trials have the seeds 0, 1, 2, ...; got {self.given['seed']}. "
                "Say how many with `trials` (--trials), or run one trial: kmixup train --recipe NAME seed=7."
            )
        _ = self.settings

    @property
    def printed_trials(self) -> int:
        """How many trials the published number is the mean of."""
        return self.published.trials or self.trials

    @cached_property
    def settings(self) -> Trial:
        """The trial of seed 0."""
        return read(self.given, self.reading)

    def trial(self, seed: int, reading: str | None = None) -> Trial:
        """The trial of one seed, under the cell's own reading or another one. Where a reading changes nothing, the
        trials have one id, and so share their run.
        """
        return read({**self.given, "seed": seed}, reading or self.reading)

    def value(self, name: str) -> Any:
        """A setting by name, or the group, or the reading."""
        return getattr(self, name) if name in ("group", "reading") else getattr(self.settings, name)

    def matches(self, where: Mapping[str, Any]) -> bool:
        """Whether each of these settings has this value, or one of these values."""
        return all(
            self.value(name) in (wanted if isinstance(wanted, (list, tuple)) else [wanted])
            for name, wanted in where.items()
        )


@dataclass(frozen=True)
class Recipe:
    """One table of the paper, or one of your own.

    Attributes:
        name: ``"table1"``, or the stem of the file.
        title: What the table shows.
        paper: Where in the paper.
        note: What a reader of the numbers must know.
        groups: Names of the parts of the table, with their titles.
        cells: The cells, in the order of the file.
        claims: The paper's sentences about it.
        asked: How the command line asks for it, in words; without what picks cells.
    """

    name: str
    title: str
    paper: str
    note: str
    groups: Mapping[str, str]
    cells: tuple[Cell, ...]
    claims: tuple[Claim, ...]
    asked: tuple[str, ...] = ()

    def where(self, **where: Any) -> Recipe:
        """The same recipe with those cells only whose settings have one of these values.

        Claims are about the whole table: where a cell is left out, they are too.

        Raises:
            ValueError: If a name is not a setting, or no cell is left.
        """
        for name in where:
            if name not in _SELECTABLE:
                raise ValueError(unknown("setting", name, _SELECTABLE))
        cells = tuple(cell for cell in self.cells if cell.matches(where))
        if not cells:
            values = {name: sorted({str(cell.value(name)) for cell in self.cells}, key=natural) for name in where}
            asked = ", ".join(f"{name}={value}" for name, value in where.items())
            found = "; ".join(f"{name}={','.join(each)}" for name, each in values.items())
            raise ValueError(f"no cell of {self.name} has {asked}. It has {found}.")
        return replace(self, cells=cells, claims=self.claims if len(cells) == len(self.cells) else ())

    def override(self, trials: int | None = None, **settings: Any) -> Recipe:
        """The same recipe with other settings in every cell, and another number of trials; None leaves them.

        Published numbers stay where the settings that matter do; where less epochs or data are asked for, the cell
        knows what they were.

        Raises:
            ValueError: If a setting is unknown or does not fit a cell.
        """
        settings = {name: value for name, value in settings.items() if value is not None}
        cells = [_changed(cell, trials or cell.trials, settings) for cell in self.cells]
        words = [word for text in type_settings(settings) for word in ("--set", text)]
        words += ["--trials", str(trials)] if trials else []
        return replace(self, cells=tuple(cells), asked=(*self.asked, *words))

    def read_as(self, reading: str) -> Recipe:
        """The same table under one reading of the paper in every cell, and under a name that says so.

        Raises:
            ValueError: If there is no such reading.
        """
        cells = tuple(replace(cell, reading=reading) for cell in self.cells)
        if {cell.reading for cell in self.cells} == {reading}:
            return replace(self, cells=cells)
        return replace(self, cells=cells, name=f"{self.name}-{reading}", asked=(*self.asked, "--reading", reading))

    def all_trials(self) -> list[Trial]:
        """Every trial once, all cells of one seed before the next seed: a sweep cut short has whole tables."""
        seeds = range(max(cell.trials for cell in self.cells))
        trials = [cell.trial(seed) for seed in seeds for cell in self.cells if seed < cell.trials]
        return list({trial.id: trial for trial in trials}.values())


def recipe_names() -> list[str]:
    """Names of the paper's recipes that come with the package."""
    files = (resources.files("kmixup") / "paper").iterdir()
    return sorted((file.name[:-5] for file in files if file.name.endswith(".toml")), key=natural)


def read_recipe(name: str) -> Recipe:
    """Read a recipe.

    Args:
        name: ``"table1"``; ``"table1b"`` for one group of it; ``"table1-as-printed"`` under another reading; or the
            path of a TOML file.

    Raises:
        ValueError: If there is no such recipe, or it has a mistake: which file, which cell, what to write instead.
    """
    path = Path(name)
    if path.suffix == ".toml":
        if not path.is_file():
            raise ValueError(f"no recipe file {path}.")
        return replace(_parse(path.stem, read_whole(path), name), asked=(name,))
    names = recipe_names()
    whole = next((known for known in names if name != known and name[:-1] == known), None)
    if name not in names and whole and name[len(whole) :] in read_recipe(whole).groups:
        return read_recipe(whole).where(group=name[len(whole) :])
    for reading in READINGS:
        if name.removesuffix(f"-{reading}") in names and name not in names:
            return read_recipe(name.removesuffix(f"-{reading}")).read_as(reading)
    if name not in names:
        raise ValueError(unknown("recipe", name, names) + " A recipe of your own ends in .toml.")
    text = (resources.files("kmixup") / "paper" / f"{name}.toml").read_text(encoding="utf-8")
    return _parse(name, text, f"{name}.toml")


class _File(Strict):
    title: str
    paper: str = ""
    note: str = ""
    reading: str = AS_TRAINED
    trials: int = Field(default=1, ge=1)
    shared: Options = Field(default={})
    group: list[Options] = Field(default=[])
    cell: list[Options] = Field(default=[])
    include: list[str] = Field(default=[])
    claim: list[Claim] = Field(default=[])


_SELECTABLE = ("group", "reading", *Trial.model_fields)


def _parse(name: str, text: str, where: str) -> Recipe:
    try:
        file = _File.model_validate(tomllib.loads(text))
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"{where}: not TOML: {error}") from None
    except ValidationError as error:
        raise ValueError(f"{where}: {first_mistake(error)}") from None
    groups = file.group or ([{"name": "", "title": file.title}] if file.cell else [])
    if bool(groups) == bool(file.include):
        raise ValueError(f"{where}: give cells either in [[cell]] and [[group]] or in include, and at least one.")
    cells: list[Cell] = []
    titles: dict[str, str] = {}
    for other in map(read_recipe, file.include):
        # Groups of different tables may have the same name.
        names = {group: f"{other.name}{group}" for group in {cell.group for cell in other.cells}}
        titles |= {names[group]: title for group, title in other.groups.items() if group in names}
        other = other.read_as(file.reading) if "reading" in file.model_fields_set else other
        cells += [replace(cell, group=names[cell.group]) for cell in other.cells]
    for group in groups:
        group_name = str(group.get("name", ""))
        titles[group_name] = str(group.get("title", group_name))
        common = {key: value for key, value in group.items() if key not in ("name", "title", "cell")}
        for number, cell in enumerate([*file.cell, *group.get("cell", [])], 1):  # [[cell]] is in every group
            place = f"{where}: {f'group {group_name!r}, ' if group_name else ''}cell {number}"
            try:
                cells.append(_cell(group_name, file, [common, cell]))
            except ValueError as error:
                raise ValueError(f"{place}: {first_mistake(error)}") from None
    if not cells:
        raise ValueError(f"{where}: no cells.")
    return Recipe(name, file.title, file.paper, file.note, titles, tuple(cells), tuple(file.claim), (name,))


def _cell(group: str, file: _File, layers: Sequence[Options]) -> Cell:
    given = _merge([{"reading": file.reading, "trials": file.trials}, file.shared, *layers])
    reading, trials = given.pop("reading"), int(given.pop("trials"))
    published = Published.model_validate(given.pop("published", {}))
    return Cell(group, given, published, trials, reading)


def _changed(cell: Cell, trials: int, settings: Options) -> Cell:
    changed = replace(cell, trials=trials, given=_merge([cell.given, settings]))
    full = cell.full or cell.settings
    if changed.settings.cell_id != full.cell_id:
        return replace(changed, published=Published(), full=None)
    return changed if changed.settings.id == full.id else replace(changed, full=full)


def _merge(layers: Sequence[Mapping[str, Any]]) -> Options:
    settings: Options = {}
    for layer in layers:
        for key, value in layer.items():
            # Options of a data set or model add up from layer to layer; everything else replaces.
            settings[key] = {**settings.get(key, {}), **value} if isinstance(value, dict) else value
    return settings


def make_trial(settings: Mapping[str, Any], recipe: str | None = None) -> Trial:
    """A trial from settings alone, or from the cell of a recipe that fits them, changed where they differ.

    Raises:
        ValueError: If a setting is unknown or wrong.
    """
    base: Mapping[str, Any] = {}
    reading = AS_TRAINED
    if recipe is not None:
        cells = read_recipe(recipe).cells
        # The cell that shares most of what was asked for, the first of equals.
        nearest = max(
            cells, key=lambda cell: sum(cell.matches({n: v}) for n, v in settings.items() if n in _SELECTABLE)
        )
        base, reading = nearest.given, nearest.reading
        if "k" in settings or "method" in settings:
            base = {name: value for name, value in base.items() if name != "method"}
    return read(_merge([base, settings]), reading)
