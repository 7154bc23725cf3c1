"""The sections of the benchmarks, and one measurement of one of them."""

from __future__ import annotations

from typing import Any

import torch

from benchmarks import matching, memory, stacked, training

SECTIONS = {
    "shapes": matching.shapes,
    "dtypes": matching.dtypes,
    "solvers": matching.solvers,
    "growth": matching.growth,
    "whole-pass": matching.whole_pass,
    "memory": memory.peaks,
    "training": training.epochs,
    "workers": training.workers,
    "stacked": stacked.stacked,
}
FIELDS = ["run", "section", "threads", "dtype", "B", "k", "d", "quantity", "value", "unit"]


def measure(name: str, run: int, threads: list[int], budget: float) -> list[dict[str, Any]]:
    """The rows of a section, printed as they come.

    Args:
        name: One of `SECTIONS`.
        run: Number of this measurement, for the rows.
        threads: Counts of torch threads to measure with.
        budget: Seconds per case, about.
    """
    torch.manual_seed(0)
    rows = []
    for measured in SECTIONS[name](threads, budget):
        rows.append({"run": run, **measured})
        print("  ".join(f"{rows[-1].get(field, '')}" for field in FIELDS), flush=True)
    return rows
