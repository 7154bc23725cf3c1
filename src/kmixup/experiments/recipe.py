"""Recipes: the paper's tables as data. Settings stand beside the published numbers.

A recipe is a TOML file (see docs/experiments.md). Reading one gives cells; a cell and a seed give a trial.
"""

from __future__ import annotations

import hashlib
import json
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from importlib import resources
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

Options = dict[str, Any]

# Settings that make a run cheaper, not different: a run with less of them is a reduced protocol of the same cell.
REDUCIBLE = ("epochs", "train_size")


def unknown(kind: str, got: str, known: Iterable[str]) -> str:
    """An error message for a name that does not exist, with the nearest one that does."""
    known = sorted(known)
    near = get_close_matches(got, known, n=1, cutoff=0.5)
    return f"unknown {kind} {got!r}." + (f" Did you mean {near[0]!r}?" if near else f" Known: {', '.join(known)}.")


class Strict(BaseModel):
    """A frozen record that refuses keys it does not know, and suggests the right one."""

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="strings")

    @model_validator(mode="before")
    @classmethod
    def _refuse_unknown(cls, values: Any) -> Any:
        if isinstance(values, Mapping):
            for key in values:
                if key not in cls.model_fields:
                    raise ValueError(unknown("setting", str(key), cls.model_fields))
        return values


class Trial(Strict):
    """Everything that decides a run. Same trial, same machine, same numbers.

    Attributes:
        dataset: A name in `DATASETS`, with ``dataset_options`` for its loader.
        train_size: Use this many training points only, drawn by the seed; None for all.
        model: A name in `MODELS`, with ``model_options`` for its builder.
        method: A name in `METHODS`, with ``method_options``.
        k: Points per k-batch.
        alpha: The alpha of a table's column, that is of k = 1. Training uses ``alpha_k``, which ``alpha_rule`` derives.
        alpha_rule: How alpha grows with k in k-mixup of inputs: see `kmixup.calibrate`. Other methods use alpha.
        max_alpha: Largest alpha_k.
        metric: Cost of the matching.
        pairing: Which k-batches are matched.
        lam_per: One lam per batch, block or sample.
        epochs: Passes over the training data.
        batch_size: Samples per step; an incomplete last batch is left out of the epoch.
        lr: Learning rate of SGD, times ``lr_decay`` at each of ``milestones``, given as shares of the epochs.
        warmup_epochs: Epochs over which the learning rate first rises to ``lr``, linearly, step by step.
        momentum: Of SGD.
        weight_decay: Of SGD.
        channels_last: Whether images lie in memory with their channels last: other rounding, often faster.
        precision: ``"float32"``, or ``"bfloat16"`` for the forward pass (autocast); weights stay float32.
        attack_epsilons: Sizes of the FGSM attacks on the trained model, in 1/255 of the pixel range.
        seed: Decides the data or split, the initial weights, the batches, the mixing.
    """

    dataset: str
    dataset_options: Options = Field(default={})
    train_size: int | None = Field(default=None, ge=1)
    model: str
    model_options: Options = Field(default={})
    method: str = "k-mixup"
    method_options: Options = Field(default={})
    k: int = Field(default=1, ge=1)
    alpha: float = Field(default=0.0, ge=0)
    alpha_rule: Literal["exact", "sqrt", "none"] = "exact"
    max_alpha: float = Field(default=100.0, gt=0)
    metric: Literal["sqeuclidean", "euclidean", "cosine"] = "sqeuclidean"
    pairing: Literal["roll", "shuffle"] = "roll"
    lam_per: Literal["batch", "block", "sample"] = "batch"
    epochs: int = Field(default=200, ge=1)
    batch_size: int = Field(default=128, ge=1)
    lr: float = Field(default=0.1, gt=0)
    milestones: tuple[float, ...] = (0.5, 0.75)
    lr_decay: float = Field(default=0.1, gt=0)
    warmup_epochs: int = Field(default=0, ge=0)
    momentum: float = Field(default=0.9, ge=0, lt=1)
    weight_decay: float = Field(default=1e-4, ge=0)
    channels_last: bool = False
    precision: Literal["float32", "bfloat16"] = "float32"
    attack_epsilons: tuple[float, ...] = ()
    seed: int = Field(default=0, ge=0)

    @model_validator(mode="before")
    @classmethod
    def _name_the_method(cls, values: Any) -> Any:
        # One name for one thing: k-mixup with k = 1 is mixup, and shares its runs.
        if isinstance(values, Mapping) and values.get("method", "k-mixup") == "k-mixup" and values.get("k", 1) == 1:
            return {**values, "method": "mixup"}
        return values

    @field_validator("dataset", "model", "method")
    @classmethod
    def _known(cls, name: str, info: Any) -> str:
        from kmixup.experiments.datasets import DATASETS
        from kmixup.experiments.methods import METHODS
        from kmixup.experiments.models import MODELS

        registry: Mapping[str, object] = {"dataset": DATASETS, "model": MODELS, "method": METHODS}[info.field_name]
        if name not in registry:
            raise ValueError(unknown(info.field_name, name, registry))
        return name

    @model_validator(mode="after")
    def _fits_the_method(self) -> Trial:
        if self.method == "mixup" and self.k != 1:
            raise ValueError(f"method 'mixup' has k = 1, got k = {self.k}. Use method 'k-mixup'.")
        if self.method == "erm" and (self.k != 1 or self.alpha != 0):
            raise ValueError(f"method 'erm' mixes nothing, got k = {self.k}, alpha = {self.alpha}. Leave both out.")
        return self

    @property
    def id(self) -> str:
        """Name of the run: a hash of the settings that matter to it.

        Settings at their default are left out, so that a setting added later does not orphan the runs made before.
        """
        settings = self.model_dump(mode="json", exclude_defaults=True, exclude=self._without_effect())
        return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:16]

    @property
    def adjusts_alpha(self) -> bool:
        """Whether alpha_k follows ``alpha_rule``: it speaks of matched inputs, so of k-mixup of inputs only."""
        return self.method in ("mixup", "k-mixup", "k-mixup-release")

    def _without_effect(self) -> set[str]:
        without: set[str] = set()
        if not self.adjusts_alpha or self.k == 1:
            without |= {"alpha_rule", "max_alpha"}
        if self.method in ("erm", "mixup"):
            without.add("metric")
        if self.method == "erm":
            without |= {"pairing", "lam_per"}
        return without

    @property
    def cell_id(self) -> str:
        """What all seeds and all reduced protocols of one cell share."""
        return self.model_copy(update={"seed": 0, "epochs": 1, "train_size": None}).id


