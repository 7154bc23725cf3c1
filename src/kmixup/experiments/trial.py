"""A trial: every setting that decides a run. No registry and no torch here: names are looked up by what builds them."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

__all__ = ["REDUCIBLE", "SCHEMA", "Options", "Strict", "Trial", "first_mistake", "natural", "unknown"]

Options = dict[str, Any]

SCHEMA = 2
"""Number of the form of trials and runs. It is part of every id: raise it when a setting is added, renamed, or means
something else, and teach `kmixup.experiments.runs.convert` the step. 1 was the form before 0.2."""

REDUCIBLE = ("epochs", "train_size")
"""Settings that make a run cheaper, not different: a run with less of them is a reduced protocol of the same cell."""

# Data sets whose files, or generator, are the same wherever they are: runs that do not say their data can be believed.
_PAPERS = frozenset(
    (
        *("one-ring", "four-bars", "swiss-roll", "iris", "breast-cancer", "abalone", "arrhythmia", "phishing"),
        *("mnist", "mnist-5000", "fashion-mnist", "cifar10", "cifar100", "svhn", "tiny-imagenet", "speech-commands"),
    )
)


def unknown(kind: str, got: str, known: Iterable[str]) -> str:
    """An error message for a name that does not exist: the nearest one that does, and the list.

    Of names that differ in their number alone none is nearer than another: all are named.
    """
    known = sorted(known, key=natural)
    near = get_close_matches(got, known, n=1, cutoff=0.5)
    letters = re.sub(r"\d", "", got)
    if near and letters == re.sub(r"\d", "", near[0]):
        near = [name for name in known if re.sub(r"\d", "", name) == letters]
    *others, last = map(repr, near or [""])
    meant = f" Did you mean {', '.join(others)}{' or ' * bool(others)}{last}?" if near else ""
    return f"unknown {kind} {got!r}.{meant} Known: {', '.join(known)}."


def natural(name: str) -> tuple[str | int, ...]:
    """A key that sorts table2 before table10."""
    return tuple(int(part) if part.isdigit() else part for part in re.split(r"(\d+)", name))


def first_mistake(error: ValueError) -> str:
    """The first of pydantic's complaints, in one line: where, what, and what came; or what another error says."""
    if not isinstance(error, ValidationError):
        return str(error)
    first = error.errors()[0]
    place = ".".join(str(part) for part in first["loc"])
    message = (f"{place}: " if place else "") + first["msg"].removeprefix("Value error, ")
    came = first["type"] not in ("value_error", "missing") and isinstance(first["input"], str | int | float)
    return message + (f", got {first['input']!r}" if came else "")  # our own messages say it themselves


class Strict(BaseModel):
    """A frozen record that refuses keys it does not know, and suggests the right one."""

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="strings")

    @model_validator(mode="before")
    @classmethod
    def _refuse_unknown(cls, values: Any) -> Any:
        if isinstance(values, Mapping):
            known = [field.alias or name for name, field in cls.model_fields.items()]
            for key in values:
                if key not in known:
                    raise ValueError(unknown("setting", str(key), known))
        return values


