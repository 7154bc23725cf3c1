"""python -m benchmarks.page: render docs/speed.md and its plots from results/. No number of the page is typed."""

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
STYLE = {"library": ("C0", "o"), "torchvision": ("C2", "s"), "figure 5": ("C3", "^"), "floor": ("0.4", "")}
# What is asked of a ratio: at least, or at most. By quantity, then by (B, k, d).
TARGETS = {
    "figure 5 / library": {(512, 32, 3072): ">= 25", (512, 64, 3072): ">= 40", (1024, 256, 3072): ">= 40"},
    "library / torchvision": {(64, 16, 2): "<= 2.5", (128, 16, 784): "<= 1.5", (128, 16, 3072): "<= 1.5"},
}
# Seconds per epoch of CIFAR-10 at k = 32: appendix A, "Computational cost".
PAPER_MATRICES, PAPER_SOLVER = "about 8", "0.69"
EVERY_FLOOR = "<= 1.15"


class Value(float):
    """The median over the runs of a benchmark, which knows the runs' extremes."""

    extremes: tuple[float, float]

    def __new__(cls, runs: Sequence[float]) -> Value:
        """Of one value per run."""
        value = super().__new__(cls, median(runs))
        value.extremes = min(runs), max(runs)
        return value


class Row(NamedTuple):
    """One quantity of the results."""

    section: str
    threads: int
    dtype: str
    case: tuple[int, int, int]
    quantity: str
    value: Value


def read(name: str) -> list[Row]:
    """The quantities of one section, in the order they were measured."""
    values: dict[tuple[str, int, str, tuple[int, int, int], str], list[float]] = {}
    with (RESULTS / f"{name}.csv").open(newline="") as file:
        for line in csv.DictReader(file):
            case = (int(line["B"]), int(line["k"]), int(line["d"]))
            key = (line["section"], int(line["threads"]), line["dtype"], case, line["quantity"])
            values.setdefault(key, []).append(float(line["value"]))
    return [Row(*key, value=Value(runs)) for key, runs in values.items()]


def render() -> str:
    """The page's text."""
    return TEMPLATE.format(
        environment=_environment(),
        shapes=_shapes(read("shapes")),
        dtypes=_dtypes(read("dtypes")),
        solvers=_solvers(read("solvers")),
        whole_pass=_whole_pass(read("whole-pass")),
        training=_training(read("training"), read("workers")),
        stacked=_stacked(read("stacked")),
    )


def main() -> None:
    """Write the page and its plots."""
    (DOCS / "speed.md").write_text(render())
    (DOCS / "plots").mkdir(exist_ok=True)
    _plot_growth(read("growth"))
    _plot_memory(read("memory"))


TEMPLATE = """# Speed

What matching costs, measured beside the paper's own loop, beside torchvision's `v2.MixUp` (which matches nothing), and
beside what no implementation can avoid. This page is rendered from `benchmarks/results/` (`python -m benchmarks.page`);
`make bench` measures again.

Every answer is checked before it is timed: matchings against scipy's solver on costs in float64, mixed batches against
their definition. Contenders run in turns, one call each per round; a ratio is the median over the rounds of one call's
time divided by another's. With one thread times are those of the processor's clock, with two those of the clock on the
wall. Where a section was measured several times over, each time in a new process, values are the middle ones, and
figures with a target carry the lowest and the highest.

{environment}

## Per batch

Milliseconds per call, float32. *Figure 5* is the paper's loop up to the network. *By hand* is what a specialist would
write for one fixed shape: one matrix product, one solver call, gather and interpolation into buffers made beforehand,
without random pairing, labels or checks. The *floor* is the sum of one batched matrix product, the solver, and one read
and one write of the batch, each measured alone; the solver on costs that change from call to call, for a processor that
has learned the branches of one matching by heart solves it three times as fast. Targets that were set beforehand stand
in brackets, with whether they were met; where *Figure 5 / by hand* misses one too, not even that code reaches it here.

On one thread with AVX-512 the library multiplies small blocks with numpy's BLAS, which can beat the `torch.bmm` of the
floor.

{shapes}

Other precisions, at B = 512, k = 32, 3 x 32 x 32:

{dtypes}

Milliseconds to draw and match, without the mixing, with the optional lapcpp (`pip install "kmixup[fast]"`) and with
scipy, which solves where lapcpp is missing; one thread:

{solvers}

## Growth

![Milliseconds per batch against k and against B](plots/speed_growth.png)

## Memory

Extra memory at the peak of one call, as the operating system counts it, in units of the batch's own size. The result
itself is one unit. At its peak the library holds a copy of the batch and of one block more, so 1 + k / B, and a few
numbers for each of the B * k costs.

![Peak extra memory against k and against B](plots/speed_memory.png)

## A whole pass

Matching alone, for 50,000 samples of 3072 numbers in batches of 512 at k = 32:

{whole_pass}

## In training

LeNet on real digits of 28 x 28, batches of 128; a step costs what it costs on the whole of MNIST.

{training}

Several trials of one cell trained as one stacked model (`torch.func`), beside the same trials one after another:
forward, backward and optimiser of one step. The engine does not do this. A run is to be a pure function of its trial,
whichever trials run beside it; at the learning rate of Table 1 differences of rounding grow over a run (as many steps
as the trial has, without the decay of the learning rate) until the weights have little in common. At that of Table 5
they grow less; there a quarter of a trial is something else, and larger batches gain less.

{stacked}

## What this does not show

- No GPU was measured. There the matrices of costs are made on the device and copied to the host once per batch.
- One processor, two cores, and other programs ran on them during the measurement: the load average above says how many.
  Ratios of one thread's times on the processor's clock bear that. Two threads wait for each other whenever one of them
  is off its core, and so do a process and its DataLoader worker: those figures are worth little unless the load average
  was near zero. `make bench` measures one and two threads; the table above shows what its results hold.
- Each case compares within one run. Cases may come from different runs, so compare ratios between rows, not times.
- Noise stands in for images in the tables per batch. On real images a few distances per batch nearly cancel and are
  computed again; images that were not normalised cost one more pass over the batch.
"""


