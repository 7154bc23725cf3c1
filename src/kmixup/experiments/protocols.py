"""Protocols: which runs of a cell count, where some were trained for other epochs or on other numbers of points. Pure.

The one rule of cells and claims: what the cell asks for comes first, then more training points, then more epochs.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from kmixup.experiments.recipe import Cell
from kmixup.experiments.run import Run
from kmixup.experiments.trial import REDUCIBLE

__all__ = ["Protocol", "protocols"]


@dataclass(frozen=True)
class Protocol:
    """How long, and on how many points, some runs of a cell were trained.

    Attributes:
        own: Whether the cell asks for this.
        length: Training points, epochs; all points are infinitely many.
        differences: Where the published numbers have another: the setting, ours, theirs.
        reduced: Whether any of ours is less.
    """

    own: bool
    length: tuple[float, ...]
    differences: tuple[tuple[str, str, str], ...]
    reduced: bool

    @property
    def marks(self) -> dict[str, str]:
        """The differences as they stand beside a number, such as ``"epochs 50 of 200"``, each with what it means."""
        return {f"{name} {ours} of {full}": f"{name} {ours} instead of {full}" for name, ours, full in self.differences}


def protocols(cell: Cell, runs: Iterable[Run]) -> dict[Protocol, tuple[Run, ...]]:
    """The runs of a cell by protocol, what counts first, and by seed."""
    found: dict[Protocol, list[Run]] = {}
    for run in runs:
        found.setdefault(_protocol(cell, run), []).append(run)
    order = sorted(found, key=lambda protocol: (protocol.own, protocol.length), reverse=True)
    return {protocol: tuple(sorted(found[protocol], key=lambda run: run.trial.seed)) for protocol in order}


def _protocol(cell: Cell, run: Run) -> Protocol:
    ours, own, full = (
        {name: getattr(trial, name) for name in reversed(REDUCIBLE)}
        for trial in (run.trial, cell.settings, cell.full or cell.settings)
    )
    return Protocol(
        ours == own,
        tuple(map(_size, ours.values())),
        tuple((name, _word(ours[name]), _word(full[name])) for name in REDUCIBLE if ours[name] != full[name]),
        any(_size(ours[name]) < _size(full[name]) for name in REDUCIBLE),
    )


def _size(value: int | None) -> float:
    return math.inf if value is None else value


def _word(value: int | None) -> str:
    return "all" if value is None else str(value)
