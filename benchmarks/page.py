"""python -m benchmarks.page: render docs/speed.md and its plot from results/. No number of the page is typed."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import NamedTuple

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot as plt

RESULTS = Path(__file__).parent / "results"
DOCS = Path(__file__).parents[1] / "docs"

Case = tuple[int, int, int, str]  # B, k, d, kind


class Value(float):
    """The median over the runs of a benchmark, which knows the runs' extremes."""

    extremes: tuple[float, float]

    def __new__(cls, runs: Sequence[float]) -> Value:
        """Of one value per run."""
        value = super().__new__(cls, median(runs))
        value.extremes = min(runs), max(runs)
        return value

    def __str__(self) -> str:
        low, high = map(_short, self.extremes)
        return _short(self) + (f" ({low} to {high})" if low != high else "")


class Row(NamedTuple):
    """One quantity of the results."""

    case: Case
    quantity: str
    value: Value


def read(name: str) -> list[Row]:
    """The quantities of one section, in the order they were measured."""
    values: dict[tuple[Case, str], list[float]] = {}
    with (RESULTS / f"{name}.csv").open(newline="") as file:
        for line in csv.DictReader(file):
            case = (int(line["B"]), int(line["k"]), int(line["d"]), line["kind"])
            values.setdefault((case, line["quantity"]), []).append(float(line["value"]))
    return [Row(*key, value=Value(runs)) for key, runs in values.items()]


def render() -> str:
    """The page's text."""
    worker = {row.quantity: row.value for row in read("workers")}
    return TEMPLATE.format(
        environment=_environment(),
        shapes=_shapes(read("shapes")),
        reference=_shapes(read("shapes-without-core")),
        solver=_solver(read("solver")),
        rectangles=_rectangles(read("rectangles")),
        couplings=_couplings(read("couplings")),
        rectangles_environment=_beside("rectangles"),
        couplings_environment=_beside("couplings"),
        most_threads=f"{max(row.value for row in read('second-threads')):.2f}",
        training=_training(read("training"), worker["k = 16 / k = 1"]),
    )


def main() -> None:
    """Write the page and its plot."""
    (DOCS / "speed.md").write_text(render())
    (DOCS / "plots").mkdir(exist_ok=True)
    _plot_growth(read("growth"))


TEMPLATE = """# Speed

What matching costs, beside torchvision's `v2.MixUp` (which matches nothing), the paper's own loop (its Figure 5), and
the library before its core was compiled (commit 941bd26). Rendered from `benchmarks/results/`; `make bench` measures
again.

Every answer is checked before it is timed. Contenders run in one process, one call each per round in a random order, on
data and permutations that change from call to call; times are those of the processor's clock on one thread, a ratio is
the median over the rounds. Where a section was measured several times over, in new processes, the lowest and the
highest value stand in brackets.

{environment}

## Per batch

Milliseconds per call of `mixer(x, y)`, inputs and labels mixed, float32.

{shapes}

Without the compiled core (no compiler at hand, or `KMIXUP_CORE=off`), measured in the same way:

{reference}

![Milliseconds per batch against k](plots/speed_growth.png)

The processor time of the process is at most {most_threads} times that of the calling thread: no hidden second thread.

## The solver alone

Microseconds per assignment problem, 32 problems a call, on noise, on squared distances of real digits, and of points in
the plane; in brackets how many times as long as the library the package takes.

{solver}

## Rectangles

Microseconds per problem of `match`, all problems of a batch in one call, and of packages that take one after the other,
cut and masked beforehand; in brackets how many times as long as the library they take. *Sources*: 256 problems, 4 x 4.
*Detections*: 300 queries and up to 20 objects, padded. *Tracks*: 50 tracks, 60 measurements, far pairs forbidden, 50
columns for tracks that find none. *Noise*: 100 x 150.

{rectangles}

{rectangles_environment}

## Couplings

Milliseconds per batch of `Coupling(k=B).sample_plan` and of torchcfm's `OTPlanSampler("exact").sample_plan`, costs of
all pairs included; by how much pairs are shorter than pairs at random (mean length), and the share of the second set's
samples that is in the result.

{couplings}

{couplings_environment}

## In training

LeNet on real digits of 28 x 28, batches of 128, and small networks of Tables 1 and 5.

{training}

## What this does not show

- No GPU was measured. There the matrices of costs are made on the device and copied to the host once per batch.
- One processor, two cores, and other programs may have run on them: the load average above says how many.
- Cases come from different runs: compare ratios between rows, not times.
"""