class Trial(Strict):
    """Everything that decides a run. Same trial, same data, same machine, same numbers.

    ``dataset``, ``model`` and ``method`` are names in the registries, or ``"module:function"``: your own (see
    `kmixup.experiments.named`).

    Attributes:
        dataset: What is learned, with ``dataset_options`` for its loader.
        train_size: Use this many training points only, drawn by the seed; None for all.
        validation: Share of the training points that is held out, drawn by the seed: the run has figures for it beside
            those of the test points.
        model: The network, with ``model_options`` for its builder.
        method: What a step does with a batch, with ``method_options``.
        k: Points per k-batch.
        alpha: The alpha of a table's column, that is of k = 1. Training uses ``alpha_k``, which ``alpha_rule`` derives.
        alpha_rule: How alpha grows with k in k-mixup of inputs: see `kmixup.calibrate`. ``"none"``: alpha itself, as
            other methods and k = 1 always have it. `kmixup.experiments.readings` says which reading of the paper is
            which.
        max_alpha: Largest alpha_k, where alpha follows a rule (``"none"`` among them).
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
        noise_sigmas: Standard deviations of Gaussian noise on the test inputs, in the units of the raw inputs.
        seed: Decides the data or split, the initial weights, the batches, the mixing.
    """

    dataset: str
    dataset_options: Options = Field(default={})
    train_size: int | None = Field(default=None, ge=1)
    validation: float = Field(default=0.0, ge=0, lt=1)
    model: str
    model_options: Options = Field(default={})
    method: str = "k-mixup"
    method_options: Options = Field(default={})
    k: int = Field(default=1, ge=1)
    alpha: float = Field(default=0.0, ge=0)
    alpha_rule: Literal["exact", "sqrt", "none"] = "none"
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
    noise_sigmas: tuple[float, ...] = ()
    seed: int = Field(default=0, ge=0)

    @model_validator(mode="before")
    @classmethod
    def _name_the_method(cls, values: Any) -> Any:
        # One name for one thing: k-mixup with k = 1 is mixup, and shares its runs; so is the release's, whose extra
        # forward pass comes with k > 1.
        named = isinstance(values, Mapping) and values.get("method", "k-mixup") in ("k-mixup", "k-mixup-release")
        return {**values, "method": "mixup"} if named and values.get("k", 1) == 1 else values

    @model_validator(mode="after")
    def _fits_the_method(self) -> Trial:
        if self.method == "mixup" and self.k != 1:
            raise ValueError(f"method 'mixup' has k = 1, got k = {self.k}. Use method 'k-mixup'.")
        if not self.mixes and (self.k != 1 or self.alpha != 0):
            got = f"k = {self.k}, alpha = {self.alpha}"
            raise ValueError(f"method {self.method!r} mixes nothing, got {got}. Leave both out.")
        return self

    @property
    def id(self) -> str:
        """Name of the run: a hash of all settings that matter to it, defaults included, and of the schema number."""
        settings = self.effective()
        return hashlib.sha256(json.dumps({"schema": SCHEMA, **settings}, sort_keys=True).encode()).hexdigest()[:16]

    def effective(self) -> Options:
        """The settings that have an effect on the trial's run, the seed among them, as JSON has them."""
        return self.model_dump(mode="json", exclude=self._without_effect())

    @property
    def cell_id(self) -> str:
        """What all seeds and all reduced protocols of one cell share."""
        return self.model_copy(update={"seed": 0, "epochs": 1, "train_size": None}).id

    @property
    def protocol_id(self) -> str:
        """What all seeds of one cell and one protocol share: the id of the trial of seed 0."""
        return self.model_copy(update={"seed": 0}).id

    @property
    def mixes(self) -> bool:
        """Whether the method mixes at all: others have no k, no alpha and no matching."""
        return self.method not in ("erm", "label-smoothing")

    @property
    def adjusts_alpha(self) -> bool:
        """Whether alpha_k follows ``alpha_rule``: it speaks of matched inputs, so of k-mixup of inputs only."""
        return self.method in ("mixup", "k-mixup", "k-mixup-release")

    @property
    def calibrated(self) -> bool:
        """Whether ``alpha_rule`` and ``max_alpha`` matter: at k = 1 every rule leaves alpha as it is."""
        return self.adjusts_alpha and self.k > 1

    @property
    def own_data(self) -> bool:
        """Whether the data are the user's own, rather than one of the paper's data sets."""
        return self.dataset not in _PAPERS

    def seed_for(self, purpose: str) -> int:
        """A seed of its own for each use of randomness, so that changing one draw leaves the others."""
        return int.from_bytes(hashlib.sha256(f"{self.seed}/{purpose}".encode()).digest()[:7], "big")

    def _without_effect(self) -> set[str]:
        if not self.mixes:
            return {"alpha_rule", "max_alpha", "metric", "pairing", "lam_per"}
        without: set[str] = set()
        if not self.calibrated:
            without |= {"alpha_rule", "max_alpha"}
        if self.method == "mixup":
            without.add("metric")
        if self.method == "nearest-neighbour":
            without.add("pairing")
        return without