class Published(Strict):
    """The paper's numbers of one cell, in percent. What the paper does not give, or was lost, stays None.

    Attributes:
        error: Test error.
        xi: The xi printed above the column.
        confidence: The half width that the caption gives.
        attack: Error under FGSM, by epsilon in 1/255.
    """

    error: float | None = None
    xi: float | None = None
    confidence: float | None = None
    attack: dict[str, float] = Field(default={})


class Claim(Strict):
    """A sentence of the paper about a table, in a form that runs can decide. See docs/experiments.md for the tests.

    Attributes:
        text: The sentence.
        kind: ``"better"``: each cell of ``cells`` has a lower error than its cell of ``than``; ``"best"``: within each
            set, the cell of ``cells`` has the lowest error; ``"best-of"``: within each set, the best cell of ``cells``
            has a lower error than the best cell of ``than``; ``"below"``: each cell's error is below ``bound`` percent.
        cells: Settings (or ``group``) that pick the cells the sentence is about; a value, or a list of values.
        than: Settings that pick the cells they are compared with.
        same: Settings that compared cells share: what makes a set.
        exceptions: How many sets may fail, for "in all but one instance".
        bound: In percent, for ``"below"``.
        measure: ``"error"``, or ``"attack"`` for the error under each of the attacks.
    """

    text: str
    kind: Literal["better", "best", "best-of", "below"]
    cells: Options
    than: Options = Field(default={})
    same: tuple[str, ...] = ("group", "alpha")
    exceptions: int = Field(default=0, ge=0)
    bound: float | None = None
    measure: Literal["error", "attack"] = "error"

    @model_validator(mode="after")
    def _complete(self) -> Claim:
        needs_than = self.kind in ("better", "best-of")
        if needs_than != bool(self.than) or (self.kind == "below") != (self.bound is not None):
            raise ValueError(
                "a claim 'better' or 'best-of' needs `than`, a claim 'below' needs `bound`, no other kind takes them; "
                f"got kind {self.kind!r}."
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
        settings: The trial of seed 0.
        published: The paper's numbers.
        trials: How many seeds to run.
    """

    group: str
    settings: Trial
    published: Published
    trials: int

    def trial(self, seed: int) -> Trial:
        """The trial of one seed."""
        return Trial.model_validate({**self.settings.model_dump(exclude_unset=True), "seed": seed})

    def value(self, name: str) -> Any:
        """A setting by name, or the group."""
        return self.group if name == "group" else getattr(self.settings, name)

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
    """

    name: str
    title: str
    paper: str
    note: str
    groups: Mapping[str, str]
    cells: tuple[Cell, ...]
    claims: tuple[Claim, ...]

    def where(self, **where: Any) -> Recipe:
        """The same recipe with those cells only whose settings have one of these values.

        Raises:
            ValueError: If a name is not a setting, or no cell is left.
        """
        for name in where:
            if name not in _SELECTABLE:
                raise ValueError(unknown("setting", name, _SELECTABLE))
        cells = tuple(cell for cell in self.cells if cell.matches(where))
        if not cells:
            values = {name: sorted({cell.value(name) for cell in self.cells}, key=str) for name in where}
            raise ValueError(f"no cell of {self.name} has {where}. It has {values}.")
        return replace(self, cells=cells)

    def override(self, trials: int | None = None, **settings: Any) -> Recipe:
        """The same recipe with other settings in every cell, and another number of trials; None leaves them.

        Raises:
            ValueError: If a setting is unknown or does not fit a cell.
        """
        settings = {name: value for name, value in settings.items() if value is not None}
        try:
            cells = [
                replace(
                    cell,
                    trials=trials or cell.trials,
                    settings=Trial.model_validate(_merge([cell.settings.model_dump(exclude_unset=True), settings])),
                )
                for cell in self.cells
            ]
        except ValidationError as error:
            raise ValueError(_first(error)) from None
        return replace(self, cells=tuple(cells))

    def all_trials(self) -> list[Trial]:
        """Every trial once, all cells of one seed before the next seed: a sweep cut short has whole tables."""
        seeds = range(max(cell.trials for cell in self.cells))
        trials = [cell.trial(seed) for seed in seeds for cell in self.cells if seed < cell.trials]
        return list({trial.id: trial for trial in trials}.values())


def recipe_names() -> list[str]:
    """Names of the paper's recipes that come with the package."""
    files = (resources.files("kmixup") / "paper").iterdir()
    return sorted((file.name[:-5] for file in files if file.name.endswith(".toml")), key=_natural)


def read_recipe(name: str) -> Recipe:
    """Read a recipe.

    Args:
        name: ``"table1"``; ``"table1b"`` for one group of it; or the path of a TOML file.

    Raises:
        ValueError: If there is no such recipe, or it has a mistake: which file, which cell, what to write instead.
    """
    path = Path(name)
    if path.suffix == ".toml":
        if not path.is_file():
            raise ValueError(f"no recipe file {path}.")
        return _parse(path.stem, path.read_text(encoding="utf-8"), str(path))
    names = recipe_names()
    whole = next((known for known in names if name != known and name[:-1] == known), None)
    if name not in names and whole:
        return read_recipe(whole).where(group=name[len(whole) :])
    if name not in names:
        raise ValueError(unknown("recipe", name, names) + " A recipe of your own ends in .toml.")
    text = (resources.files("kmixup") / "paper" / f"{name}.toml").read_text(encoding="utf-8")
    return _parse(name, text, f"{name}.toml")


class _File(Strict):
    title: str
    paper: str = ""
    note: str = ""
    trials: int = Field(default=1, ge=1)
    shared: Options = Field(default={})
    group: list[Options] = Field(default=[])
    cell: list[Options] = Field(default=[])
    include: list[str] = Field(default=[])
    claim: list[Claim] = Field(default=[])


_SELECTABLE = ("group", *Trial.model_fields)


def _parse(name: str, text: str, where: str) -> Recipe:
    try:
        file = _File.model_validate(tomllib.loads(text))
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"{where}: not TOML: {error}") from None
    except ValidationError as error:
        raise ValueError(f"{where}: {_first(error)}") from None
    groups = file.group or ([{"name": "", "title": file.title, "cell": file.cell}] if file.cell else [])
    if sum(map(bool, (file.group, file.cell, file.include))) != 1:
        raise ValueError(f"{where}: give cells either in [[cell]], in [[group]] or in include, and at least one.")
    cells: list[Cell] = []
    titles: dict[str, str] = {}
    for other in map(read_recipe, file.include):
        # Groups of different tables may have the same name.
        names = {group: f"{other.name}{group}" for group in {cell.group for cell in other.cells}}
        titles |= {names[group]: title for group, title in other.groups.items() if group in names}
        cells += [replace(cell, group=names[cell.group]) for cell in other.cells]
    for group in groups:
        group_name = str(group.get("name", ""))
        titles[group_name] = str(group.get("title", group_name))
        common = {key: value for key, value in group.items() if key not in ("name", "title", "cell")}
        for number, cell in enumerate(group.get("cell", []), 1):
            place = f"{where}: {f'group {group_name!r}, ' if group_name else ''}cell {number}"
            try:
                cells.append(_cell(group_name, file.trials, [file.shared, common, cell]))
            except ValidationError as error:
                raise ValueError(f"{place}: {_first(error)}") from None
    if not cells:
        raise ValueError(f"{where}: no cells.")
    return Recipe(name, file.title, file.paper, file.note, titles, tuple(cells), tuple(file.claim))