def _environment() -> str:
    found = json.loads((RESULTS / "shapes.environment.json").read_text())
    return "\n".join(f"- {key}: {value}" for key, value in found.items())


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _ms(value: float | None) -> str:
    return "" if value is None else f"{1000 * value:.3g}"


def _times(value: Value | None, target: str | None = None) -> str:
    if value is None:
        return ""
    return f"{_spread(value)} ({target.replace('<', '&lt;')}: {_met(value, target)})" if target else _short(value)


def _short(value: float) -> str:
    return f"{value:.3g}" if value < 100 else f"{value:.0f}"


def _spread(value: Value) -> str:
    """The value with the extremes of several runs."""
    low, high = map(_short, value.extremes)
    return _short(value) + (f", {low} to {high}" if low != high else "")


def _met(value: float, target: str) -> str:
    relation, bound = target.split()
    return "met" if (value >= float(bound) if relation == ">=" else value <= float(bound)) else "not met"


def _by_case(rows: list[Row]) -> dict[tuple[int, str, tuple[int, int, int]], dict[str, Value]]:
    cases: dict[tuple[int, str, tuple[int, int, int]], dict[str, Value]] = {}
    for row in rows:
        cases.setdefault((row.threads, row.dtype, row.case), {})[row.quantity] = row.value
    return cases


def _shapes(rows: list[Row]) -> str:
    head = ["B, k, d", "Figure 5", "torchvision", "by hand", "library", "Figure 5 / by hand", "Figure 5 / library"]
    head += ["library / torchvision", "library / by hand", "library / floor"]
    parts = []
    for threads in sorted({row.threads for row in rows}):
        lines = []
        for (_, _, case), got in _by_case([row for row in rows if row.threads == threads]).items():
            ratios = [
                _times(got.get(name), TARGETS.get(name, {}).get(case))
                for name in ("figure 5 / library", "library / torchvision", "library / by hand")
            ]
            times = [_ms(got.get(name)) for name in ("figure 5", "torchvision", "by hand", "library")]
            by_hand = _short(got["figure 5"] / got["by hand"])
            floor = _times(got.get("library / floor"), EVERY_FLOOR)
            lines.append([", ".join(map(str, case)), *times, by_hand, *ratios, floor])
        parts.append(f"{'One thread' if threads == 1 else f'{threads} threads'}:\n\n" + _table(head, lines))
    return "\n\n".join(parts)


def _dtypes(rows: list[Row]) -> str:
    names = ("figure 5 / library", "library / torchvision", "library / floor")
    lines = [
        [dtype, _ms(got["library"]), *(_times(got.get(name)) for name in names)]
        for (_, dtype, _), got in _by_case(rows).items()
    ]
    return _table(["", "library (ms)", *names], lines)


def _solvers(rows: list[Row]) -> str:
    lines = [
        [", ".join(map(str, case)), _ms(got["lapcpp"]), _ms(got["scipy"]), _times(got["scipy / lapcpp"])]
        for (_, _, case), got in _by_case(rows).items()
    ]
    return _table(["B, k, d", "lapcpp", "scipy", "scipy / lapcpp"], lines)


