"""The sections of the benchmarks, and one measurement of one of them."""

from __future__ import annotations

from typing import Any

import torch

from benchmarks import couplings, matching, training

SECTIONS = {
    "shapes": matching.shapes,
    "shapes-without-core": matching.shapes,  # in a process with KMIXUP_CORE=off
    "solver": matching.solver,
    "rectangles": couplings.rectangles,
    "couplings": couplings.couplings,
    "growth": matching.growth,
    "second-threads": matching.second_threads,
    "training": training.epochs,
    "workers": training.workers,
}
FIELDS = ["run", "section", "B", "k", "d", "kind", "quantity", "value", "unit"]


def measure(name: str, run: int, budget: float) -> list[dict[str, Any]]:
    """The rows of a section, printed as they come.

    Args:
        name: One of `SECTIONS`.
        run: Number of this measurement, for the rows.
        budget: Seconds per case, about.
    """
    torch.manual_seed(0)
    rows = []
    for measured in SECTIONS[name](budget):
        rows.append({"run": run, "section": name, **measured})
        print("  ".join(f"{rows[-1].get(field, '')}" for field in FIELDS), flush=True)
    return rows
