"""What the page's script draws and shows of each cell, as data: numbers, curves, attacks, matching, commands."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, get_args

from kmixup.estimate import Estimate
from kmixup.experiments.curves import CurveName, band
from kmixup.experiments.naming import cell_name, commands
from kmixup.experiments.report.scorecard import words
from kmixup.experiments.scorecard import Card
from kmixup.experiments.summary import CellReport
from kmixup.style import DARK, series

# Of all curves together: about two megabytes of the page.
_MOST_NUMBERS = 250_000

_SYMBOLS = {"o": "circle", "s": "square", "^": "triangle-up", "D": "diamond", "v": "triangle-down"}
_DASHES = {"-": "solid", "--": "dash", "-.": "dashdot", ":": "dot"}


class Cells:
    """The cells of all tables, gathered one by one, each once for all readings that differ.

    Args:
        tables: Every table under its readings; the first is the one that stands in front.
    """

    def __init__(self, tables: Sequence[Sequence[Card]]) -> None:
        ran = sum(bool(cell.runs) for cards in tables for card in cards for cell in card.report.cells)
        self._points = max(2, min(200, _MOST_NUMBERS // (6 * max(ran, 1))))
        self._cells: list[dict[str, Any]] = []
        self._texts: dict[str, int] = {}
        self._commands = {
            id(cell): text
            for cards in tables
            for card in cards
            for cell, text in zip(card.report.cells, commands(card.report.recipe), strict=True)
        }

    def add(
        self,
        where: Mapping[str, Any],
        readings: Sequence[tuple[Card, CellReport]],
        varied: Sequence[str],
        protocols: Mapping[str, str],
    ) -> int:
        """A cell; its number.

        Args:
            where: Table, part, row, alpha.
            readings: The cell under each reading that differs.
            varied: Settings in which the cells beside it differ.
            protocols: How it is trained, by reading.
        """
        first = readings[0][1].cell
        self._cells.append(
            {
                **where,
                "name": cell_name(first, varied),
                "published": first.published.error,
                "attack": first.published.attack,
                "readings": [self._reading(cell, protocols[card.reading]) for card, cell in readings],
            }
        )
        return len(self._cells) - 1

    def data(self) -> dict[str, Any]:
        """All of them, as JSON has it, which has no infinite number: that is missing. Curves have four digits."""
        looks = [look for look, _ in zip(series(), range(20), strict=False)]
        return {
            "cells": _finite(self._cells),
            "texts": list(self._texts),
            # What has no colour of its own takes that of the text, which is light on a dark page.
            "looks": [
                {
                    "colour": None if look.colour == DARK else look.colour,
                    "symbol": _SYMBOLS[look.marker],
                    "dash": _DASHES[look.dashes],
                }
                for look in looks
            ],
        }

    def _reading(self, cell: CellReport, protocol: str) -> dict[str, Any]:
        found: dict[str, Any] = {
            "reading": words(cell.cell.reading),
            "text": cell.text(),
            "mean": cell.mean,
            "error": cell.std_error,
            "n": cell.n,
            "trials": cell.cell.trials,
            "difference": cell.difference,
            "notes": cell.notes,
            "command": self._text(self._commands[id(cell)]),
            "protocol": self._text(protocol),
        }
        if not cell.runs:
            return found
        found |= {
            "seeds": [[seed, error] for seed, error in cell.errors.items()],
            "alpha_k": _worded(cell.mean_of(lambda run: run.alpha_k)),
            "xi_k": cell.mean_of(lambda run: run.xi_k),
            "seconds": cell.mean_of(lambda run: run.seconds.total),
            "nll": _worded(cell.mean_of(lambda run: run.test and run.test.nll)),
            "calibration": cell.mean_of(lambda run: run.test and 100 * run.test.calibration_error),
            "match": cell.match.model_dump() if cell.match else None,
            "attacked": {size: _triple(estimate) for size, estimate in cell.attacked.items()},
            "noisy": {size: _triple(estimate) for size, estimate in cell.noisy.items()},
            "curves": self._curves(cell),
            "commits": self._text(_joined(run.environment.commit[:9] or "unknown" for run in cell.runs)),
            "made": self._text(
                "; ".join(
                    (
                        _joined(f"{run.environment.device}, {run.environment.processor}" for run in cell.runs),
                        f"matching core {_joined(run.environment.core for run in cell.runs)}",
                        f"torch {_joined(run.environment.versions.get('torch', 'unknown') for run in cell.runs)}",
                        f"finished {_joined(sorted(run.finished[:10] for run in cell.runs))}",
                    )
                )
            ),
            "data": self._text(_joined(run.note for run in cell.runs if run.note)),
        }
        return {name: value for name, value in found.items() if value not in (None, {}, [])}

    def _curves(self, cell: CellReport) -> dict[str, Any]:
        drawn: dict[str, Any] = {}
        for name in get_args(CurveName):
            try:
                found = band(cell.runs, name)
            except ValueError:  # none that finished, or no epoch in common
                continue
            count = len(found.epochs)
            kept = sorted({round(i * (count - 1) / (self._points - 1)) for i in range(self._points)})
            scale = 1 if name == "train_loss" else 100
            drawn["n"], drawn["epochs"] = found.trials, [int(found.epochs[i]) for i in kept]
            drawn[name] = [[float(f"{scale * of[i]:.4g}") for i in kept] for of in (found.mean, found.spread)]
        return drawn

    def _text(self, text: str) -> int:
        """The number of a text; one that many cells share is written once."""
        return self._texts.setdefault(text, len(self._texts))


def _triple(estimate: Estimate) -> list[float | None]:
    return [estimate.mean, estimate.std_error if estimate.n > 1 else None, estimate.n]


def _joined(texts: Any) -> str:
    return ", ".join(dict.fromkeys(texts))


def _worded(value: float | None) -> float | str | None:
    """A number, or the word for an infinite one, which JSON does not have."""
    return value if value is None or math.isfinite(value) else str(value)


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(each) for each in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value
