"""Reports as CSV, ready for pandas: a row a cell, a column for every setting in which cells differ, plain numbers."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from typing import Any

from kmixup.experiments.naming import commands, flat_settings, varied_settings
from kmixup.experiments.run import Match
from kmixup.experiments.summary import CellReport, Report

_SETTINGS = ("dataset", "model", "method", "k", "alpha", "metric", "alpha_rule")


def to_csv(reports: Sequence[Report]) -> str:
    """The reports as one CSV, a row a cell; what is missing is empty."""
    settings = [cell.cell.settings for report in reports for cell in report.cells]
    varied = [name for name in varied_settings(settings) if name not in _SETTINGS]
    rows = []
    for report in reports:
        for cell, command in zip(report.cells, commands(report.recipe), strict=True):
            flat = flat_settings(cell.cell.settings)
            who = {"table": report.recipe.name, "group": cell.cell.group, "reading": cell.cell.reading}
            who |= {name: flat.get(name) for name in (*_SETTINGS, *varied)}
            about = {"note": "; ".join(cell.notes), "command": command}
            rows.append(who | _numbers(cell) | _by_size(cell) | about)
    # Attacks differ from table to table: what any cell has is a column; what comes last, comes last.
    names = dict.fromkeys(name for row in rows for name in row if name not in ("note", "command"))
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*names, "note", "command"])
    writer.writerows([_plain(row.get(name)) for name in (*names, "note", "command")] for row in rows)
    return text.getvalue()


def _numbers(cell: CellReport) -> dict[str, float | None]:
    runs, match = cell.runs, cell.match
    return {
        "alpha_k": cell.mean_of(lambda run: run.alpha_k),
        "xi_half": cell.mean_of(lambda run: None if run.xi is None else run.xi / 2),
        "xi_published": cell.cell.published.xi,
        "error": cell.mean,
        "std_error": cell.std_error,
        "n": cell.n,
        "diverged": sum(run.diverged for run in runs),
        "published": cell.cell.published.error,
        "difference": cell.difference,
        "nll": cell.mean_of(lambda run: run.test and run.test.nll),
        "calibration_error": cell.mean_of(lambda run: run.test and 100 * run.test.calibration_error),
        "seconds": cell.mean_of(lambda run: run.seconds.total),
        **{name: getattr(match, name, None) for name in Match.model_fields},
    }


def _by_size(cell: CellReport) -> dict[str, float]:
    """Columns such as ``fgsm_4``, ``fgsm_4_published`` and ``noise_0.1``, in percent."""
    found = {f"fgsm_{size}": estimate.mean for size, estimate in cell.attacked.items()}
    found |= {f"fgsm_{size}_published": error for size, error in cell.cell.published.attack.items()}
    return found | {f"noise_{size}": estimate.mean for size, estimate in cell.noisy.items()}


def _plain(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:.6g}" if isinstance(value, float) else str(value)
