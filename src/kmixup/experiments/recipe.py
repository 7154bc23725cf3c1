"""Recipes: the paper's tables as data. Settings stand beside the published numbers.

A recipe is a TOML file (see docs/experiments.md). Reading one gives cells; a cell and a seed give a trial.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

if sys.version_info >= (3, 11):
    pass
else:
    pass

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
        alpha_rule: How alpha grows with k: see `kmixup.calibrate`.
        max_alpha: Largest alpha_k.
        metric: Cost of the matching.
        pairing: Which k-batches are matched.
        lam_per: One lam per batch, block or sample.
        epochs: Passes over the training data.
        batch_size: Samples per step; an incomplete last batch is left out of the epoch.
        lr: Learning rate of SGD, times ``lr_decay`` at each of ``milestones``, given as shares of the epochs.
        momentum: Of SGD.
        weight_decay: Of SGD.
        channels_last: Whether images lie in memory with their channels last: other rounding, often faster.
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
    momentum: float = Field(default=0.9, ge=0, lt=1)
    weight_decay: float = Field(default=1e-4, ge=0)
    channels_last: bool = False
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

    def _without_effect(self) -> set[str]:
        without: set[str] = set()
        if self.k == 1 and self.method != "nearest-neighbour":
            without |= {"metric", "alpha_rule", "max_alpha"}
        if self.method == "erm":
            without |= {"pairing", "lam_per"}
        return without

    @property
    def cell_id(self) -> str:
        """What all seeds and all reduced protocols of one cell share."""
        return self.model_copy(update={"seed": 0, "epochs": 1, "train_size": None}).id