def _environment() -> str:
    found = json.loads((RESULTS / "shapes.environment.json").read_text())
    return "\n".join(f"- {key}: {value}" for key, value in found.items())


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _short(value: float) -> str:
    return f"{value:.3g}" if value < 100 else f"{value:.0f}"


def _by_case(rows: list[Row]) -> dict[Case, dict[str, Value]]:
    cases: dict[Case, dict[str, Value]] = {}
    for row in rows:
        cases.setdefault(row.case, {})[row.quantity] = row.value
    return cases


def _shapes(rows: list[Row]) -> str:
    times, ratios = ("figure 5", "before", "torchvision", "library"), ("library / torchvision",)
    ratios = (*ratios, "before / library", "figure 5 / library")
    lines = [
        [
            ", ".join(map(str, case[:3])),
            *(_short(1000 * got[name]) if name in got else "" for name in times),
            *(str(got.get(name, "")) for name in ratios),
        ]
        for case, got in _by_case(rows).items()
    ]
    return _table(["B, k, d", *times, *ratios], lines)


def _solver(rows: list[Row]) -> str:
    cases = _by_case(rows)
    packages = [name for name in next(iter(cases.values())) if "/" not in name and name != "library"]
    lines = [
        [
            str(case[1]),
            case[3],
            _short(1e6 * got["library"]),
            *(f"{_short(1e6 * got[name])} ({_short(got[f'{name} / library'])})" for name in packages),
        ]
        for case, got in cases.items()
    ]
    return _table(["k", "costs", "library", *packages], lines)


def _rectangles(rows: list[Row]) -> str:
    cases = _by_case(rows)
    packages = [name for name in next(iter(cases.values())) if "/" not in name and name != "library"]
    lines = [
        [
            f"{kind}, {problems} of {n} x {m}",
            _short(1e6 * got["library"]),
            *(f"{_short(1e6 * got[name])} ({_short(got[f'{name} / library'])})" for name in packages),
        ]
        for (problems, n, m, kind), got in cases.items()
    ]
    return _table(["problems", "library", *packages], lines)


def _couplings(rows: list[Row]) -> str:
    lines = [
        [
            kind,
            f"{batch}, {d}",
            _short(1000 * got["library"]),
            _short(1000 * got["torchcfm"]),
            str(got["torchcfm / library"]),
            f"{got['shorter']:.0%}",
            f"100% / {got['torchcfm keeps']:.0%}",
        ]
        for (batch, _, d, kind), got in _by_case(rows).items()
    ]
    head = ["sets", "B, d", "library", "torchcfm", "torchcfm / library", "shorter by", "kept: library / torchcfm"]
    return _table(head, lines)


def _beside(name: str) -> str:
    """What one section was measured beside, and on how busy a machine."""
    found = json.loads((RESULTS / f"{name}.environment.json").read_text())
    packages = ", ".join(
        f"{package} {found[package]}" for package in ("scipy", "lapx", "POT", "torchcfm") if package in found
    )
    load = next(value for key, value in found.items() if key.startswith("load average"))
    return f"Measured on {found['processor']} with {packages}; core: {found['core']}; load average at the end {load}."


def _training(rows: list[Row], worker: Value) -> str:
    lines = [["the same, matching in one DataLoader worker (clock on the wall)", str(worker)]]
    for row in rows:
        if row.quantity == "k = 16 / k = 1":
            lines.insert(0, ["an epoch at k = 16 / at k = 1, in the training process", str(row.value)])
        if row.quantity == "network's share":
            lines.append([f"share of forward, backward and optimiser: {row.case[3]}", str(row.value)])
    return _table(["", "measured"], lines)


def _plot_growth(rows: list[Row]) -> None:
    figure, axes = plt.subplots(figsize=(6, 3.6), layout="constrained")
    for name, colour, marker in (("library", "#0072B2", "o"), ("torchvision", "#D55E00", "s")):
        points = [(row.case[1], 1000 * row.value) for row in rows if row.quantity == name]
        axes.loglog(*zip(*points, strict=True), color=colour, marker=marker, label=name)
    axes.set_xscale("log", base=2)
    axes.set(xlabel="k (B = 512)", ylabel="ms per batch of 3 x 32 x 32")
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    figure.savefig(DOCS / "plots" / "speed_growth.png", dpi=150)


if __name__ == "__main__":
    main()
