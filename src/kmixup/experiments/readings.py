"""Readings of the paper: what its experiments may have run, each a set of settings.

The text, its algorithm and the released code differ in how alpha follows from k, in the cost, and in what meets what.
A recipe names the reading that its cells follow; ``--reading`` asks for another one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from kmixup.experiments.trial import Trial, first_mistake, unknown

__all__ = ["AS_TRAINED", "READINGS", "Reading", "read", "readings_of"]

AS_TRAINED = "as-trained"


@dataclass(frozen=True)
class Reading:
    """One reading of the paper.

    Attributes:
        title: In words.
        source: Where in the paper or its code.
        settings: What it sets; the rest is the recipe's.
    """

    title: str
    source: str
    settings: Mapping[str, Any]


READINGS: Mapping[str, Reading] = {
    AS_TRAINED: Reading(
        "alpha itself, whatever k",
        "the released code's training loop",
        {"alpha_rule": "none"},
    ),
    "as-printed": Reading(
        "alpha_k by Algorithm 1, so that xi is that of k = 1",
        "Section 5, Algorithm 1",
        {"alpha_rule": "exact"},
    ),
    "as-searched": Reading(
        "alpha_k by the square-root rule",
        "the search in the released code",
        {"alpha_rule": "sqrt"},
    ),
    "as-released": Reading(
        "the released code whole: alpha itself, plain distance, shuffled k-batches, its extra forward pass",
        "the released code",
        {"alpha_rule": "none", "metric": "euclidean", "pairing": "shuffle", "method": "k-mixup-release"},
    ),
}


def read(given: Mapping[str, Any], reading: str) -> Trial:
    """The trial of some settings under a reading. What is given wins: a recipe that fixes a setting keeps it.

    Args:
        given: Settings, as a recipe or a command line has them.
        reading: A name in `READINGS`. Its method takes the place of k-mixup alone.

    Raises:
        ValueError: If there is no such reading, or a setting is unknown or wrong.
    """
    if reading not in READINGS:
        raise ValueError(unknown("reading", reading, READINGS))
    if given.get("method", "k-mixup") == "k-mixup":
        given = {name: value for name, value in given.items() if name != "method"}
    try:
        return Trial.model_validate({**READINGS[reading].settings, **given})
    except ValidationError as error:
        raise ValueError(first_mistake(error)) from None


def readings_of(trial: Trial) -> tuple[str, ...]:
    """Names of the readings under which this trial stays what it is: more than one where they do not differ."""
    read_settings = {name for reading in READINGS.values() for name in reading.settings}
    given = trial.model_dump(exclude=read_settings)
    if not trial.method.startswith("k-mixup"):
        given["method"] = trial.method
    return tuple(name for name in READINGS if read(given, name).id == trial.id)
