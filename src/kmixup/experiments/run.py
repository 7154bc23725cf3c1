"""A run: what a trial gave, as a record. No torch here: who reads runs need not be able to train."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Annotated

from pydantic import AfterValidator, ConfigDict, Field, model_validator

from kmixup.experiments.trial import SCHEMA, Options, Strict, Trial

__all__ = ["UNKNOWN", "Curves", "Environment", "Evaluation", "Match", "Origin", "Run", "Seconds"]

UNKNOWN = "unknown"
"""What a run converted from an older schema says of what that schema did not record."""


def _is_share(value: float) -> float:
    if value < 0 or value > 1:  # nan is what a model has whose outputs are not finite
        raise ValueError(f"a share is between 0 and 1, got {value:g}")
    return value


def _is_size(text: str) -> str:
    try:
        known = float(text) >= 0
    except ValueError:
        known = False
    if not known:
        raise ValueError(f"a size is a number >= 0, got {text!r}")
    return text


_Share = Annotated[float, AfterValidator(_is_share)]
_Size = Annotated[str, AfterValidator(_is_size)]
_FiniteShare = Annotated[float, Field(ge=0, le=1)]
_NotNegative = Annotated[float, Field(ge=0)]


@dataclass(frozen=True)
class Origin:
    """What a run was made from, besides its settings.

    Attributes:
        source: Hash of the data's source, see `kmixup.experiments.datasets.Data`.
        code: Hash of the file of each loader, builder or method of the user's own, by its ``"module:function"``.
        options: All options of the data set, the model and the method, defaults included: should a default change one
            day, an old run is not taken for a new one. Empty if they were not recorded.
    """

    source: str
    code: Mapping[str, str] = field(default_factory=dict)
    options: Mapping[str, Options] = field(default_factory=dict)

    @property
    def tag(self) -> str:
        """Eight hexadecimal digits that tell it from other origins in the name of a file."""
        text = json.dumps([self.source, self.code, self.options], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:8]


class Curves(Strict):
    """Learning curves, an entry an epoch; shares, not percent.

    Attributes:
        train_loss: Mean training loss on the (mixed) batches.
        train_accuracy: lam-weighted training accuracy on the (mixed) batches.
        test_error: Test error.
        validation_error: Error on the validation points; empty without them.
        epochs: The epoch of each entry, from 1; empty if every epoch is there.
    """

    train_loss: list[float]
    train_accuracy: list[float]
    test_error: list[_Share]
    validation_error: list[_Share] = Field(default=[])
    epochs: list[int] = Field(default=[])

    @model_validator(mode="after")
    def _has_an_entry_an_epoch(self) -> Curves:
        count = len(self.test_error)
        lengths = (len(self.train_loss), len(self.train_accuracy), len(self.validation_error) or count)
        if {*lengths, len(self.epochs) or count} != {count}:
            raise ValueError("learning curves must have one length")
        if not count:
            raise ValueError("learning curves must have an entry at least")
        if any(later <= earlier for earlier, later in zip([0, *self.epochs], self.epochs, strict=False)):
            raise ValueError("epochs must rise from 1")
        return self


class Match(Strict):
    """Means over some batches of the trained data, see `kmixup.plan.MixStats`."""

    matched_sq_distance: float
    unmatched_sq_distance: float
    self_share: _Share
    same_class_share: _Share


class Evaluation(Strict):
    """A trained model on labelled points, see `kmixup.experiments.evaluate`.

    Attributes:
        error: Share of wrong predictions.
        nll: Mean negative log-likelihood of the true class, in nats.
        calibration_error: Expected calibration error, a share.
    """

    error: _Share
    nll: float
    calibration_error: _Share


class Seconds(Strict):
    """Time.

    Attributes:
        total: Wall time of the whole trial.
        matching: Wall time of pairing and matching within it.
        cpu: Time of all cores of this process in the whole trial; None if it was not recorded.
    """

    total: _NotNegative
    matching: _NotNegative
    cpu: _NotNegative | None = None


class Environment(Strict):
    """Where a run was made.

    Attributes:
        commit: Of kmixup's sources; empty outside a checkout of kmixup.
        versions: Of Python and of the packages that decide numbers.
        device: Where it trained.
        processor: The model of the CPU or GPU.
        threads: CPU threads of a process.
        processes: How many processes trained together.
        core: What matched: ``"native"``, the compiled core, or ``"reference"``.
    """

    commit: str
    versions: dict[str, str]
    device: str
    processor: str
    threads: int
    processes: int = 1
    core: str = UNKNOWN


class Run(Strict):
    """What a trial gave. Errors are shares, not percent.

    Attributes:
        schema_number: Of the form of this record; ``"schema"`` in its file.
        id: The trial's id.
        trial: The settings, all of them.
        source: What the data come from, see `Origin`.
        code: The user's own code, see `Origin`.
        options: All options, see `Origin`.
        final_error: Test error after the last epoch; None if diverged.
        best_error: Lowest test error of any epoch; chosen on the test data, so optimistic. None if diverged.
        test: The trained model on the test points; None if diverged, or if the run is of an older schema.
        validation: The same on the validation points; None without them.
        attack_error: Test error under FGSM per epsilon (in 1/255).
        noise_error: Test error under Gaussian noise on the inputs, per standard deviation.
        diverged: Whether the loss stopped being finite; training stopped there.
        alpha_k: The alpha that training used.
        xi: Root mean squared perturbation that alpha gives at k = 1, by the definition; the paper's tables print half
            of it. None without mixing.
        xi_k: The same of what was trained: k and alpha_k.
        attainable: Whether alpha_k reaches the xi of k = 1.
        match: What the matching did; None without mixing.
        curves: Learning curves.
        seconds: Time.
        environment: Where the run was made.
        note: What a reader of the numbers must know about the data.
        finished: When, UTC.
    """

    model_config = ConfigDict(validate_by_alias=True, validate_by_name=True, serialize_by_alias=True)

    schema_number: int = Field(default=SCHEMA, ge=SCHEMA, le=SCHEMA, alias="schema")
    id: str
    trial: Trial
    source: str
    code: dict[str, str] = Field(default={})
    options: dict[str, Options] = Field(default={})
    final_error: _FiniteShare | None
    best_error: _FiniteShare | None
    test: Evaluation | None = None
    validation: Evaluation | None = None
    attack_error: dict[_Size, _Share] = Field(default={})
    noise_error: dict[_Size, _Share] = Field(default={})
    diverged: bool = False
    alpha_k: _NotNegative | None = None
    xi: _NotNegative | None = None
    xi_k: _NotNegative | None = None
    attainable: bool = True
    match: Match | None = None
    curves: Curves
    seconds: Seconds
    environment: Environment
    note: str = ""
    finished: str = Field(
        default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"), pattern=r"^\d{4}-\d\d-\d\d"
    )

    @property
    def origin(self) -> Origin:
        """What the run was made from."""
        return Origin(self.source, self.code, self.options)

    def comes_from(self, origin: Origin) -> bool:
        """Whether the run counts as one of these data, this code and these options.

        A run that does not know its data (it was converted from an older schema) counts if the data are the paper's,
        and not if they are the user's own, which may have changed since.
        """
        same_data = self.source == origin.source or (self.source == UNKNOWN and not self.trial.own_data)
        return same_data and self.code == origin.code and (not self.options or self.options == origin.options)

    def thinned(self, points: int) -> Run:
        """The same run with ``points`` entries of each learning curve, rounded to four digits."""
        count = len(self.curves.test_error)
        kept = sorted({round(i * (count - 1) / (points - 1)) for i in range(points)})
        epochs = self.curves.epochs or list(range(1, count + 1))
        curves = {
            name: [float(f"{values[i]:.4g}") for i in kept]
            for name in ("train_loss", "train_accuracy", "test_error", "validation_error")
            if (values := getattr(self.curves, name))
        }
        return self.model_copy(update={"curves": Curves(**curves, epochs=[epochs[i] for i in kept])})
