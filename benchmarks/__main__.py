"""python -m benchmarks: measure everything (about ten minutes), or some sections, and write results/speed.csv."""

from __future__ import annotations

import argparse
import csv
import json
from pathlib import Path

import torch

from benchmarks import matching, memory, stacked, training
from benchmarks.timing import environment

SECTIONS = {
    "shapes": matching.shapes,
    "dtypes": matching.dtypes,
    "growth": matching.growth,
    "whole-pass": matching.whole_pass,
    "memory": memory.peaks,
    "training": training.epochs,
    "workers": training.workers,
    "stacked": stacked.stacked,
}
FIELDS = ["section", "threads", "dtype", "B", "k", "d", "quantity", "value", "unit"]
RESULTS = Path(__file__).parent / "results"


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("sections", nargs="*", metavar="section", help=f"any of {', '.join(SECTIONS)}; default all")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2], help="torch threads to measure with")
    parser.add_argument("--budget", type=float, default=8.0, help="seconds per case, about")
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    for name in options.sections:
        if name not in SECTIONS:
            parser.error(f"unknown section {name!r}, known: {', '.join(SECTIONS)}")
    options.out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    for name in options.sections or SECTIONS:
        rows = []
        for row in SECTIONS[name](options.threads, options.budget):
            rows.append(row)
            print("  ".join(f"{row.get(field, '')}" for field in FIELDS), flush=True)
        if not rows:
            continue
        with (options.out / f"{name}.csv").open("w", newline="") as file:
            writer = csv.DictWriter(file, FIELDS, lineterminator="\n")
            writer.writeheader()
            writer.writerows({**row, "value": f"{row['value']:.4g}"} for row in rows)
        (options.out / f"{name}.environment.json").write_text(json.dumps(environment(), indent=2) + "\n")


if __name__ == "__main__":
    main()
