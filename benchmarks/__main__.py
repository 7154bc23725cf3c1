"""python -m benchmarks: measure everything (about ten minutes), or some sections, and write results/."""

from __future__ import annotations

import argparse
import csv
import json
import os
from concurrent.futures import ProcessPoolExecutor
from itertools import product
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from benchmarks.sections import FIELDS, SECTIONS, measure
from benchmarks.timing import environment

RESULTS = Path(__file__).parent / "results"


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("sections", nargs="*", metavar="section", help=f"any of {', '.join(SECTIONS)}; default all")
    parser.add_argument("--budget", type=float, default=8.0, help="seconds per case, about")
    parser.add_argument("--runs", type=int, default=1, help="times to measure, in new processes")
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    for name in options.sections:
        if name not in SECTIONS:
            parser.error(f"unknown section {name!r}, known: {', '.join(SECTIONS)}")
    options.out.mkdir(parents=True, exist_ok=True)
    sections = options.sections or list(SECTIONS)
    rows: dict[str, list[dict[str, Any]]] = {name: [] for name in sections}
    # All sections once, then all again: what disturbs a machine for a minute must not meet every run of a section.
    for run, name in product(range(1, options.runs + 1), sections):
        # A new process: how memory was used before changes what allocation costs.
        os.environ["KMIXUP_CORE"] = "off" if name.endswith("without-core") else ""
        with ProcessPoolExecutor(1, get_context("spawn")) as process:
            rows[name] += process.submit(measure, name, run, options.budget).result()
        if rows[name]:
            write(options.out / f"{name}.csv", rows[name])


def write(file: Path, rows: list[dict[str, Any]]) -> None:
    """Write a section's rows so far, and beside them what their numbers depend on."""
    with file.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, FIELDS, lineterminator="\n")
        writer.writeheader()
        writer.writerows({**row, "value": f"{row['value']:.4g}"} for row in rows)
    file.with_suffix(".environment.json").write_text(json.dumps(environment(), indent=2) + "\n")


if __name__ == "__main__":
    main()
