"""Reports as CSV: a row a cell, a column for every setting in which cells differ."""

from __future__ import annotations

import csv
import io
from typing import Any

import numpy as np

from kmixup.experiments.naming import flat_settings, varied_settings
from kmixup.experiments.summary import CellReport, Report

_SETTINGS = ("dataset", "model", "method", "k", "alpha", "metric", "alpha_rule")
_NUMBERS = (
    *("alpha_k", "xi_half", "xi_published", "error", "std_error", "n", "diverged", "published", "difference"),
    *("nll", "calibration_error", "seconds"),
)


def to_csv(report: Report) -> str:
    """The report as CSV, a row a cell."""
    varied = [name for name in varied_settings([cell.cell.settings for cell in report.cells]) if name not in _SETTINGS]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("table", "group", *_SETTINGS, *varied, *_NUMBERS, "note"))
    for cell in report.cells:
        settings = flat_settings(cell.cell.settings)
        who = [report.recipe.name, cell.cell.group, *(_plain(settings.get(name)) for name in (*_SETTINGS, *varied))]
        writer.writerow([*who, *map(_plain, _numbers(cell)), "; ".join(cell.notes)])
    return text.getvalue()


def _numbers(cell: CellReport) -> list[float | None]:
    runs = cell.runs
    alpha_k = [run.alpha_k for run in runs if run.alpha_k is not None]
    xi = [run.xi for run in runs if run.xi is not None]
    tests = [run.test for run in runs if run.test is not None]
    return [
        float(np.mean(alpha_k)) if alpha_k else None,
        float(np.mean(xi)) / 2 if xi else None,
        cell.cell.published.xi,
        cell.mean,
        cell.std_error,
        cell.n,
        sum(run.diverged for run in runs),
        cell.cell.published.error,
        cell.difference,
        float(np.mean([test.nll for test in tests])) if tests else None,
        float(np.mean([100 * test.calibration_error for test in tests])) if tests else None,
        float(np.mean([run.seconds.total for run in runs])) if runs else None,
    ]


def _plain(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:.6g}" if isinstance(value, float) else str(value)