def _cell(group: str, trials: int, layers: list[Options]) -> Cell:
    settings = _merge(layers)
    published = Published.model_validate(settings.pop("published", {}))
    trials = int(settings.pop("trials", trials))
    return Cell(group, Trial.model_validate(settings), published, trials)


def _merge(layers: Sequence[Mapping[str, Any]]) -> Options:
    settings: Options = {}
    for layer in layers:
        for key, value in layer.items():
            # Options of a data set or model add up from layer to layer; everything else replaces.
            settings[key] = {**settings.get(key, {}), **value} if isinstance(value, dict) else value
    return settings


def _first(error: ValidationError) -> str:
    first = error.errors()[0]
    place = ".".join(str(part) for part in first["loc"])
    return (f"{place}: " if place else "") + first["msg"].removeprefix("Value error, ")


def _natural(name: str) -> tuple[int, str]:
    return int("".join(filter(str.isdigit, name)) or 0), name


def parse_settings(texts: Iterable[str]) -> Options:
    """Settings as typed on a command line: ``k=1,16``, ``metric=euclidean``, ``model_options.hidden=[120,84]``.

    Values are read as TOML, or else as words; commas make a list.

    Raises:
        ValueError: If there is no ``=``.
    """
    settings: Options = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise ValueError(f"a setting is name=value, got {text!r}.")
        *outer, last = name.strip().split(".")
        place = settings
        for key in outer:
            place = place.setdefault(key, {})
        place[last] = _parse_value(value.strip())
    return settings


def _parse_value(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return [_parse_value(part) for part in text.split(",")] if "," in text else text


def make_trial(settings: Mapping[str, Any], recipe: str | None = None) -> Trial:
    """A trial from settings alone, or from the cell of a recipe that fits them, changed where they differ.

    Raises:
        ValueError: If a setting is unknown or wrong.
    """
    base: Options = {}
    if recipe is not None:
        cells = read_recipe(recipe).cells
        # The cell that shares most of what was asked for, the first of equals.
        nearest = max(
            cells, key=lambda cell: sum(cell.matches({n: v}) for n, v in settings.items() if n in _SELECTABLE)
        )
        base = nearest.settings.model_dump(exclude_unset=True)
        if "k" in settings or "method" in settings:
            base.pop("method", None)
    try:
        return Trial.model_validate(_merge([base, settings]))
    except ValidationError as error:
        raise ValueError(_first(error)) from None
