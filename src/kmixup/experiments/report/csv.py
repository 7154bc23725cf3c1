"""Reports as CSV."""

from __future__ import annotations

import csv
import io

import numpy as np

from kmixup.experiments.summary import Report

_CSV_COLUMNS = (
    *("table", "group", "dataset", "model", "method", "k", "alpha", "metric", "alpha_rule"),
    *("alpha_k", "xi_half", "xi_published", "error", "std_error", "n", "diverged", "published", "difference"),
    *("seconds", "note"),
)


def to_csv(report: Report) -> str:
    """The report as CSV, a row a cell."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(_CSV_COLUMNS)
    for cell in report.cells:
        settings, runs = cell.cell.settings, cell.runs
        alpha_k = [run.alpha_k for run in runs if run.alpha_k is not None]
        xi = [run.xi for run in runs if run.xi is not None]
        numbers = [
            np.mean(alpha_k) if alpha_k else None,
            np.mean(xi) / 2 if xi else None,
            cell.cell.published.xi,
            cell.mean,
            cell.std_error,
            cell.n,
            sum(run.diverged for run in runs),
            cell.cell.published.error,
            cell.difference,
            np.mean([run.seconds.total for run in runs]) if runs else None,
        ]
        who = [report.recipe.name, cell.cell.group, settings.dataset, settings.model, settings.method, settings.k]
        how = [f"{settings.alpha:g}", settings.metric, settings.alpha_rule]
        writer.writerow(who + how + ["" if x is None else f"{x:.6g}" for x in numbers] + ["; ".join(cell.notes)])
    return text.getvalue()