def _whole_pass(rows: list[Row]) -> str:
    counts = sorted({row.threads for row in rows})
    got = {(row.quantity, row.threads): row.value for row in rows}
    names = {"figure 5": "matching, Figure 5's loop", "library": "matching, library", "solver": "solver alone"}
    lines = [[what, *(f"{got[name, count]:.2g}" for count in counts)] for name, what in names.items()]
    ratios = [_times(got["figure 5 / library", count], ">= 30") for count in counts]
    lines += [
        ["Figure 5 / library", *ratios],
        ["the paper (appendix A, CIFAR-10): matrices of distances, on its machine", PAPER_MATRICES, ""],
        ["the paper: solver alone, on its machine", PAPER_SOLVER, ""],
    ]
    head = ["seconds per epoch", *("one thread" if count == 1 else f"{count} threads" for count in counts)]
    return _table(head, [line[: len(head)] for line in lines])


def _training(training: list[Row], workers: list[Row]) -> str:
    got = {row.quantity: row.value for row in training}
    here, there = got["k = 16 / k = 1"], next(row.value for row in workers if row.quantity == "k = 16 / k = 1")
    gain = got["usual loop / engine"]
    lines = [
        _judged("an epoch at k = 16 / at k = 1, in the training process", here, "<= 1.05"),
        _judged("the same, matching in one DataLoader worker", there, "<= 1.02"),
        _judged("torchvision dataset, transforms, DataLoader / engine", gain, ">= 4"),
        ["the same / forward, backward and optimiser alone", f"{got['usual loop / network alone']:.3g}", "", ""],
    ]
    for name, value in got.items():
        if name.startswith("network's share"):
            what = "share of forward, backward and optimiser: " + name.split(": ")[1]
            lines.append(_judged(what, value, ">= 0.7"))
    return _table(["", "measured", "target", ""], lines)


def _judged(what: str, value: Value, target: str) -> list[str]:
    return [what, _spread(value), target, _met(value, target)]


def _stacked(rows: list[Row]) -> str:
    by_name: dict[str, dict[str, Value]] = {}
    for row in rows:
        what, _, name = row.quantity.partition(" of ")
        by_name.setdefault(name, {})[what] = row.value
    gain, *differences = next(iter(by_name.values()))
    lines = [[name, f"{got[gain]:.2f}", *(f"{got[what]:.1g}" for what in differences)] for name, got in by_name.items()]
    heads = [what.replace("difference", "largest relative difference of a weight") for what in differences]
    return _table(["", gain, *heads], lines)


def _plot_growth(rows: list[Row]) -> None:
    figure, axes = plt.subplots(1, 2, figsize=(9, 3.6), layout="constrained", sharey=True)
    for axis, section, position in ((axes[0], "growth with k", 1), (axes[1], "growth with B", 0)):
        cases = _by_case([row for row in rows if row.section == section])
        for name, (colour, marker) in STYLE.items():
            points = []
            for (_, _, case), got in cases.items():
                parts = ("product", "solver", "read and write") if name == "floor" else (name,)
                if all(part in got for part in parts):
                    points.append((case[position], 1000 * sum(got[part] for part in parts)))
            style = "--" if name == "floor" else "-"
            axis.loglog(*zip(*points, strict=True), color=colour, marker=marker, linestyle=style, label=name)
        axis.set_xscale("log", base=2)
        axis.grid(alpha=0.3)
    axes[0].set(xlabel="k (B = 512)", ylabel="ms per batch of 3 x 32 x 32")
    axes[1].set(xlabel="B (k = 32)")
    axes[1].legend(frameon=False)
    figure.savefig(DOCS / "plots" / "speed_growth.png", dpi=150)


def _plot_memory(rows: list[Row]) -> None:
    figure, axes = plt.subplots(1, 2, figsize=(9, 3.2), layout="constrained", sharey=True)
    for axis, fixed, position, label in ((axes[0], 512, 1, "k (B = 512)"), (axes[1], 32, 0, "B (k = 32)")):
        for name in ("library", "torchvision", "figure 5"):
            colour, marker = STYLE[name]
            chosen = sorted(
                (row.case[position], row.value)
                for row in rows
                if row.quantity == name and row.case[1 - position] == fixed
            )
            axis.semilogx(*zip(*chosen, strict=True), base=2, color=colour, marker=marker, label=name)
        axis.set(xlabel=label, ylim=(0, None))
        axis.grid(alpha=0.3)
    axes[0].set_ylabel("extra memory / batch")
    axes[0].legend(frameon=False)
    figure.savefig(DOCS / "plots" / "speed_memory.png", dpi=150)


if __name__ == "__main__":
    main()
